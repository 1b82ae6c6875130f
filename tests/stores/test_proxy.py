"""A real store behind an intermediary that frames answers otherwise, and drops, weakens or garbles their headers.

What it does to every answer of a test has a name (`oddities`). boto3, which talks to the store itself, is the witness.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from authority import Authority
from oddities import ETAGS, FRAMINGS, GATEWAY, REPLACED, SINGLE_DATES, SURVIVABLE, UNUSABLE
from proxy import Asked, Proxy
from servers import KEYS, REGION

import s3dlio
from s3dlio import RetryPolicy

KIB, MIB = 1 << 10, 1 << 20
PART = 5 * MIB
RANGED = {"range_optimization": True, "range_threshold": 0, "chunk_size": 300 * KIB, "range_concurrency": 3}

always = pytest.mark.parametrize("oddity", SURVIVABLE)
both_ways = pytest.mark.parametrize("options", [{}, RANGED], ids=["single", "ranged"])


class Witness:
    """The store itself as boto3 sees it: one bucket, which keeps versions."""

    def __init__(self, endpoint_url: str) -> None:
        import boto3
        from botocore.config import Config

        self.endpoint_url = endpoint_url
        self.bucket = f"test-{uuid.uuid4().hex[:20]}"
        self.boto3 = boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            region_name=REGION,
            aws_access_key_id=KEYS[0],
            aws_secret_access_key=KEYS[1],
            config=Config(s3={"addressing_style": "path"}),
        )
        self.boto3.create_bucket(Bucket=self.bucket)
        self.boto3.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})
        self.names = (f"{number}-k" for number in itertools.count())

    def put(self, key: str, data: bytes) -> None:
        self.boto3.put_object(Bucket=self.bucket, Key=key, Body=data)

    def read(self, key: str) -> bytes:
        body: bytes = self.boto3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def head(self, key: str) -> dict[str, Any]:
        head: dict[str, Any] = self.boto3.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
        return head

    def versions(self, key: str) -> int:
        return len(self.boto3.list_object_versions(Bucket=self.bucket, Prefix=key).get("Versions", []))

    def uploads(self, key: str) -> list[str]:
        listed = self.boto3.list_multipart_uploads(Bucket=self.bucket, Prefix=key).get("Uploads", [])
        return [one["UploadId"] for one in listed]


class Passage:
    """A client of the store behind a proxy, with a key of its own; `meets` says what happens to all answers."""

    def __init__(self, store: Witness, tls: Authority | None) -> None:
        self.store = store
        self.key = next(store.names)
        self.uri = f"s3://{store.bucket}/{self.key}"
        self.proxy = Proxy(int(store.endpoint_url.rpartition(":")[2]), tls=None if tls is None else tls.context)
        self.client = s3dlio.Client(
            endpoint_url=self.proxy.endpoint_url,
            region=REGION,
            credentials=KEYS,
            addressing_style="path",
            ca_bundle=None if tls is None else str(tls.bundle),
            timeouts=s3dlio.Timeouts(connect=10, send=10, first_byte=10, idle=10),
            retries=RetryPolicy(max_attempts=4, base_delay=0.001),
        )

    def meets(self, *names: str, attempts: int | None = None, operation: str | None = None) -> Passage:
        """`attempts`: only the first ones of each request; `operation`: only those; None for all."""

        def choose(asked: Asked) -> Sequence[str]:
            few = attempts is None or asked.attempt <= attempts
            return names if few and operation in (None, asked.operation) else ()

        self.proxy.choose = choose
        return self

    def put(self, size: int, seed: int = 0) -> bytes:
        """The object, as boto3 puts it there."""
        data = content(size, seed)
        self.store.put(self.key, data)
        return data

    def stored(self) -> bytes:
        return self.store.read(self.key)

    def close(self) -> None:
        self.client.close()
        self.proxy.close()


def content(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng([size, seed]).bytes(size)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def witness(minio_server: str) -> Iterator[Witness]:
    opened = Witness(minio_server)
    yield opened
    opened.boto3.close()


Open = Callable[..., Passage]


@pytest.fixture
def open_passage(witness: Witness, authority: Authority) -> Iterator[Open]:
    with contextlib.ExitStack() as stack:

        def make(*, tls: bool = False) -> Passage:
            return stack.enter_context(contextlib.closing(Passage(witness, authority if tls else None)))

        yield make


@pytest.fixture
def passage(open_passage: Open) -> Passage:
    return open_passage()


# ------------------------------------------------------------------------------------------------------- writing


@always
@pytest.mark.parametrize("size", [0, 100 * KIB])
def test_a_small_object_is_stored_exactly(passage: Passage, oddity: str, size: int) -> None:
    info = passage.meets(oddity).client.put_bytes(passage.uri, content(size))
    assert passage.stored() == content(size)
    check_info(passage.store.head(passage.key), info)


@always
@pytest.mark.parametrize("checksum", ["crc64nvme", None])
def test_an_object_in_parts_is_stored_exactly(passage: Passage, oddity: str, checksum: Any) -> None:
    data = content(2 * PART + 17)
    info = passage.meets(oddity).client.put_bytes(passage.uri, data, part_size=PART, checksum=checksum)
    assert (info.parts, info.total_bytes) == (3, len(data))
    assert passage.stored() == data
    check_info(passage.store.head(passage.key), info)
    assert passage.store.uploads(passage.key) == []
    assert passage.store.versions(passage.key) == 1


def check_info(head: dict[str, Any], info: s3dlio.UploadInfo) -> None:
    """What is reported is the store's own fact, or None where the proxy has taken it out."""
    assert info.version_id in (None, head["VersionId"])
    assert (info.etag or "").removeprefix("W/").strip('"') in ("", head["ETag"].strip('"'))
    assert info.checksum in (None, head.get("ChecksumCRC64NVME"))


