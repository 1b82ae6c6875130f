"""Mistakes of callers: mypy --strict and pyright (strict) report every line marked here. It is never run.

Both complain of a mark that marks no error, so that a mistake that goes unreported fails.
"""

from __future__ import annotations

import s3dlio

URI = "s3://bucket/key"

s3dlio.get(URI, chunksize=1 << 20)  # type: ignore[call-arg]
s3dlio.get(URI, verify="yes")  # type: ignore[arg-type]
s3dlio.get_range(URI, 0, part_size=1)  # type: ignore[call-arg]
s3dlio.get_into(URI, "text")  # type: ignore[arg-type]
s3dlio.get_many([URI], on_error="ignore")  # type: ignore[call-overload]
s3dlio.get_many([URI], on_error="return")[0][1].to_bytes()  # type: ignore[union-attr]
s3dlio.put_bytes(URI, 5)  # type: ignore[arg-type]
s3dlio.put_bytes(URI, "text")  # type: ignore[arg-type]
s3dlio.put_bytes(URI, b"", part_sise=1)  # type: ignore[call-arg]
s3dlio.put_bytes(URI, b"", checksum="crc64")  # type: ignore[arg-type]
s3dlio.put_many([(URI, b"")], part_max_inflight=4)  # type: ignore[call-overload]
print(s3dlio.put_many([(URI, b"")], on_error="return")[0].etag)  # type: ignore[union-attr]
s3dlio.stat(URI, version=5)  # type: ignore[call-arg]
s3dlio.MultipartUploadWriter.from_uri(URI, metadata="a=b")  # type: ignore[arg-type]
s3dlio.MultipartUploadWriter("bucket", "key", clint=None)  # type: ignore[call-arg]
s3dlio.MultipartUploadConfig(checksum="md5")  # type: ignore[arg-type]
s3dlio.Client(timeouts=5)  # type: ignore[arg-type]
s3dlio.Client(addressing_style="auot")  # type: ignore[arg-type]
s3dlio.Client(credentials=("key",))  # type: ignore[arg-type]
s3dlio.Client().get(URI, range_treshold=1)  # type: ignore[call-arg]
s3dlio.Client().put_many([(URI, b"")], on_error=None)  # type: ignore[call-overload]
