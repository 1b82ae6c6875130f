"""`checksums`: known values, and agreement with a bit-by-bit computation written from the definitions."""

import array
import base64
import hashlib
import mmap
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3dlio._s3.checksums import ALGORITHMS, LADDER
from s3dlio.config import CHECKSUM_ALGORITHMS

patient = settings(deadline=None)
every = pytest.mark.parametrize("name", sorted(ALGORITHMS))
names = st.sampled_from(sorted(LADDER))  # what can be continued and combined
# Reflected polynomials: IEEE 802.3, RFC 3720 appendix B.4, NVM Express NVM command set (64b CRC).
POLYNOMIALS = {"crc32": 0xEDB88320, "crc32c": 0x82F63B78, "crc64nvme": 0x9A6C9329AC4BC9B5}


def bit_by_bit(name: str, data: bytes) -> int:
    ones = (1 << ALGORITHMS[name].bits) - 1
    crc = ones
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIALS[name] if crc & 1 else 0)
    return crc ^ ones


@pytest.mark.parametrize(
    ("name", "data", "value"),
    [
        ("crc32", b"123456789", 0xCBF43926),
        ("crc32c", b"123456789", 0xE3069283),
        ("crc32c", bytes(32), 0x8A9136AA),
        ("crc32c", b"\xff" * 32, 0x62A8AB43),
        ("crc32c", bytes(range(32)), 0x46DD794E),
        ("crc32c", bytes(range(31, -1, -1)), 0x113FDB5C),
        ("crc64nvme", b"123456789", 0xAE8B14860A799888),
        ("crc64nvme", bytes(4096), 0x6482D367EB22B64E),
        ("crc64nvme", b"\xff" * 4096, 0xC0DDBA7302ECA3AC),
        ("crc32", b"", 0),
        ("crc32c", b"", 0),
        ("crc64nvme", b"", 0),
    ],
)
def test_published_values(name: str, data: bytes, value: int) -> None:
    assert ALGORITHMS[name].update(data) == value


@patient
@given(names, st.binary(max_size=200))
def test_values_agree_with_the_definition(name: str, data: bytes) -> None:
    assert ALGORITHMS[name].update(data) == bit_by_bit(name, data)


@patient
@given(st.binary(max_size=20_000))
def test_crc32_agrees_with_zlib(data: bytes) -> None:
    assert ALGORITHMS["crc32"].update(data) == zlib.crc32(data)


@patient
@given(names, st.binary(max_size=9_000), st.binary(max_size=9_000))
def test_combining_equals_the_crc_of_the_concatenation(name: str, first: bytes, second: bytes) -> None:
    algorithm = ALGORITHMS[name]
    combined = algorithm.combine(algorithm.update(first), algorithm.update(second), len(second))
    assert combined == algorithm.update(first + second)


@pytest.mark.parametrize("name", sorted(LADDER))
def test_combining_holds_over_terabytes(name: str) -> None:
    # Appending 2^41 zeros at once equals appending 2^40 twice.
    algorithm = ALGORITHMS[name]
    zeros = algorithm.update(bytes(1 << 20))
    for power in range(20, 40):
        zeros = algorithm.combine(zeros, zeros, 1 << power)
    start, length = algorithm.update(b"start"), 1 << 40
    twice = algorithm.combine(algorithm.combine(start, zeros, length), zeros, length)
    assert twice == algorithm.combine(start, algorithm.combine(zeros, zeros, length), 2 * length)


@patient
@given(names, st.binary(max_size=9_000), st.data())
def test_continuing_equals_one_pass(name: str, data: bytes, draw: st.DataObject) -> None:
    algorithm, cut = ALGORITHMS[name], draw.draw(st.integers(0, len(data)))
    assert algorithm.update(data[cut:], algorithm.update(data[:cut])) == algorithm.update(data)


@patient
@given(st.sampled_from(sorted(ALGORITHMS)), st.lists(st.binary(max_size=100), max_size=8))
def test_segments_count_as_their_concatenation(name: str, segments: list[bytes]) -> None:
    algorithm = ALGORITHMS[name]
    assert algorithm.of(map(memoryview, segments)) == algorithm.of([b"".join(segments)])


@patient
@given(names, st.lists(st.binary(max_size=100), min_size=1, max_size=8))
def test_the_value_of_all_parts_is_that_of_the_object(name: str, parts: list[bytes]) -> None:
    algorithm = ALGORITHMS[name]
    known = [(algorithm.of([part]), len(part)) for part in parts]
    assert algorithm.of_parts(known) == algorithm.encode(algorithm.of([b"".join(parts)]))


