"""The fuzzer's corpus, and every input that once broke something, through both properties at each test run."""

from __future__ import annotations

from pathlib import Path

import pytest
from properties import check_document, check_head

from s3dlio._net.exchange import scan_head

CORPUS = Path(__file__).with_name("corpus")
INPUTS = sorted(path for path in CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_input_of_the_corpus_breaks_no_property(path: Path) -> None:
    data = path.read_bytes()
    check_head(data, scan_head)
    check_document(data)


def test_each_target_has_a_corpus() -> None:
    assert {path.parent.name for path in INPUTS} == {"head", "xml"}


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", (38, 200, 4, False, False)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", (38, 201, 5, False, False)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", (39, 200, 5, False, False)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", (47, 200, -1, False, False)),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", (38, 200, -1, False, False)),
    ],
)
def test_a_scanner_that_reads_a_head_wrongly_is_caught(data: bytes, facts: tuple[int, int, int, bool, bool]) -> None:
    def wrong(given: bytes) -> tuple[int, int, int, bool, bool]:
        return facts if len(given) == len(data) else scan_head(given)

    with pytest.raises(AssertionError):
        check_head(data, wrong)