@always
def test_many_small_objects_are_stored_exactly(passage: Passage, oddity: str) -> None:
    data = {f"{passage.key}/{number}": content(number * 500, number) for number in range(20)}
    items = [(f"s3://{passage.store.bucket}/{name}", one) for name, one in data.items()]
    infos = passage.meets(oddity).client.put_many(items, max_in_flight=3)
    for info, (name, one) in zip(infos, data.items(), strict=True):
        assert passage.store.read(name) == one
        check_info(passage.store.head(name), info)


@always
def test_an_upload_is_listed_resumed_and_ended(passage: Passage, oddity: str) -> None:
    data = content(2 * PART + 17)
    named = {"Bucket": passage.store.bucket, "Key": passage.key, "ChecksumAlgorithm": "CRC64NVME"}
    begun = passage.store.boto3.create_multipart_upload(**named, ChecksumType="FULL_OBJECT")["UploadId"]
    passage.store.boto3.upload_part(**named, UploadId=begun, PartNumber=1, Body=data[:PART])
    client = passage.meets(oddity).client
    assert [one.upload_id for one in client.list_uploads(passage.uri)] == [begun]
    writer = client.resume(passage.uri, begun, part_size=PART)
    assert writer.resume_offset == PART
    writer.write(data[PART:])
    writer.close()
    assert passage.stored() == data
    assert client.list_uploads(passage.uri) == []


@always
def test_an_aborted_upload_leaves_nothing(passage: Passage, oddity: str) -> None:
    writer = passage.meets(oddity).client.writer(passage.uri, part_size=PART)
    writer.write(content(2 * PART))
    writer.abort()
    assert passage.store.uploads(passage.key) == []
    assert passage.store.versions(passage.key) == 0


@always
def test_a_condition_that_is_not_met_is_told(passage: Passage, oddity: str) -> None:
    passage.put(10)
    passage.meets(oddity)
    with pytest.raises(s3dlio.PreconditionFailedError):
        passage.client.put_bytes(passage.uri, b"mine", if_none_match="*")
    assert passage.stored() == content(10)


# ------------------------------------------------------------------------- answers that a page stands in place of


@pytest.mark.parametrize("oddity", REPLACED)
@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_an_upload_whose_answers_are_replaced_once_is_exact(passage: Passage, operation: str, oddity: str) -> None:
    """Whether the request was done, the store is asked. Of a Create nobody can know the upload, which stays."""
    data = content(2 * PART + 17)
    passage.meets(oddity, attempts=1, operation=operation)
    info = passage.client.put_bytes(passage.uri, data, part_size=PART)
    assert info.total_bytes == len(data)
    assert passage.stored() == data
    assert passage.store.versions(passage.key) == 1
    assert len(passage.store.uploads(passage.key)) == (operation == "CreateMultipartUpload")


@pytest.mark.parametrize("oddity", REPLACED)
def test_small_objects_whose_answers_are_replaced_once_are_exact(passage: Passage, oddity: str) -> None:
    passage.meets(oddity, attempts=1, operation="PutObject")
    items = [(f"{passage.uri}/{number}", content(number * 500, number)) for number in range(10)]
    assert passage.client.put_bytes(passage.uri, b"one").total_bytes == 3
    assert passage.stored() == b"one"
    passage.client.put_many(items, max_in_flight=2)
    for number in range(10):
        assert passage.store.read(f"{passage.key}/{number}") == content(number * 500, number)


