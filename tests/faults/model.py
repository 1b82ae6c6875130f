"""A small S3 that keeps what it accepted: objects with versions, multipart uploads, checksums, conditions.

It knows no socket: a `Call` goes in and a `Reply` comes out, so that the peer around it can spoil either.
What it refuses and in which words follows the S3 API reference; it computes every checksum itself.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl, quote_plus, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from awscrt import checksums

MIB = 1 << 20
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
SMALLEST_PART = 5 * MIB
MOST_PARTS = 10_000
BITS = {"crc64nvme": 64, "crc32c": 32, "crc32": 32, "sha256": 256, "sha1": 160}
PREFIX = "x-amz-checksum-"


@dataclass(frozen=True)
class Call:
    """A request as S3 sees it; names of headers in lower case."""

    operation: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def part(self) -> int | None:
        text = self.query.get("partNumber")
        return int(text) if text else None

    @property
    def upload_id(self) -> str:
        return self.query.get("uploadId", "")


@dataclass(frozen=True)
class Reply:
    """An answer; `length` is the Content-Length where it is not that of the body (an answer to HEAD)."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None


class Refusal(Exception):
    """What the store answers instead."""

    def __init__(self, status: int, code: str, message: str = "refused") -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message

    def reply(self, head: bool = False) -> Reply:
        return Reply(self.status, {}, b"") if head else error_reply(self.status, self.code, self.message)


@dataclass(frozen=True)
class Version:
    """One version of an object; `checksum` is (algorithm, base64 value, type)."""

    version_id: str
    data: bytes
    etag: str
    checksum: tuple[str, str, str]
    headers: Mapping[str, str]
    modified: datetime
    parts: int | None = None


@dataclass(frozen=True)
class Part:
    data: bytes
    etag: str
    checksum: str


@dataclass
class Upload:
    """A multipart upload; `ended` is None while it is one, or how it ended: completed or aborted."""

    upload_id: str
    bucket: str
    key: str
    algorithm: str
    checksum_type: str
    headers: Mapping[str, str]
    parts: dict[int, Part] = field(default_factory=dict)
    ended: str | None = None
    initiated: datetime = field(default_factory=lambda: datetime.now(UTC))


