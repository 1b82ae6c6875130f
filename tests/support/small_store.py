"""A small S3 on loopback whose answers a test can script, request by request.

It keeps what it accepted and checks nothing: what a real store verifies is shown on real stores.
"""

from __future__ import annotations

import base64
import contextlib
import re
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from awscrt import checksums

import s3dlio
from s3dlio import RetryPolicy

Reply = tuple[int, dict[str, str], bytes]
Script = Callable[["Peer", str, str, dict[str, str], bytes], Reply | None]


def crc(data: bytes) -> str:
    return base64.b64encode(checksums.crc64nvme(data).to_bytes(8, "big")).decode()


def error(status: int, code: str) -> Reply:
    return status, {}, f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()


class Peer(ThreadingHTTPServer):
    """Answers each request by the script, or like a small S3 that keeps what it accepted."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: Script = lambda *_: None
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.parts: dict[int, bytes] = {}  # of the upload that was created last
        self.parts_of: dict[str, dict[int, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        self.uploads = 0
        self.lock = threading.Lock()

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what many tests are about."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def respond(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        with self.lock:
            self.requests.append((method, path, headers))
        scripted = self.script(self, method, path, headers, body)
        return self.ordinary(method, path, headers, body) if scripted is None else scripted

    def ordinary(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        name, _, query = path.partition("?")
        part, upload = re.search(r"partNumber=(\d+)", query), re.search(r"uploadId=([^&]*)", query)
        if method == "POST" and query == "uploads=":
            return self.create()
        # A part of an upload that was interrupted may arrive when the next one is under way.
        parts = self.parts_of.get(upload[1], self.parts) if upload else self.parts
        if method == "PUT" and part:
            with self.lock:
                parts[int(part[1])] = body
            return 200, {"ETag": f'"part{part[1]}"'}, b""
        if method == "POST":
            self.objects[name] = b"".join(parts[n] for n in sorted(parts))
            tag = f"<ETag>&quot;x-{len(parts)}&quot;</ETag>"
            return 200, {}, f"<CompleteMultipartUploadResult>{tag}</CompleteMultipartUploadResult>".encode()
        if method == "DELETE":
            self.uploads -= 1
            return 204, {}, b""
        if method == "PUT":
            self.objects[name] = body
            return 200, {"ETag": '"whole"'}, b""
        if name not in self.objects or query.startswith("max-parts") or "uploadId" in query:
            return error(404, "NoSuchKey")
        return self.read(self.objects[name], headers)

    def create(self) -> Reply:
        with self.lock:
            self.uploads += 1
            upload = f"u{len(self.parts_of) + 1}"
            self.parts = self.parts_of[upload] = {}
        name = "InitiateMultipartUploadResult"
        return 200, {}, f"<{name}><UploadId>{upload}</UploadId></{name}>".encode()

    def read(self, data: bytes, headers: dict[str, str]) -> Reply:
        told = {"ETag": '"tag"', "x-amz-checksum-crc64nvme": crc(data), "x-amz-checksum-type": "FULL_OBJECT"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        if not asked:
            return 200, told, data
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        if first >= len(data):
            return error(416, "InvalidRange")
        ranged = {"ETag": '"tag"', "Content-Range": f"bytes {first}-{last}/{len(data)}"}
        return 206, ranged, data[first : last + 1]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Peer

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, told, data = self.server.respond(self.command, self.path, headers, body)
        self.send_response(status)
        if "Transfer-Encoding" not in told:
            self.send_header("Content-Length", str(len(data)))
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def running_peer() -> Iterator[Peer]:
    with Peer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def client_of(peer: Peer, **settings: Any) -> s3dlio.Client:
    """A client of this peer that retries at once."""
    url = f"http://127.0.0.1:{peer.server_port}"
    retries = RetryPolicy(max_attempts=4, base_delay=0.001)
    options: dict[str, Any] = {"credentials": ("id", "secret"), "region": "r", "retries": retries, **settings}
    return s3dlio.Client(endpoint_url=url, **options)