@pytest.mark.parametrize("oddity", REPLACED)
def test_an_abort_whose_answer_is_replaced_leaves_nothing(passage: Passage, oddity: str) -> None:
    passage.meets(oddity, attempts=1, operation="AbortMultipartUpload")
    writer = passage.client.writer(passage.uri, part_size=PART)
    writer.write(content(2 * PART))
    writer.abort()
    assert passage.store.uploads(passage.key) == []


@pytest.mark.parametrize("oddity", GATEWAY)
@both_ways
def test_what_is_read_is_asked_for_again(passage: Passage, oddity: str, options: dict[str, Any]) -> None:
    data = passage.put(MIB)
    passage.meets(oddity, attempts=1)
    assert passage.client.get(passage.uri, **options) == data
    assert passage.client.get_many([passage.uri], **options)[0][1] == data
    assert passage.client.stat(passage.uri).size == MIB


# ------------------------------------------------------------------------------------------------------- reading


@always
@both_ways
@pytest.mark.parametrize("size", [0, 1, MIB + 5])
def test_an_object_is_read_exactly(passage: Passage, oddity: str, size: int, options: dict[str, Any]) -> None:
    data = passage.put(size)
    assert passage.meets(oddity).client.get(passage.uri, **options) == data


@always
@both_ways
def test_an_object_is_read_into_the_callers_memory(passage: Passage, oddity: str, options: dict[str, Any]) -> None:
    data = passage.put(MIB + 5)
    array = np.full(2 * MIB, 7, np.uint8)
    assert passage.meets(oddity).client.get_into(passage.uri, array, **options) == MIB + 5
    assert array[: MIB + 5].tobytes() == data
    assert (array[MIB + 5 :] == 7).all()


@always
@both_ways
@pytest.mark.parametrize(("offset", "length"), [(100, 50), (1000, 700 * KIB), (MIB, 2 * MIB), (5, None)])
def test_a_range_is_read_exactly(
    passage: Passage, oddity: str, offset: int, length: int | None, options: dict[str, Any]
) -> None:
    data = passage.put(MIB + 5)
    view = passage.meets(oddity).client.get_range(passage.uri, offset, length, **options)
    assert view == (data[offset:] if length is None else data[offset : offset + length])


@always
def test_a_range_past_the_end_is_an_error(passage: Passage, oddity: str) -> None:
    passage.put(10)
    with pytest.raises(s3dlio.InvalidRangeError):
        passage.meets(oddity).client.get_range(passage.uri, 10)


@always
@both_ways
def test_many_objects_are_read_exactly(
    passage: Passage, many: dict[str, bytes], oddity: str, options: dict[str, Any]
) -> None:
    pairs = passage.meets(oddity).client.get_many(list(many), max_in_flight=3, **options)
    assert [(uri, bytes(view)) for uri, view in pairs] == list(many.items())


@pytest.fixture(scope="module")
def many(witness: Witness) -> dict[str, bytes]:
    """Objects of sizes around what shares its memory and what has a place of its own."""
    sizes = [0, 1, 4 * KIB, 64 * KIB, 300 * KIB, MIB, *range(0, 20_000, 1000)]
    objects = {f"many/{number}": content(size, number) for number, size in enumerate(sizes)}
    for name, data in objects.items():
        witness.put(name, data)
    return {f"s3://{witness.bucket}/{name}": data for name, data in objects.items()}


@pytest.mark.parametrize("oddity", [*SURVIVABLE, *SINGLE_DATES])
def test_stat_tells_facts_or_nothing(passage: Passage, oddity: str) -> None:
    passage.put(1234)
    head = passage.store.head(passage.key)
    found = passage.meets(oddity).client.stat(passage.uri)
    assert found.size in (None, 1234)
    assert (found.etag or "").removeprefix("W/").strip('"') in ("", head["ETag"].strip('"'))
    assert found.checksum in (None, head["ChecksumCRC32"])
    if found.last_modified is not None:
        assert found.last_modified.tzinfo is not None


@pytest.mark.parametrize("oddity", [*SURVIVABLE, *SINGLE_DATES])
def test_a_missing_object_is_not_found(passage: Passage, oddity: str) -> None:
    passage.meets(oddity)
    for call in (passage.client.get, passage.client.stat):
        with pytest.raises(s3dlio.NotFoundError):
            call(passage.uri)
    pairs = passage.client.get_many([passage.uri, f"{passage.uri}-2"], on_error="return")
    assert all(isinstance(error, s3dlio.NotFoundError) for _, error in pairs)