class Store:
    """The buckets of one region.

    Args:
        smallest_part: bytes that every part but the last must have.
        versioned: name a version id in answers; old versions are kept either way.
        reports_checksums: False plays a store that computes none of its own.
        mismatch_code: what a checksum that differs is called (MinIO says XAmzContentChecksumMismatch).
    """

    def __init__(
        self,
        *buckets: str,
        smallest_part: int = SMALLEST_PART,
        versioned: bool = False,
        reports_checksums: bool = True,
        mismatch_code: str = "BadDigest",
    ) -> None:
        self.smallest_part = smallest_part
        self.versioned = versioned
        self.reports_checksums = reports_checksums
        self.mismatch_code = mismatch_code
        self.uploads: dict[str, Upload] = {}
        self._objects: dict[str, dict[str, list[Version]]] = {name: {} for name in buckets or ("b",)}
        self._lock = threading.RLock()
        self._written = 0

    # ------------------------------------------------------------------------------------ for tests to look at

    def orphans(self, key: str | None = None) -> list[str]:
        """Ids of the uploads that were neither completed nor aborted: what somebody goes on paying for."""
        with self._lock:
            return [one.upload_id for one in self.uploads.values() if not one.ended and key in (None, one.key)]

    def versions(self, bucket: str, key: str) -> list[Version]:
        with self._lock:
            return list(self._objects[bucket].get(key, ()))

    def keys(self, bucket: str) -> list[str]:
        """The keys of all objects that are there."""
        with self._lock:
            return [key for key, versions in self._objects[bucket].items() if versions]

    def put(self, bucket: str, key: str, data: bytes, headers: Mapping[str, str] | None = None) -> Version:
        """Stores an object as if somebody else had."""
        with self._lock:
            etag = hashlib.md5(data).hexdigest()
            return self._publish(bucket, key, data, etag, ("crc64nvme", checksum_of("crc64nvme", data), FULL), headers)

    # ------------------------------------------------------------------------------------------------ answers

    def answer(self, call: Call) -> Reply:
        """What S3 answers, with its effect."""
        handle: Callable[[Call], Reply] | None = getattr(self, f"_{_snake(call.operation)}", None)
        try:
            if handle is None:
                raise Refusal(501, "NotImplemented", call.operation)
            with self._lock:
                if call.bucket not in self._objects:
                    raise Refusal(404, "NoSuchBucket", call.bucket)
                return handle(call)
        except Refusal as refusal:
            return refusal.reply(head=call.operation.startswith("Head"))

    def _put_object(self, call: Call) -> Reply:
        self._check_conditions(call)
        algorithm, value = self._checked(call)
        etag = hashlib.md5(call.body).hexdigest()
        version = self._publish(call.bucket, call.key, call.body, etag, (algorithm, value, FULL), call.headers)
        return Reply(200, {"ETag": f'"{etag}"', **self._version_header(version), **self._reported(algorithm, value)})

    def _create_multipart_upload(self, call: Call) -> Reply:
        algorithm = call.headers.get(PREFIX + "algorithm", "CRC64NVME").lower()
        if algorithm not in BITS:
            raise Refusal(400, "InvalidRequest", f"unknown checksum algorithm {algorithm}")
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
        kind = call.headers.get(PREFIX + "type", FULL if algorithm == "crc64nvme" else COMPOSITE)
        if kind == COMPOSITE and algorithm == "crc64nvme":
            raise Refusal(400, "InvalidRequest", "CRC64NVME is always of the full object")
        if kind == FULL and algorithm.startswith("sha"):
            raise Refusal(400, "InvalidRequest", f"the FULL_OBJECT type cannot be used with {algorithm.upper()}")
        upload = Upload(f"upload-{len(self.uploads) + 1}", call.bucket, call.key, algorithm, kind, call.headers)
        self.uploads[upload.upload_id] = upload
        names = {"Bucket": call.bucket, "Key": call.key, "UploadId": upload.upload_id}
        told = {PREFIX + "algorithm": algorithm.upper(), PREFIX + "type": kind} if self.reports_checksums else {}
        return Reply(200, told, _document("InitiateMultipartUploadResult", _elements(names)))

    def _upload_part(self, call: Call) -> Reply:
        upload = self._open_upload(call)
        number = call.part or 0
        if not 1 <= number <= MOST_PARTS:
            raise Refusal(400, "InvalidArgument", "part numbers are 1 to 10000")
        algorithm, value = self._checked(call, upload.algorithm)
        if algorithm != upload.algorithm:
            raise Refusal(400, "InvalidRequest", f"the upload's checksums are {upload.algorithm}")
        etag = hashlib.md5(call.body).hexdigest()
        upload.parts[number] = Part(call.body, etag, value)
        return Reply(200, {"ETag": f'"{etag}"', **self._reported(algorithm, value, kind=None)})

    def _copy_object(self, call: Call) -> Reply:
        source = self._copy_source(call)
        headers = {name: value for name, value in source.headers.items() if name != "x-amz-storage-class"}
        headers |= {name: value for name, value in call.headers.items() if name == "x-amz-storage-class"}
        etag, checksum = hashlib.md5(source.data).hexdigest(), source.checksum
        if checksum[2] != FULL:
            checksum = (checksum[0], checksum_of(checksum[0], source.data), FULL)
        version = self._publish(call.bucket, call.key, source.data, etag, checksum, headers)
        return self._copied("CopyObjectResult", version.etag, checksum[0], checksum[1], self._version_header(version))

    def _upload_part_copy(self, call: Call) -> Reply:
        upload, source = self._open_upload(call), self._copy_source(call)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", call.headers["x-amz-copy-source-range"])
        if asked is None or int(asked[2]) >= len(source.data):
            raise Refusal(400, "InvalidRange", "the range is not within the source")
        data = source.data[int(asked[1]) : int(asked[2]) + 1]
        part = Part(data, hashlib.md5(data).hexdigest(), checksum_of(upload.algorithm, data))
        upload.parts[call.part or 0] = part
        return self._copied("CopyPartResult", part.etag, upload.algorithm, part.checksum, {})

    def _copied(self, name: str, etag: str, algorithm: str, value: str, headers: Mapping[str, str]) -> Reply:
        names = {"ETag": f'"{etag}"', "LastModified": "2026-11-25T10:00:00.000Z"}
        if self.reports_checksums:
            names[f"Checksum{algorithm.upper()}"] = value
        return Reply(200, {"Content-Type": "application/xml", **headers}, _document(name, _elements(names)))

    def _copy_source(self, call: Call) -> Version:
        named, _, version = call.headers["x-amz-copy-source"].removeprefix("/").partition("?versionId=")
        bucket, _, key = unquote(named).partition("/")
        if_match = call.headers.get("x-amz-copy-source-if-match")
        headers = {} if if_match is None else {"if-match": if_match}
        source = self._wanted(Call("GetObject", bucket, key, {"versionId": version} if version else {}, headers))
        if source.headers.get("x-amz-storage-class") in ("GLACIER", "DEEP_ARCHIVE"):
            raise Refusal(403, "InvalidObjectState", "The operation is not valid for the object's storage class")
        return source

    def _get_object_tagging(self, call: Call) -> Reply:
        tags = parse_qsl(self._wanted(call).headers.get("x-amz-tagging", ""), keep_blank_values=True)
        listed = "".join(f"<Tag>{_elements({'Key': name, 'Value': value})}</Tag>" for name, value in tags)
        return Reply(200, {"Content-Type": "application/xml"}, _document("Tagging", f"<TagSet>{listed}</TagSet>"))

    def _complete_multipart_upload(self, call: Call) -> Reply:
        upload = self._open_upload(call)
        listed = self._listed_parts(call, upload)
        for part in listed[:-1]:
            if len(part.data) < self.smallest_part:
                raise Refusal(400, "EntityTooSmall", f"a part of {len(part.data)} bytes is not the last")
        data = b"".join(part.data for part in listed)
        size = call.headers.get("x-amz-mp-object-size")
        if size is not None and size != str(len(data)):
            raise Refusal(400, "InvalidRequest", f"x-amz-mp-object-size is {size}, the parts have {len(data)}")
        value = self._object_checksum(upload, listed, data)
        told = call.headers.get(PREFIX + upload.algorithm)
        if call.headers.get(PREFIX + "type", upload.checksum_type) != upload.checksum_type:
            raise Refusal(400, "InvalidRequest", "the checksum type is not the upload's")
        if told is not None and told != value:
            raise Refusal(400, self.mismatch_code, f"the {upload.algorithm} of the object is {value}, not {told}")
        self._check_conditions(call)
        digests = b"".join(bytes.fromhex(part.etag) for part in listed)
        etag = f"{hashlib.md5(digests).hexdigest()}-{len(listed)}"
        checksum = (upload.algorithm, value, upload.checksum_type)
        version = self._publish(call.bucket, call.key, data, etag, checksum, upload.headers, len(listed))
        upload.ended = "completed"
        names = {"Bucket": call.bucket, "Key": call.key, "ETag": f'"{etag}"'}
        if self.reports_checksums:
            names |= {f"Checksum{upload.algorithm.upper()}": value, "ChecksumType": upload.checksum_type}
        document = _document("CompleteMultipartUploadResult", _elements(names))
        return Reply(200, {"Content-Type": "application/xml", **self._version_header(version)}, document)

    def _abort_multipart_upload(self, call: Call) -> Reply:
        self._open_upload(call).ended = "aborted"
        return Reply(204)

    def _list_parts(self, call: Call) -> Reply:
        upload = self._open_upload(call)
        after, most = int(call.query.get("part-number-marker") or 0), int(call.query.get("max-parts") or 1000)
        numbers = sorted(number for number in upload.parts if number > after)
        shown = numbers[:most]
        lines = [_elements({"UploadId": upload.upload_id, "IsTruncated": str(len(numbers) > most).lower()})]
        if self.reports_checksums and PREFIX + "algorithm" in upload.headers:
            lines.append(
                _elements({"ChecksumAlgorithm": upload.algorithm.upper(), "ChecksumType": upload.checksum_type})
            )
        if shown:
            lines.append(_elements({"NextPartNumberMarker": str(shown[-1])}))
        for number in shown:
            part = upload.parts[number]
            names = {"PartNumber": str(number), "ETag": f'"{part.etag}"', "Size": str(len(part.data))}
            if self.reports_checksums:
                names[f"Checksum{upload.algorithm.upper()}"] = part.checksum
            lines.append(f"<Part>{_elements(names)}</Part>")
        return Reply(200, {}, _document("ListPartsResult", "".join(lines)))

    def _list_multipart_uploads(self, call: Call) -> Reply:
        prefix = call.query.get("prefix", "")
        lines = [_elements({"Bucket": call.bucket, "IsTruncated": "false"})]
        for upload in self.uploads.values():
            if not upload.ended and upload.bucket == call.bucket and upload.key.startswith(prefix):
                told = {"Key": upload.key, "UploadId": upload.upload_id, "Initiated": upload.initiated.isoformat()}
                lines.append(f"<Upload>{_elements(told)}</Upload>")
        return Reply(200, {}, _document("ListMultipartUploadsResult", "".join(lines)))

    def _list_objects_v2(self, call: Call) -> Reply:
        """Keys and common prefixes in the order of their UTF-8 bytes; a token names the last entry of its page."""
        query = call.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after, most = query.get("start-after", ""), min(int(query.get("max-keys") or 1000), 1000)
        if "continuation-token" in query:
            after = base64.urlsafe_b64decode(query["continuation-token"]).decode()
        keys = sorted((key for key in self._objects[call.bucket] if key.startswith(prefix)), key=str.encode)
        entries: dict[str, bool] = {}  # whether it is a common prefix
        for key in keys:
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            entries[key if at < 0 else key[: at + len(delimiter)]] = at >= 0
        rest = [name for name in entries if name.encode() > after.encode()]
        shown = rest[:most]
        names = {"Name": call.bucket, "Prefix": prefix, "KeyCount": str(len(shown)), "MaxKeys": str(most)}
        names |= {"EncodingType": "url", "IsTruncated": str(len(rest) > most).lower()}
        if "continuation-token" in query:
            names["ContinuationToken"] = query["continuation-token"]
        if len(rest) > most:
            names["NextContinuationToken"] = base64.urlsafe_b64encode(shown[-1].encode()).decode()
        lines = [_elements(names)]
        for name in shown:
            if entries[name]:
                lines.append(f"<CommonPrefixes><Prefix>{quote_plus(name, safe='/')}</Prefix></CommonPrefixes>")
                continue
            version = self._objects[call.bucket][name][-1]
            told = {"Key": quote_plus(name, safe="/"), "LastModified": "2026-11-25T10:00:00.000Z"}
            told |= {"ETag": f'"{version.etag}"', "Size": str(len(version.data)), "StorageClass": "STANDARD"}
            lines.append(f"<Contents>{_elements(told)}</Contents>")
        return Reply(200, {"Content-Type": "application/xml"}, _document("ListBucketResult", "".join(lines)))

    def _delete_objects(self, call: Call) -> Reply:
        if call.headers.get("content-md5") != base64.b64encode(hashlib.md5(call.body).digest()).decode():
            raise Refusal(400, "BadDigest", "Content-MD5")
        space = "{http://s3.amazonaws.com/doc/2006-03-01/}"
        for one in ElementTree.fromstring(call.body).iter(f"{space}Object"):
            self._objects[call.bucket].pop(one.findtext(f"{space}Key") or "", None)
        return Reply(200, {"Content-Type": "application/xml"}, _document("DeleteResult", ""))

    def _get_object(self, call: Call) -> Reply:
        version = self._wanted(call)
        size = len(version.data)
        headers = self._object_headers(version)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", call.headers.get("range", ""))
        if asked is None:
            if call.headers.get(PREFIX + "mode") == "ENABLED":
                headers |= self._reported(*version.checksum)
            return Reply(200, headers, version.data)
        first, last = int(asked[1]), min(int(asked[2] or size), size - 1)
        if first >= size:
            raise Refusal(416, "InvalidRange", "the range is not satisfiable")
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return Reply(206, headers, version.data[first : last + 1])

    def _head_bucket(self, _: Call) -> Reply:
        return Reply(200, {"x-amz-bucket-region": "us-east-1"})

    def _head_object(self, call: Call) -> Reply:
        version = self._wanted(call)
        headers = self._object_headers(version)
        if call.headers.get(PREFIX + "mode") == "ENABLED":
            headers |= self._reported(*version.checksum)
        return Reply(200, headers, b"", len(version.data))

    def _delete_object(self, call: Call) -> Reply:
        named = call.query.get("versionId")
        kept = [one for one in self._objects[call.bucket].pop(call.key, ()) if named not in (None, one.version_id)]
        if kept:
            self._objects[call.bucket][call.key] = kept
        return Reply(204)

    # ----------------------------------------------------------------------------------------------- decisions

    def _current(self, call: Call) -> Version | None:
        versions = self._objects[call.bucket].get(call.key)
        return versions[-1] if versions else None

    def _wanted(self, call: Call) -> Version:
        found = self._current(call)
        asked = call.query.get("versionId")
        if asked is not None:
            named = (one for one in self._objects[call.bucket].get(call.key, ()) if one.version_id == asked)
            found = next(named, None)
        if found is None:
            raise Refusal(404, "NoSuchKey" if asked is None else "NoSuchVersion", call.key)
        if call.headers.get("if-match", f'"{found.etag}"').strip('"') not in (found.etag, "*"):
            raise Refusal(412, "PreconditionFailed", "If-Match")
        if call.headers.get("if-none-match", "").strip('"') in (found.etag, "*"):
            raise Refusal(304, "NotModified")
        return found

    def _check_conditions(self, call: Call) -> None:
        """If-None-Match and If-Match of a write."""
        found = self._current(call)
        if call.headers.get("if-none-match") == "*" and found is not None:
            raise Refusal(412, "PreconditionFailed", "the object exists")
        wanted = call.headers.get("if-match")
        if wanted is not None and found is None:
            raise Refusal(404, "NoSuchKey", call.key)
        if wanted is not None and found is not None and wanted.strip('"') != found.etag:
            raise Refusal(412, "PreconditionFailed", "If-Match")

    def _open_upload(self, call: Call) -> Upload:
        upload = self.uploads.get(call.upload_id)
        if upload is None or upload.ended or (upload.bucket, upload.key) != (call.bucket, call.key):
            raise Refusal(404, "NoSuchUpload", "the upload does not exist; it may have been aborted or completed")
        return upload

    def _checked(self, call: Call, algorithm: str = "crc64nvme") -> tuple[str, str]:
        """Algorithm and value of the body's checksum, verified where the caller sent it."""
        digest = call.headers.get("content-md5")
        if digest is not None and digest != base64.b64encode(hashlib.md5(call.body).digest()).decode():
            raise Refusal(400, "BadDigest", "Content-MD5")
        sha256 = call.headers.get("x-amz-content-sha256", "")
        if re.fullmatch("[0-9a-f]{64}", sha256) and sha256 != hashlib.sha256(call.body).hexdigest():
            raise Refusal(400, "XAmzContentSHA256Mismatch", "x-amz-content-sha256")
        for name in BITS:
            told = call.headers.get(PREFIX + name)
            if told is not None:
                value = checksum_of(name, call.body)
                if told != value:
                    raise Refusal(400, self.mismatch_code, f"the {name} of the body is {value}, not {told}")
                return name, value
        return algorithm, checksum_of(algorithm, call.body)

    def _listed_parts(self, call: Call, upload: Upload) -> list[Part]:
        """The parts that Complete names, each compared with what is stored."""
        try:
            root = ElementTree.fromstring(call.body)
        except ElementTree.ParseError:
            raise Refusal(400, "MalformedXML") from None
        found: list[Part] = []
        before = 0
        for one in root.iterfind("{*}Part"):
            number = int(one.findtext("{*}PartNumber") or 0)
            if number <= before:
                raise Refusal(400, "InvalidPartOrder", f"part {number} after {before}")
            before, part = number, upload.parts.get(number)
            told = one.findtext(f"{{*}}Checksum{upload.algorithm.upper()}")
            if part is None or (one.findtext("{*}ETag") or "").strip('"') != part.etag:
                raise Refusal(400, "InvalidPart", f"part {number} was not found, or its ETag differs")
            if told is None and upload.checksum_type == COMPOSITE and PREFIX + "type" in call.headers:
                raise Refusal(
                    400, "InvalidRequest", f"the upload's checksums are composite; part {number} lacks its own"
                )
            if told is not None and told != part.checksum:
                raise Refusal(400, "InvalidPart", f"the checksum of part {number} differs")
            found.append(part)
        if not found:
            raise Refusal(400, "MalformedXML", "no parts")
        return found

    def _object_checksum(self, upload: Upload, parts: list[Part], data: bytes) -> str:
        if upload.checksum_type == FULL:
            return checksum_of(upload.algorithm, data)
        digests = b"".join(base64.b64decode(part.checksum) for part in parts)
        return f"{checksum_of(upload.algorithm, digests)}-{len(parts)}"

    def _publish(
        self,
        bucket: str,
        key: str,
        data: bytes,
        etag: str,
        checksum: tuple[str, str, str],
        headers: Mapping[str, str] | None = None,
        parts: int | None = None,
    ) -> Version:
        self._written += 1
        kept = {name: value for name, value in (headers or {}).items() if name in KEPT or name.startswith("x-amz-meta")}
        version = Version(f"v{self._written}", data, etag, checksum, kept, datetime.now(UTC), parts)
        self._objects[bucket].setdefault(key, []).append(version)
        return version

    # ------------------------------------------------------------------------------------------------- headers

    def _version_header(self, version: Version) -> dict[str, str]:
        return {"x-amz-version-id": version.version_id} if self.versioned else {}

    def _object_headers(self, version: Version) -> dict[str, str]:
        modified = format_datetime(version.modified, usegmt=True)
        told = {"ETag": f'"{version.etag}"', "Last-Modified": modified, "Accept-Ranges": "bytes"}
        described = {name: value for name, value in version.headers.items() if name != "x-amz-tagging"}
        if "x-amz-tagging" in version.headers:
            described["x-amz-tagging-count"] = str(len(parse_qsl(version.headers["x-amz-tagging"])))
        return {**told, **described, **self._version_header(version)}

    def _reported(self, algorithm: str, value: str, kind: str | None = "FULL_OBJECT") -> dict[str, str]:
        if not self.reports_checksums:
            return {}
        told = {PREFIX + algorithm: value}
        return told if kind is None else {**told, PREFIX + "type": kind}


