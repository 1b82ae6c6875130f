"""Objects as files, used by what uses files; and objects as chunks."""

from __future__ import annotations

import csv
import gc
import gzip
import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import s3dlio

MIB = 1 << 20
DATA = os.urandom(23 * MIB + 17)


@pytest.fixture
def uri(store: Any) -> str:
    name: str = store.uri("file")
    return name


def test_pickle_json_gzip_and_text(uri: str) -> None:
    value = {"array": np.arange(100_000), "text": "\u00e9" * 1000}
    with s3dlio.open(uri, "wb") as file:
        pickle.dump(value, file, protocol=5)
    with s3dlio.open(uri) as file:
        found = pickle.load(file)
    assert np.array_equal(found["array"], value["array"])
    assert found["text"] == value["text"]
    with s3dlio.open(uri, "wb") as raw, gzip.open(raw, "wt", encoding="utf-8") as text:
        json.dump(list(range(50_000)), text)
    with s3dlio.open(uri) as raw, gzip.open(raw, "rt", encoding="utf-8") as text:
        assert json.load(text) == list(range(50_000))
    rows = [[str(number), "a,b", "\u00e9"] for number in range(5000)]
    with io.TextIOWrapper(s3dlio.open(uri, "wb"), encoding="utf-8", newline="") as text:
        csv.writer(text).writerows(rows)
    with io.TextIOWrapper(s3dlio.open(uri), encoding="utf-8", newline="") as text:
        assert list(csv.reader(text)) == rows


@pytest.mark.parametrize("kind", ["", "gz"])
def test_tarfile_in_a_stream_and_at_random(uri: str, kind: str) -> None:
    members = {f"d/{number}": os.urandom(number * 10_000) for number in range(30)}
    with s3dlio.open(uri, "wb") as file, tarfile.open(fileobj=file, mode=f"w|{kind}") as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with s3dlio.open(uri) as file, tarfile.open(fileobj=file, mode=f"r|{kind}") as archive:  # type: ignore[call-overload]
        for info in archive:
            assert archive.extractfile(info).read() == members[info.name]  # type: ignore[union-attr]
    with s3dlio.open(uri) as file, tarfile.open(fileobj=file, mode=f"r:{kind}") as archive:  # type: ignore[call-overload]
        assert archive.extractfile("d/17").read() == members["d/17"]  # type: ignore[union-attr]


def test_zipfile_reads_one_member_of_many(uri: str) -> None:
    members = {f"{number}.bin": os.urandom(200_000) for number in range(40)}
    with s3dlio.open(uri, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with s3dlio.open(uri) as file, zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert archive.read("33.bin") == members["33.bin"]


def test_numpy_and_copyfileobj(uri: str, tmp_path: Path) -> None:
    array = np.arange(3_000_000, dtype=np.float32).reshape(1000, 3000)
    with s3dlio.open(uri, "wb") as file:
        np.save(file, array)
    with s3dlio.open(uri) as file:
        assert np.array_equal(np.load(file), array)
    with s3dlio.open(uri) as source, (tmp_path / "copy").open("wb") as target:
        shutil.copyfileobj(source, target)
    assert np.array_equal(np.load(tmp_path / "copy"), array)


def test_pyarrow_writes_and_reads_parquet(uri: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"a": np.arange(200_000), "b": np.random.default_rng(1).random(200_000)})
    with s3dlio.open(uri, "wb") as file:
        parquet.write_table(table, file, row_group_size=50_000)
    with s3dlio.open(uri) as file:
        assert parquet.read_table(file, columns=["b"]).equals(table.select(["b"]))