@pytest.mark.parametrize("oddity", SINGLE_DATES)
def test_a_refusal_is_the_same_whatever_its_dates(passage: Passage, oddity: str) -> None:
    """Also that of an empty object's range, which is asked about by a HEAD."""
    passage.put(0)
    assert len(passage.meets(oddity).client.get(passage.uri, **RANGED)) == 0
    with pytest.raises(s3dlio.InvalidRangeError):
        passage.client.get_range(passage.uri, 10)


# ----------------------------------------------------------------------------------- answers that say too little

READS: dict[str, Callable[[Passage], Any]] = {
    "get": lambda passage: passage.client.get(passage.uri),
    "get-ranged": lambda passage: passage.client.get(passage.uri, **RANGED),
    "get-many": lambda passage: passage.client.get_many([passage.uri] * 3)[-1][1],
    "get-many-ranged": lambda passage: passage.client.get_many([passage.uri] * 3, **RANGED)[-1][1],
    "get-range": lambda passage: passage.client.get_range(passage.uri, 0, MIB),
    "get-range-ranged": lambda passage: passage.client.get_range(passage.uri, 0, MIB, **RANGED),
    "get-into": lambda passage: read_into(passage, {}),
    "get-into-ranged": lambda passage: read_into(passage, RANGED),
}
every_read = pytest.mark.parametrize("read", READS.values(), ids=READS)


def read_into(passage: Passage, options: dict[str, Any]) -> bytes:
    memory = bytearray(MIB)
    return bytes(memory[: passage.client.get_into(passage.uri, memory, **options)])


def framed(oddity: str) -> list[tuple[str, ...]]:
    """An oddity of the headers in every framing; one of the framing is one already."""
    return (
        [(oddity,)] if oddity == "cut" else [(oddity, framing) for framing in ("chunked", "until-close")] + [(oddity,)]
    )


@every_read
@pytest.mark.parametrize("oddities", [names for oddity in UNUSABLE for names in framed(oddity)], ids="+".join)
def test_what_says_too_little_is_never_taken_for_the_bytes(
    passage: Passage, oddities: tuple[str, ...], read: Callable[[Passage], Any]
) -> None:
    data = passage.put(MIB)
    passage.meets(*oddities)
    try:
        found = read(passage)
    except s3dlio.S3dlioError:
        return
    assert found == data


@every_read
def test_an_answer_that_ends_too_early_is_asked_for_again(passage: Passage, read: Callable[[Passage], Any]) -> None:
    data = passage.put(MIB)
    assert read(passage.meets("cut", attempts=1)) == data


@pytest.mark.parametrize("offset", [0, 1000])
def test_a_range_that_does_not_tell_the_total_is_read_where_its_end_is_not_the_question(
    passage: Passage, offset: int
) -> None:
    data = passage.put(MIB)
    assert passage.meets("unknown-total").client.get_range(passage.uri, offset, 500) == data[offset : offset + 500]


@pytest.mark.parametrize("name", ["get", "get-into", "get-many"])
def test_over_tls_an_end_without_its_alert_is_no_end_of_a_body(open_passage: Open, name: str) -> None:
    """RFC 9112, section 9.8: a body that the connection's end delimits is whole only after a closure alert."""
    passage = open_passage(tls=True)
    passage.put(MIB)
    passage.meets("no-checksum", "cut")
    with pytest.raises(s3dlio.TransportError):
        READS[name](passage)


@every_read
@pytest.mark.parametrize("oddity", FRAMINGS)
def test_over_tls_other_framings_are_read_exactly(
    open_passage: Open, oddity: str, read: Callable[[Passage], Any]
) -> None:
    passage = open_passage(tls=True)
    data = passage.put(MIB)
    assert read(passage.meets(oddity)) == data


# ---------------------------------------------------------------------------------------- the object is replaced


@pytest.mark.parametrize("little_else", [False, True], ids=["", "and-little-else"])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "range"])
@pytest.mark.parametrize("oddity", ["odd-chunks", "no-version", *ETAGS])
def test_an_object_that_is_replaced_meanwhile_is_never_mixed(
    passage: Passage, oddity: str, whole: bool, little_else: bool
) -> None:
    """By one of equal size and of about the same second, in the middle of its ranges."""
    old, new = passage.put(2 * MIB), content(2 * MIB, 1)
    passage.meets(oddity, *(("no-dates", "no-version", "no-checksum") if little_else else ()))
    replaced = []

    def replace(_: s3dlio.ProgressEvent) -> None:
        if not replaced:
            replaced.append(passage.put(2 * MIB, 1))

    memory = bytearray(2 * MIB)
    options: dict[str, Any] = {**RANGED, "range_concurrency": 1, "progress": replace}
    try:
        passage.client.get_into(passage.uri, memory, length=None if whole else 2 * MIB, **options)
    except s3dlio.S3dlioError:
        return
    assert memory in (old, new)