FULL, COMPOSITE = "FULL_OBJECT", "COMPOSITE"
KEPT = (
    "content-type", "cache-control", "content-encoding", "content-disposition", "content-language", "expires",
    "x-amz-storage-class", "x-amz-tagging",
)  # fmt: skip


def checksum_of(algorithm: str, data: bytes) -> str:
    """The checksum as S3 writes it: big-endian, in base64."""
    if algorithm.startswith("sha"):
        return base64.b64encode(hashlib.new(algorithm, data).digest()).decode()
    value: int = getattr(checksums, algorithm)(data)
    return base64.b64encode(value.to_bytes(BITS[algorithm] // 8, "big")).decode()


def error_reply(status: int, code: str, message: str = "as told", headers: Mapping[str, str] | None = None) -> Reply:
    """An error document. Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""
    names = {"Code": code, "Message": message, "RequestId": "REQUEST", "HostId": "HOST"}
    told = {"Content-Type": "application/xml", "x-amz-id-2": "HOST", **(headers or {})}
    return Reply(status, told, f"<Error>{_elements(names)}</Error>".encode())


def operation_of(method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    """The operation's name in the API reference."""
    if "x-amz-copy-source" in headers:
        names = {"PUT": "UploadPartCopy" if "uploadId" in query else "CopyObject"}
    elif "tagging" in query:
        names = {"GET": "GetObjectTagging"}
    elif "uploadId" in query:
        part = "partNumber" in query
        names = {
            "PUT": "UploadPart" if part else "PutObject",
            "POST": "CompleteMultipartUpload",
            "DELETE": "AbortMultipartUpload",
            "GET": "ListParts",
        }
    elif "uploads" in query:
        names = {"POST": "CreateMultipartUpload", "GET": "ListMultipartUploads"}
    elif "versions" in query:
        names = {"GET": "ListObjectVersions"}
    elif "delete" in query:
        names = {"POST": "DeleteObjects"}
    elif key:
        names = {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}
    else:
        names = {"HEAD": "HeadBucket", "GET": "ListObjectsV2", "PUT": "CreateBucket"}
    return names.get(method, f"Unknown{method.title()}")


def _snake(operation: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()


def _elements(names: Mapping[str, str]) -> str:
    return "".join(f"<{name}>{escape(text)}</{name}>" for name, text in names.items())


def _document(name: str, content: str) -> bytes:
    namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{name} xmlns="{namespace}">{content}</{name}>'.encode()
