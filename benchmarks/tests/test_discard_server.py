"""The discard server takes what clients send, however they frame it."""

from __future__ import annotations

import itertools
import socket

import pytest

from benchmarks import servers

HEAD = b"PUT /bucket/key HTTP/1.1\r\nHost: localhost\r\n"
CHUNKS = b"5;name=value\r\nhello\r\n" + b"10000\r\n" + bytes(0x10000) + b"\r\n" + b"0\r\n" + b"trailer: value\r\n\r\n"
PUT = HEAD + b"Transfer-Encoding: chunked\r\nx-amz-decoded-content-length: 65541\r\n\r\n" + CHUNKS
AFTER = b"HEAD /bucket/key HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def port():
    with servers.discard_server(1) as store:
        yield int(store.url.rpartition(":")[2])


@pytest.fixture
def connection(port):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        yield connection


def heads(connection, count):
    """The heads of so many answers, none of which has a body."""
    received = b""
    while received.count(b"\r\n\r\n") < count:
        piece = connection.recv(4096)
        assert piece, "the server closed the connection"
        received += piece
    return received.decode().split("\r\n\r\n")[:count]


@pytest.mark.parametrize("step", [1, 7, 100, 70_000, 1 << 20])
def test_body_in_chunks_is_taken_however_it_arrives(connection, step):
    whole = PUT + AFTER
    edge = len(HEAD) + 100 if step < len(whole) else 0  # the framing in steps; the chunk's inside as it comes
    places = [*range(0, edge, step), *range(edge, len(PUT) - 60, 1 << 14), *range(len(PUT) - 60, len(whole), step)]
    for start, end in itertools.pairwise([*places, len(whole)]):
        connection.sendall(whole[start:end])
    put, head = heads(connection, 2)
    assert put.startswith("HTTP/1.1 200")
    assert "Content-Length: 65541" in head


def test_size_of_a_chunk_has_to_be_a_number(connection):
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n")
    assert connection.recv(100) == b""


def test_unknown_framing_is_refused(connection):
    connection.sendall(HEAD + b"Transfer-Encoding: gzip\r\n\r\n")
    assert connection.recv(12) == b"HTTP/1.1 411"