def test_h5py_reads_a_slice(uri: str, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    array = np.random.default_rng(1).random((500, 2000))
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("x", data=array, chunks=(10, 2000))
    s3dlio.upload(tmp_path / "f.h5", uri)
    with s3dlio.open(uri) as raw, h5py.File(raw, "r") as file:
        assert np.array_equal(file["x"][123:140], array[123:140])


def test_what_a_file_says_of_itself(uri: str) -> None:
    s3dlio.put_bytes(uri, b"0123456789")
    file = s3dlio.open(uri)
    assert (file.name, file.mode, file.size, file.tell()) == (uri, "rb", 10, 0)
    assert (file.readable(), file.writable(), file.seekable(), file.isatty(), file.closed) == (
        True, False, True, False, False,
    )  # fmt: skip
    with pytest.raises(io.UnsupportedOperation):
        file.fileno()
    with pytest.raises(io.UnsupportedOperation):
        file.write(b"")
    assert (file.seek(20), file.read(), file.seek(-3, 1), file.read(1), file.seek(-2, 2), file.read()) == (
        20, b"", 17, b"", 8, b"89",
    )  # fmt: skip
    with pytest.raises(ValueError, match="seek to -1, before the start"):
        file.seek(-11, 2)
    with pytest.raises(ValueError, match="whence=5"):
        file.seek(0, 5)
    file.close()
    file.close()
    for call in (file.read, file.tell, lambda: file.seek(0), lambda: file.readinto(bytearray(1)), file.peek):
        with pytest.raises(ValueError, match="is closed"):
            call()
    writer = s3dlio.open(uri, "wb")
    assert (writer.name, writer.mode, writer.writable(), writer.readable(), writer.seekable()) == (
        uri, "wb", True, False, False,
    )  # fmt: skip
    with pytest.raises(ValueError, match="is not stored"):
        _ = writer.info
    with pytest.raises(io.UnsupportedOperation):
        writer.read()
    with pytest.raises(io.UnsupportedOperation):
        writer.seek(0)
    writer.writelines([b"ab", np.arange(2, dtype=np.int16)])
    writer.flush()
    assert writer.tell() == 6
    writer.close()
    writer.close()
    assert writer.info.total_bytes == 6
    with pytest.raises(ValueError, match="is closed"):
        writer.write(b"1")


def test_lines_come_from_blocks(uri: str) -> None:
    lines = [os.urandom(20).hex().encode() + b"\n" for _ in range(20_000)]
    s3dlio.put_bytes(uri, b"".join(lines))
    with s3dlio.open(uri) as file:
        assert list(file) == lines
    with io.BufferedReader(s3dlio.open(uri)) as buffered:
        assert buffered.readlines() == lines


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1])
def test_objects_around_the_first_block(uri: str, size: int) -> None:
    s3dlio.put_bytes(uri, DATA[:size])
    with s3dlio.open(uri) as file:
        assert file.size == size
        assert file.read() == DATA[:size]
        assert file.read() == b""
    assert b"".join(s3dlio.get_iter(uri)) == DATA[:size]


def test_an_exception_publishes_nothing(store: Any, uri: str) -> None:
    def fail() -> None:
        with s3dlio.open(uri, "wb", part_size=5 * MIB) as file:
            file.write(DATA[: 6 * MIB])
            raise RuntimeError("in the block")

    with pytest.raises(RuntimeError, match="in the block"):
        fail()
    assert not s3dlio.exists(uri)
    assert store.uploads() == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_dropping_a_file_publishes_nothing(store: Any, uri: str) -> None:
    file = s3dlio.open(uri, "wb")
    file.write(b"not all of it")
    del file
    gc.collect()
    assert not s3dlio.exists(uri)
    writer = s3dlio.open(uri, "wb", part_size=5 * MIB)
    writer.write(DATA[: 6 * MIB])
    writer.abort()
    assert writer.closed
    assert not s3dlio.exists(uri)
    assert store.uploads() == []


def test_an_exclusive_file_replaces_nothing(store: Any, uri: str) -> None:
    with s3dlio.open(uri, "xb") as file:
        file.write(b"first")
    with pytest.raises(FileExistsError, match="exists; open it with 'wb'"):
        s3dlio.open(uri, "xb")
    other = store.uri("other")
    late = s3dlio.open(other, "xb")
    late.write(b"late")
    s3dlio.put_bytes(other, b"early")
    with pytest.raises(s3dlio.ObjectExistsError):
        late.close()
    assert (store.read("file"), store.read("other")) == (b"first", b"early")


def test_chunks_come_in_order_and_are_checked(store: Any, uri: str) -> None:
    s3dlio.put_bytes(uri, DATA, part_size=5 * MIB)
    chunks = list(s3dlio.get_iter(uri, chunk_size=2 * MIB, max_in_flight=3))
    assert [len(one) for one in chunks] == [2 * MIB] * 11 + [MIB + 17]
    assert b"".join(chunks) == DATA
    assert np.frombuffer(chunks[3], np.uint8)[0] == DATA[6 * MIB]
    with pytest.raises(s3dlio.NotFoundError):
        next(s3dlio.get_iter(store.uri("nothing")))
    with pytest.raises(s3dlio.NotFoundError):
        s3dlio.open(store.uri("nothing"))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: s3dlio.open("s3://b/k", "r"), ValueError, "expected 'rb', 'wb' or 'xb'"),  # type: ignore[call-overload]
        (lambda: s3dlio.open("s3://b/k", "rb", part_size=5), s3dlio.ConfigurationError, "part_size: for writing only"),  # type: ignore[call-overload]
        (lambda: s3dlio.open("s3://b/k", "wb", version_id="1"), s3dlio.ConfigurationError, "for reading only"),  # type: ignore[call-overload]
        (lambda: s3dlio.open("s3://b/k", "xb", if_match="x"), s3dlio.ConfigurationError, "contradicts mode 'xb'"),
        (lambda: s3dlio.open("s3://b/k", read_ahead=-1), s3dlio.ConfigurationError, "read_ahead=-1"),
        (lambda: s3dlio.open("/tmp/f"), s3dlio.UnsupportedUriError, "not an S3 URI"),
        (lambda: s3dlio.get_iter("s3://b/k", chunk_size=1), s3dlio.ConfigurationError, "chunk_size=1"),
        (lambda: s3dlio.get_iter("s3://b/k", max_in_flight=0), s3dlio.ConfigurationError, "max_in_flight=0"),
    ],
)
def test_bad_input_is_named(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