@patient
@given(st.lists(st.binary(max_size=100), min_size=1, max_size=8))
def test_a_composite_value_is_of_the_parts_digests_and_counts_them(parts: list[bytes]) -> None:
    algorithm = ALGORITHMS["sha256"]
    digests = b"".join(hashlib.sha256(part).digest() for part in parts)
    expected = base64.b64encode(hashlib.sha256(digests).digest()).decode()
    assert algorithm.of_parts([(algorithm.of([part]), len(part)) for part in parts]) == f"{expected}-{len(parts)}"


@every
@pytest.mark.parametrize(
    "make",
    [
        bytes,
        bytearray,
        memoryview,
        lambda data: memoryview(data).cast("d"),
        lambda data: array.array("i", data),
        lambda data: np.frombuffer(data, "<f4").reshape(4, -1),
        lambda data: memoryview(bytearray(data)).toreadonly()[0:],
    ],
)
def test_any_contiguous_buffer_counts_as_its_bytes(name: str, make: object) -> None:
    data = bytes(range(256)) * 64
    assert ALGORITHMS[name].of([make(data)]) == ALGORITHMS[name].of([data])  # type: ignore[operator]


def test_mapped_memory_counts_as_its_bytes() -> None:
    with mmap.mmap(-1, 8192) as mapped:
        mapped[:5] = b"hello"
        assert ALGORITHMS["crc32"].update(mapped) == zlib.crc32(b"hello" + bytes(8187))


@every
def test_a_buffer_with_gaps_is_refused(name: str) -> None:
    with pytest.raises(BufferError):
        ALGORITHMS[name].of([memoryview(bytes(20))[::2]])


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("crc32", 0xCBF43926, "y/Q5Jg=="),
        ("crc32c", 0xE3069283, "4waSgw=="),
        ("crc64nvme", 0xAE8B14860A799888, "rosUhgp5mIg="),
        ("crc32", 0, "AAAAAA=="),
        ("crc64nvme", 1, "AAAAAAAAAAE="),
        # FIPS 180-2, appendix B.1: the digest of "abc"
        (
            "sha256",
            0xBA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD,
            "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
        ),
    ],
)
def test_values_are_written_as_s3_writes_them(name: str, value: int, text: str) -> None:
    assert ALGORITHMS[name].encode(value) == text


@patient
@given(st.sampled_from(sorted(ALGORITHMS)), st.data())
def test_an_encoded_value_decodes_to_itself(name: str, draw: st.DataObject) -> None:
    algorithm = ALGORITHMS[name]
    value = draw.draw(st.integers(0, (1 << algorithm.bits) - 1))
    assert algorithm.decode(algorithm.encode(value)) == value


@pytest.mark.parametrize("text", ["", "y/Q5Jg", "y/Q5Jg==-3", "rosUhgp5mIg=", "y/Q5 Jg==", "????", "ü"])
def test_what_is_no_value_of_the_width_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a CRC32 value"):
        ALGORITHMS["crc32"].decode(text)


@pytest.mark.parametrize(
    ("name", "s3_name", "header", "xml", "bits"),
    [
        ("crc64nvme", "CRC64NVME", "x-amz-checksum-crc64nvme", "ChecksumCRC64NVME", 64),
        ("crc32c", "CRC32C", "x-amz-checksum-crc32c", "ChecksumCRC32C", 32),
        ("crc32", "CRC32", "x-amz-checksum-crc32", "ChecksumCRC32", 32),
        ("sha256", "SHA256", "x-amz-checksum-sha256", "ChecksumSHA256", 256),
    ],
)
def test_the_names_s3_has_for_an_algorithm(name: str, s3_name: str, header: str, xml: str, bits: int) -> None:
    algorithm = ALGORITHMS[name]
    assert (algorithm.name, algorithm.s3_name, algorithm.header) == (name, s3_name, header)
    assert (algorithm.xml, algorithm.bits) == (xml, bits)


def test_an_algorithm_whose_values_cannot_be_combined_is_never_chosen_unasked() -> None:
    assert LADDER == ("crc64nvme", "crc32c", "crc32")


def test_the_digest_of_abc_is_the_published_one() -> None:
    digest = ALGORITHMS["sha256"].of([b"a", b"", b"bc"])
    assert f"{digest:x}" == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_settings_offer_exactly_the_algorithms_there_are() -> None:
    assert tuple(ALGORITHMS) == CHECKSUM_ALGORITHMS


def test_awscrt_is_imported_by_the_first_checksum_and_not_before() -> None:
    script = (
        "import sys\n"
        "from s3dlio._s3.checksums import ALGORITHMS\n"
        "assert 'awscrt' not in sys.modules\n"
        "assert ALGORITHMS['crc32'].update(b'123456789') == 0xCBF43926\n"
        "assert 'awscrt' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
