"""An S3 server in a process of its own: moto, with its handling of checksums corrected.

Run it as ``python tests/embedded_server.py``: it prints its URL and serves on loopback until its standard
input closes, so that it never outlives whoever started it. The tests and ``make demo`` use it.

Corrections, all on the server's side: a PutObject's ``x-amz-checksum-*`` header is verified, stored and
reported; an UploadPart's is verified and echoed; Complete refuses a combined checksum that the parts do not have;
the response to HEAD counts the parts in a composite one.

moto keeps each value in a temporary file and copies all of it for each range. Here values stay in memory and are
not copied, and bodies are read in one piece, so that a client can be seen to be faster than 0.1 GiB/s.
"""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from awscrt import checksums
from flask import request
from moto.s3 import models
from moto.s3.exceptions import EntityTooSmall, InvalidPart, MalformedXML, S3ClientError
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

FUNCTIONS: dict[str, tuple[Callable[[bytes], int], int]] = {
    "CRC64NVME": (checksums.crc64nvme, 8),
    "CRC32C": (checksums.crc32c, 4),
    "CRC32": (checksums.crc32, 4),
    "SHA256": (lambda data: int.from_bytes(hashlib.sha256(data).digest(), "big"), 32),
}


def checksum_of(algorithm: str, data: bytes) -> str:
    function, size = FUNCTIONS[algorithm]
    return base64.b64encode(function(data).to_bytes(size, "big")).decode()


class ChecksumMismatch(S3ClientError):  # type: ignore[misc]
    code = 400

    def __init__(self) -> None:
        super().__init__("XAmzContentChecksumMismatch", "The provided checksum does not match what was computed.")


class HeldValue:
    """The value of one object or part, kept as it was given. Stands in for the temporary file that moto would use."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.data, self.at = b"", 0

    def seek(self, offset: int) -> None:
        self.at = offset

    def truncate(self) -> None:
        self.data = self.data[: self.at]

    def write(self, data: bytes) -> None:
        self.data = self.data[: self.at] + data if self.at else bytes(data)
        self.at = len(self.data)

    def read(self, size: int = -1) -> bytes:
        """The whole value, when that is asked for, without a copy."""
        start = self.at
        self.at = len(self.data) if size < 0 else min(start + size, len(self.data))
        return self.data[start : self.at]

    def close(self) -> None:
        self.data = b""


original_set_part = models.FakeMultipart.set_part
original_complete = models.FakeMultipart.complete


def set_part(self: Any, part_id: int, value: bytes) -> Any:
    """Names a part by its CRC64NVME. MD5 would take longer than all else that this server does."""
    part = original_set_part(self, part_id, value)
    part._etag = f"{checksums.crc64nvme(value):032x}"
    return part


def complete(self: Any, body: Any) -> Any:
    """Completes with the checksum of the whole object, and refuses a wrong one."""
    algorithm = self.metadata.get("x-amz-checksum-algorithm")
    if algorithm not in FUNCTIONS or self.metadata.get("x-amz-checksum-type") != "FULL_OBJECT":
        return original_complete(self, body)
    parts = []
    for number, etag in body:
        part = self.parts.get(number)
        if part is None or part.etag.strip('"') != etag.strip('"'):
            raise InvalidPart
        parts.append(part)
    if not parts:
        raise MalformedXML
    if any(part.contentsize < models.S3_UPLOAD_PART_MIN_SIZE for part in parts[:-1]):
        raise EntityTooSmall
    value = b"".join(part.value for part in parts)
    computed = checksum_of(algorithm, value)
    claimed = request.headers.get(f"x-amz-checksum-{algorithm.lower()}")
    if claimed is not None and claimed != computed:
        raise ChecksumMismatch
    digest = hashlib.md5(b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts), usedforsecurity=False)
    return value, f"{digest.hexdigest()}-{len(parts)}", ("FULL_OBJECT", computed, 1)


class VerifyChecksums:
    """WSGI middleware: verifies the checksum header of a PUT before moto sees the request."""

    def __init__(self, application: Any) -> None:
        self.application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        for algorithm in FUNCTIONS:
            claimed = environ.get(f"HTTP_X_AMZ_CHECKSUM_{algorithm}")
            if environ["REQUEST_METHOD"] == "PUT" and claimed is not None:
                body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                if checksum_of(algorithm, body) != claimed:
                    return self.refuse(start_response)
                environ["wsgi.input"] = io.BytesIO(body)
                environ["wsgi.input_terminated"] = True  # or werkzeug would read it again by 64 KiB
                environ["HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM"] = algorithm
        return self.application(environ, _counting_parts(start_response))  # type: ignore[no-any-return]

    def refuse(self, start_response: Any) -> Iterable[bytes]:
        document = (
            b"<Error><Code>XAmzContentChecksumMismatch</Code>"
            b"<Message>The provided checksum does not match what was computed.</Message></Error>"
        )
        headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(document))), ("Connection", "close")]
        start_response("400 Bad Request", headers)
        return [document]


def _counting_parts(start_response: Any) -> Any:
    """Adds the number of parts to a composite checksum that lacks it; the ETag tells it."""

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        told = {name.lower(): value for name, value in headers}
        _, dash, parts = told.get("etag", "").strip('"').partition("-")
        if dash and told.get("x-amz-checksum-type") == "COMPOSITE":
            for at, (name, value) in enumerate(headers):
                if name.lower().removeprefix("x-amz-checksum-").upper() in FUNCTIONS and "-" not in value:
                    headers[at] = name, f"{value}-{parts}"
        return start_response(status, headers, *rest)

    return start


class QuietHandler(WSGIRequestHandler):
    def log(self, *arguments: Any) -> None:
        pass


def main() -> None:
    models.FakeMultipart.complete = complete
    models.FakeMultipart.set_part = set_part
    models.tempfile.SpooledTemporaryFile = HeldValue
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = VerifyChecksums(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=QuietHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
