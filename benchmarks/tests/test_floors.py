"""The floor programs are only worth comparing with if what they send is right."""

from __future__ import annotations

import base64
import subprocess

import pytest
from awscrt import checksums

from benchmarks import servers


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
