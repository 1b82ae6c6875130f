"""gevent and eventlet, the real ones: a process they have patched is refused at once, whatever came first."""

from __future__ import annotations

import re
from importlib import metadata

import pytest
from programs import run
from small_store import Peer

LIBRARIES = ["gevent", "eventlet"]
# What a program does first, and what it does later.
CALLS = """
def calls():
    yield "Client", lambda: s3dlio.Client(endpoint_url=os.environ["PEER"], credentials=("id", "secret"), region="r")
    yield "put_bytes", lambda: s3dlio.put_bytes("s3://b/k", b"x", client=made)
    yield "put_many", lambda: s3dlio.put_many([("s3://b/k", b"x")] * 3, client=made)
    yield "get", lambda: s3dlio.get("s3://b/k", client=made)
    yield "get_many", lambda: s3dlio.get_many(["s3://b/k"] * 3, client=made)
    yield "get_into", lambda: s3dlio.get_into("s3://b/k", bytearray(9), client=made)
    yield "stat", lambda: s3dlio.stat("s3://b/k", client=made)
    yield "list_uploads", lambda: s3dlio.list_uploads("s3://b", client=made)
    yield "writer", lambda: s3dlio.MultipartUploadWriter.from_uri("s3://b/k", client=made)
    yield "default", lambda: s3dlio.get("s3://b/k")

for name, call in calls():
    try:
        call()
        print(name, "went on")
    except s3dlio.ConfigurationError as error:
        print(name, "refused:", error)
"""


@pytest.fixture(autouse=True, params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    try:
        metadata.version(request.param)
    except metadata.PackageNotFoundError:
        pytest.fail(f"{request.param} is not installed, and nothing here was tested; install the extra 'test'")
    return str(request.param)


def patch(library: str, options: str = "") -> str:
    if library == "gevent":
        return f"from gevent import monkey; monkey.patch_all({options})\n"
    return f"import warnings; warnings.simplefilter('ignore'); import eventlet; eventlet.monkey_patch({options})\n"


def in_a_process(peer: Peer, script: str) -> str:
    """What it prints; a hang ends with the deadline of `run`."""
    out, _ = run(peer, script)
    return out


def refusals(out: str) -> dict[str, str]:
    told = dict(line.split(" ", 1) for line in out.splitlines())
    assert len(told) >= 9
    assert all(text.startswith("refused:") for text in told.values()), told
    return told


def test_a_process_that_is_patched_after_the_import_is_refused_at_every_call(peer: Peer, library: str) -> None:
    told = refusals(in_a_process(peer, f"made = client\n{patch(library)}{CALLS}"))
    assert all(library in text and "in a subprocess" in text for text in told.values())
    assert peer.requests == []


def test_a_process_that_is_patched_first_is_refused_at_every_call(peer: Peer, library: str) -> None:
    # The program's own prelude makes a client: this one is another interpreter's.
    script = f"""
import subprocess
program = {patch(library)!r} + "import os, s3dlio\\nmade = None\\n" + {CALLS!r}
print(subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=50).stdout)
"""
    told = refusals(in_a_process(peer, script).strip())
    assert all(library in text for text in told.values())
    assert peer.requests == []


def test_a_writer_that_is_open_when_the_process_is_patched_ends_with_the_refusal(peer: Peer, library: str) -> None:
    script = f"""
writer = client.writer("s3://b/k", part_size=5 * MIB)
writer.write(bytes(6 * MIB))
{patch(library)}
for call in (lambda: writer.write(bytes(11 * MIB)), writer.close):
    try:
        call()
        print("went on")
    except s3dlio.ConfigurationError as error:
        print("refused:", error)
"""
    out = in_a_process(peer, script)
    assert out.splitlines()[-1].startswith("refused:"), out


def test_the_remedy_that_the_refusal_names_is_one(peer: Peer, library: str) -> None:
    out = in_a_process(peer, f"made = client\n{patch(library)}{CALLS}")
    found = re.search(r"by \w+(?:\.\w+)*\(([^)]*)\)", out)
    assert found is not None
    peer.objects["/b/k"] = bytes(range(256)) * 40_000
    script = f"""
import subprocess
program = {patch(library, found[1])!r} + '''
import os, threading, s3dlio
client = s3dlio.Client(endpoint_url=os.environ["PEER"], credentials=("id", "secret"), region="r")
data = client.get("s3://b/k", range_optimization=True, range_threshold=1 << 20, chunk_size=1 << 20)
client.put_bytes("s3://b/copy", data, part_size=5 << 20)
print(client.get("s3://b/copy") == data, len(client.get_many(["s3://b/k"] * 9)))
writer = client.writer("s3://b/dropped", part_size=5 << 20)
writer.write(bytes(11 << 20))
writer.flush()  # so that there is an upload
'''
print(subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=50).stdout)
"""
    assert in_a_process(peer, script).strip() == "True 9"
    assert [path.partition("?")[0] for method, path, _ in peer.requests if method == "DELETE"] == ["/b/dropped"]


def test_a_library_that_patches_nothing_is_no_fallback_reason(peer: Peer, library: str) -> None:
    importing = "import gevent.monkey" if library == "gevent" else patch(library).replace("eventlet.monkey_patch()", "")
    script = f"{importing}\nclient.put_bytes('s3://b/k', b'abc')\nprint(client.get('s3://b/k').tobytes())"
    assert in_a_process(peer, script) == "b'abc'\n"


def test_a_subprocess_of_a_patched_process_is_free(peer: Peer, library: str) -> None:
    program = """
import os, s3dlio
client = s3dlio.Client(endpoint_url=os.environ["PEER"], credentials=("id", "secret"), region="r")
client.put_bytes("s3://b/k", b"abc")
"""
    script = f"{patch(library)}import subprocess\nsubprocess.run([sys.executable, '-c', {program!r}], check=True)"
    in_a_process(peer, script)
    assert peer.objects["/b/k"] == b"abc"
