"""The floor programs are only worth comparing with if what they send is right."""

from __future__ import annotations

import base64
import contextlib
import http.server
import re
import subprocess
import threading

import numpy as np
import pytest
from awscrt import checksums

from benchmarks import pattern, servers


@pytest.fixture(scope="module", autouse=True)
def native():
    servers.build_native()


@pytest.mark.parametrize("registers", [[], ["narrow"]], ids=["widest", "narrow"])
@pytest.mark.parametrize("skip", [0, 1, 7])
@pytest.mark.parametrize("length", [0, 1, 15, 16, 255, 256, 257, 271, 272, 511, 512, 4096, 1_000_003])
def test_crc64nvme_is_what_awscrt_computes(length, skip, registers):
    data = bytes((7 * i * i + 13) % 251 for i in range(length + skip))
    program = [servers.NATIVE / "crc_check", str(skip), *registers]
    printed = subprocess.run(program, input=data, capture_output=True, check=True).stdout.decode().strip()
    assert base64.b64decode(printed) == checksums.crc64nvme(data[skip:]).to_bytes(8, "big")


@pytest.mark.parametrize(
    "command",
    [
        ["put_floor"],
        ["put_floor", "--crc"],
        ["put_floor", "--crc", "--fill"],
        ["get_floor", "--memory", "fresh"],
        ["get_floor", "--memory", "huge"],
        ["get_floor", "--memory", "warm"],
        ["get_floor", "--memory", "discard"],
        ["small_floor", "--count", "100"],
        ["small_floor", "--count", "100", "--put", "--crc"],
    ],
    ids=" ".join,
)
def test_floor_moves_its_bytes(command):
    size = 4096 if command[0] == "small_floor" else (9 << 20) + 5
    options = ["--size", str(size), "--part-size", str(1 << 20), "--warmups", "0", "--repeats", "1"]
    with servers.discard_server(2) as store:
        port = store.url.rpartition(":")[2]
        subprocess.run([servers.NATIVE / command[0], "--port", port, *command[1:], *options], check=True)


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes one upload and keeps its parts, with the checksums that came with them, in `server.parts`."""

    protocol_version = "HTTP/1.1"

    def answer(self, body=b""):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def do_POST(self):
        self.answer(b"<UploadId>1</UploadId>" if "uploads=" in self.path else b"")

    def do_PUT(self):
        number = int(re.search(r"partNumber=(\d+)", self.path)[1])
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.parts[number] = body, self.headers["x-amz-checksum-crc64nvme"]
        self.answer()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def receiver():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.parts = {}
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def received(size, part_size, *arguments):
    """The parts of an upload by put_floor, and their checksums, in order."""
    with receiver() as server:
        options = {"port": server.server_port, "size": size, "part-size": part_size, "warmups": 0, "repeats": 1}
        command = [servers.NATIVE / "put_floor", *arguments]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        subprocess.run(command, check=True, timeout=60)
        return [server.parts[number] for number in range(1, len(server.parts) + 1)]


def source(length):
    """What a floor's memory holds from its beginning on."""
    return (np.arange(-(-length // 8), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)).tobytes()[:length]


def right(body, checksum):
    return base64.b64decode(checksum) == checksums.crc64nvme(body).to_bytes(8, "big")


def test_floor_sends_its_memory_with_the_right_checksums():
    size = (9 << 20) + 5
    parts = received(size, 1 << 20, "--crc")
    assert b"".join(body for body, _ in parts) == source(size)
    assert all(right(*part) for part in parts)


@pytest.mark.parametrize("threads", ["1", "2", "4"])
def test_floor_that_fills_sends_what_it_has_filled_and_not_its_source(threads):
    part_size = 5 << 20
    size = pattern.PERIOD + part_size + 5  # so that the source is read from its beginning again
    parts = received(size, part_size, "--crc", "--fill", "--threads", threads)
    memory, place = source(pattern.PERIOD + part_size), 0
    for number, (body, _) in enumerate(parts, 1):
        start = place % pattern.PERIOD
        mark = number.to_bytes(8, "little")[: len(body)]
        assert body == mark + memory[start + len(mark) : start + len(body)], f"part {number}"
        place += len(body)
    assert place == size
    assert all(right(*part) for part in parts)
