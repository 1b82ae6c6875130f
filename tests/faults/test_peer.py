"""The scripted peer itself is right: boto3 and plain urllib3 see in it the store and the faults it claims to play."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
import urllib3
from authority import Authority
from behaviours import (
    Clock,
    CorruptInTransit,
    CorruptResponse,
    CorruptStored,
    Drip,
    DripRequest,
    DropAfterHead,
    DropBeforeHead,
    DuplicateResponse,
    EarlyResponse,
    ErrorInside200,
    Expired,
    IgnoreRange,
    InRegion,
    LongBody,
    LostResponse,
    ReplaceObject,
    ResetRequest,
    ResetResponse,
    Serve,
    ShortBody,
    Stall,
    StallRequest,
    StallResponse,
    Status,
    WhiteSpaceFirst,
    Without,
    WithoutETag,
    WrongChecksum,
    WrongContentRange,
    WrongETag,
)
from botocore.config import Config
from botocore.exceptions import ClientError
from marks import over_both
from model import MIB, checksum_of
from peer import Behaviour, Peer, Rule

pytestmark = over_both
DATA = random.Random(1).randbytes(5 * MIB)
TAIL = random.Random(2).randbytes(70_001)
WHOLE = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}


@pytest.fixture
def boto(peer: Peer, authority: Authority) -> Iterator[Any]:
    """boto3 as an independent client: one attempt, checksums only where the test gives them."""
    settings = Config(
        s3={"addressing_style": "path"},
        retries={"total_max_attempts": 1},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    made = boto3.client(
        "s3",
        endpoint_url=peer.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="id",
        aws_secret_access_key="secret",
        verify=str(authority.bundle),
        config=settings,
    )
    yield made
    made.close()


@pytest.fixture
def http(peer: Peer, authority: Authority) -> Iterator[Callable[..., urllib3.BaseHTTPResponse]]:
    with urllib3.PoolManager(ca_certs=str(authority.bundle), retries=False, timeout=10, maxsize=1) as pool:

        def ask(method: str, path: str, body: bytes | None = None, **headers: str) -> urllib3.BaseHTTPResponse:
            told = {name.replace("_", "-"): value for name, value in headers.items()}
            return pool.request(method, peer.endpoint_url + path, body=body, headers=told)

        yield ask


def start_upload(boto: Any, **options: Any) -> dict[str, Any]:
    made = boto.create_multipart_upload(Bucket="b", Key="k", **options)
    return {"Bucket": "b", "Key": "k", "UploadId": made["UploadId"]}


def put_parts(boto: Any, upload: dict[str, Any], *bodies: bytes) -> dict[str, Any]:
    parts = []
    for number, body in enumerate(bodies, 1):
        stored = boto.upload_part(**upload, PartNumber=number, Body=body)
        parts.append({"PartNumber": number, "ETag": stored["ETag"]})
    return {"Parts": parts}


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> str:
    code: str = caught.value.response["Error"]["Code"]
    return code


# ------------------------------------------------------------------------------------------------------ the model


def test_an_object_comes_back_as_it_was_put(boto: Any, peer: Peer) -> None:
    stored = boto.put_object(Bucket="b", Key="a/b c+d", Body=TAIL, ContentType="x/y", Metadata={"who": "me"})
    found = boto.get_object(Bucket="b", Key="a/b c+d", ChecksumMode="ENABLED")
    assert found["Body"].read() == TAIL
    assert found["ETag"] == stored["ETag"] == f'"{hashlib.md5(TAIL).hexdigest()}"'
    assert (found["ContentType"], found["Metadata"]) == ("x/y", {"who": "me"})
    assert (found["ChecksumCRC64NVME"], found["ChecksumType"]) == (checksum_of("crc64nvme", TAIL), "FULL_OBJECT")
    assert boto.head_object(Bucket="b", Key="a/b c+d")["ContentLength"] == len(TAIL)
    assert [one.operation for one in peer.requests()] == ["PutObject", "GetObject", "HeadObject"]


def test_a_multipart_object_has_the_checksum_of_its_bytes(boto: Any, peer: Peer) -> None:
    upload = start_upload(boto, **WHOLE)
    assert peer.store.orphans() == [upload["UploadId"]]
    assert [one["UploadId"] for one in boto.list_multipart_uploads(Bucket="b")["Uploads"]] == peer.store.orphans()
    parts = put_parts(boto, upload, DATA, TAIL)
    listed = boto.list_parts(**upload)["Parts"]
    assert [(one["PartNumber"], one["Size"]) for one in listed] == [(1, len(DATA)), (2, len(TAIL))]
    whole = checksum_of("crc64nvme", DATA + TAIL)
    done = boto.complete_multipart_upload(**upload, MultipartUpload=parts, ChecksumCRC64NVME=whole)
    assert done["ChecksumCRC64NVME"] == whole
    assert done["ETag"].endswith('-2"')
    assert [version.data for version in peer.store.versions("b", "k")] == [DATA + TAIL]
    assert peer.store.orphans() == []


def test_a_composite_checksum_is_of_the_parts_checksums(boto: Any) -> None:
    upload = start_upload(boto, ChecksumAlgorithm="CRC32C")
    parts = put_parts(boto, upload, DATA, TAIL)
    done = boto.complete_multipart_upload(**upload, MultipartUpload=parts)
    both = base64.b64decode(checksum_of("crc32c", DATA)) + base64.b64decode(checksum_of("crc32c", TAIL))
    assert done["ChecksumCRC32C"] == checksum_of("crc32c", both) + "-2"


def test_an_aborted_upload_is_gone_and_no_orphan(boto: Any, peer: Peer) -> None:
    upload = start_upload(boto)
    put_parts(boto, upload, DATA)
    boto.abort_multipart_upload(**upload)
    assert peer.store.orphans() == []
    for again in (boto.abort_multipart_upload, boto.list_parts):
        with pytest.raises(ClientError, match="NoSuchUpload"):
            again(**upload)


Refused = Callable[[Any], object]
REFUSED: dict[str, tuple[str, Refused]] = {
    "wrong-checksum-of-an-object": (
        "BadDigest",
        lambda boto: boto.put_object(Bucket="b", Key="k", Body=TAIL, ChecksumCRC64NVME=checksum_of("crc64nvme", b"")),
    ),
    "wrong-md5": (
        "BadDigest",
        lambda boto: boto.put_object(Bucket="b", Key="k", Body=TAIL, ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg=="),
    ),
    "wrong-checksum-of-a-part": (
        "BadDigest",
        lambda boto: boto.upload_part(
            **start_upload(boto), PartNumber=1, Body=TAIL, ChecksumCRC64NVME=checksum_of("crc64nvme", b"")
        ),
    ),
    "wrong-checksum-of-the-whole": ("BadDigest", lambda boto: complete(boto, ChecksumCRC64NVME="AAAAAAAAAAA=")),
    "wrong-size-of-the-whole": ("InvalidRequest", lambda boto: complete(boto, MpuObjectSize=5)),
    "short-part-in-the-middle": ("EntityTooSmall", lambda boto: complete(boto, TAIL, DATA)),
    "unknown-part": ("InvalidPart", lambda boto: complete(boto, changed=lambda parts: parts[0].update(ETag="x"))),
    "parts-out-of-order": ("InvalidPartOrder", lambda boto: complete(boto, changed=lambda parts: parts.reverse())),
    "no-parts": ("MalformedXML", lambda boto: complete(boto, changed=lambda parts: parts.clear())),
    "exists": (
        "PreconditionFailed",
        lambda boto: [boto.put_object(Bucket="b", Key="k", Body=b"", IfNoneMatch="*") for _ in range(2)],
    ),
    "replaced": (
        "PreconditionFailed",
        lambda boto: [boto.put_object(Bucket="b", Key="k", Body=b""), complete(boto, IfMatch="x")],
    ),
    "no-such-key": ("NoSuchKey", lambda boto: boto.get_object(Bucket="b", Key="k")),
    "no-such-bucket": ("NoSuchBucket", lambda boto: boto.get_object(Bucket="other", Key="k")),
    "past-the-end": (
        "InvalidRange",
        lambda boto: [boto.put_object(Bucket="b", Key="k", Body=b"123"), ranged(boto, "bytes=3-")],
    ),
}


def complete(boto: Any, *bodies: bytes, changed: Callable[[list[Any]], object] = lambda _: None, **told: Any) -> object:
    upload = start_upload(boto, **WHOLE)
    parts = put_parts(boto, upload, *(bodies or (DATA, TAIL)))
    changed(parts["Parts"])
    return boto.complete_multipart_upload(**upload, MultipartUpload=parts, **told)


def ranged(boto: Any, asked: str) -> bytes:
    body: bytes = boto.get_object(Bucket="b", Key="k", Range=asked)["Body"].read()
    return body


@pytest.mark.parametrize(("code", "act"), REFUSED.values(), ids=REFUSED)
def test_what_s3_refuses_is_refused_in_its_words(boto: Any, code: str, act: Refused) -> None:
    with pytest.raises(ClientError) as caught:
        act(boto)
    assert code_of(caught) == code


def test_a_range_is_of_the_version_asked_for(boto: Any, peer: Peer) -> None:
    etag = boto.put_object(Bucket="b", Key="k", Body=TAIL)["ETag"]
    found = boto.get_object(Bucket="b", Key="k", Range="bytes=100-199", IfMatch=etag)
    assert (found["Body"].read(), found["ContentRange"]) == (TAIL[100:200], f"bytes 100-199/{len(TAIL)}")
    peer.store.put("b", "k", b"other")
    with pytest.raises(ClientError) as caught:
        boto.get_object(Bucket="b", Key="k", Range="bytes=100-199", IfMatch=etag)
    assert code_of(caught) == "PreconditionFailed"


def test_small_parts_are_taken_where_the_store_is_told_so(boto: Any, peer: Peer) -> None:
    peer.store.smallest_part = 1
    complete(boto, b"a", b"b", b"c")
    assert peer.store.versions("b", "k")[-1].data == b"abc"


def test_a_versioned_store_names_and_keeps_versions(boto: Any, peer: Peer) -> None:
    peer.store.versioned = True
    first = boto.put_object(Bucket="b", Key="k", Body=b"1")["VersionId"]
    boto.put_object(Bucket="b", Key="k", Body=b"2")
    assert boto.get_object(Bucket="b", Key="k", VersionId=first)["Body"].read() == b"1"


# ------------------------------------------------------------------------------------------------------ the script


def test_rules_choose_by_operation_part_and_attempt(boto: Any, peer: Peer) -> None:
    peer.play(Rule("UploadPart", part=2, attempt=1, do=Status(503, "SlowDown")))
    upload = start_upload(boto)
    put_parts(boto, upload, DATA)
    with pytest.raises(ClientError, match="SlowDown"):
        boto.upload_part(**upload, PartNumber=2, Body=TAIL)
    boto.upload_part(**upload, PartNumber=2, Body=TAIL)
    assert [(one.part, one.attempt, one.status) for one in peer.requests("UploadPart")] == [
        (1, 1, 200),
        (2, 1, 503),
        (2, 2, 200),
    ]
    assert [one.received for one in peer.requests("UploadPart")] == [len(DATA), len(TAIL), len(TAIL)]


def test_rules_choose_by_range_and_the_first_that_matches_acts(boto: Any, peer: Peer) -> None:
    peer.store.put("b", "k", TAIL)
    peer.play(Rule("GetObject", offset=10, attempt=range(1, 3), do=Status(500)), Rule(do=Serve()))
    for _ in range(2):
        with pytest.raises(ClientError, match="500"):
            ranged(boto, "bytes=10-19")
    assert ranged(boto, "bytes=10-19") == TAIL[10:20]
    assert ranged(boto, "bytes=0-9") == TAIL[:10]


Http = Callable[..., urllib3.BaseHTTPResponse]
BROKEN: dict[str, Behaviour] = {
    "drop-before-head": DropBeforeHead(),
    "drop-after-head": DropAfterHead(),
    "reset-at-the-request": ResetRequest(),
    "reset-in-the-request": ResetRequest(at=5),
    "reset-after-the-head": ResetResponse(),
    "reset-in-the-response": ResetResponse(at=5),
    "short-body": ShortBody(),
    "lost-response": LostResponse(),
}


@pytest.mark.parametrize("behaviour", BROKEN.values(), ids=BROKEN)
def test_a_broken_connection_is_broken_for_every_client(peer: Peer, http: Http, behaviour: Behaviour) -> None:
    peer.store.put("b", "k", TAIL)
    peer.play(Rule("GetObject", attempt=1, do=behaviour))
    with pytest.raises(urllib3.exceptions.HTTPError):
        http("GET", "/b/k", body=b"request body")
    assert http("GET", "/b/k").data == TAIL


def test_a_lost_response_has_taken_effect(peer: Peer, http: Http) -> None:
    peer.play(Rule("PutObject", do=LostResponse()))
    with pytest.raises(urllib3.exceptions.HTTPError):
        http("PUT", "/b/k", body=TAIL)
    assert peer.store.versions("b", "k")[-1].data == TAIL


@pytest.mark.parametrize("behaviour", [Stall(), StallRequest(), StallResponse(at=5)], ids=lambda one: repr(one))
def test_a_stalled_peer_goes_on_when_it_is_resumed(peer: Peer, http: Http, behaviour: Behaviour) -> None:
    peer.play(Rule(do=behaviour))
    peer.store.put("b", "k", TAIL)
    answers: list[bytes] = []
    thread = threading.Thread(target=lambda: answers.append(http("GET", "/b/k").data))
    thread.start()
    peer.wait_for(lambda: len(peer.requests()) == 1)
    assert answers == []
    peer.resume()
    thread.join(20)
    assert answers == [TAIL]


def test_a_stalled_peer_can_be_closed(peer: Peer, http: Http) -> None:
    peer.play(Rule(do=Stall()))
    errors: list[Exception] = []

    def ask() -> None:
        try:
            http("GET", "/b/k")
        except urllib3.exceptions.HTTPError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    peer.wait_for(lambda: len(peer.requests()) == 1)
    peer.close()
    thread.join(20)
    assert len(errors) == 1


@pytest.mark.parametrize("behaviour", [Drip(), DripRequest(pause=0.01)], ids=repr)
def test_a_dripping_peer_is_slow_and_right(peer: Peer, http: Http, behaviour: Behaviour) -> None:
    peer.store.put("b", "k", TAIL)
    peer.play(Rule(do=behaviour))
    assert http("PUT", "/b/other", body=DATA).status == 200
    assert http("GET", "/b/k").data == TAIL
    assert peer.store.versions("b", "other")[-1].data == DATA


def test_an_early_response_comes_before_the_body_has_gone(peer: Peer, boto: Any) -> None:
    peer.play(Rule("PutObject", do=EarlyResponse(503, "SlowDown", after=1000)))
    with pytest.raises(ClientError, match="SlowDown"):
        boto.put_object(Bucket="b", Key="k", Body=DATA)
    assert peer.requests()[0].status == 503


def test_corruption_in_transit_is_refused(peer: Peer, boto: Any) -> None:
    told = {"Bucket": "b", "Key": "k", "Body": TAIL, "ChecksumCRC64NVME": checksum_of("crc64nvme", TAIL)}
    peer.play(Rule("PutObject", do=CorruptInTransit(at=7)))
    with pytest.raises(ClientError) as caught:
        boto.put_object(**told)
    assert code_of(caught) in ("BadDigest", "XAmzContentSHA256Mismatch")
    assert peer.store.versions("b", "k") == []


def test_what_is_stored_corrupt_differs_in_one_byte(peer: Peer, http: Http) -> None:
    peer.play(Rule("PutObject", do=CorruptStored(at=7)))
    answer = http("PUT", "/b/k", body=TAIL, x_amz_checksum_crc64nvme=checksum_of("crc64nvme", TAIL))
    assert answer.headers["x-amz-checksum-crc64nvme"] == checksum_of("crc64nvme", TAIL)
    stored = peer.store.versions("b", "k")[-1].data
    assert [at for at in range(len(TAIL)) if stored[at] != TAIL[at]] == [7]


def test_altered_answers_differ_in_one_thing(peer: Peer, http: Http) -> None:
    version = peer.store.put("b", "k", TAIL)
    asked = {"range": "bytes=5-9", "x_amz_checksum_mode": "ENABLED"}
    altered: list[tuple[Behaviour, int, bytes, str | None]] = [
        (CorruptResponse(), 206, bytes([TAIL[5] ^ 1]) + TAIL[6:10], f'"{version.etag}"'),
        (WithoutETag(), 206, TAIL[5:10], None),
        (WrongETag("x"), 206, TAIL[5:10], '"x"'),
        (IgnoreRange(), 200, TAIL, f'"{version.etag}"'),
        (WrongContentRange("bytes 6-10/70001"), 206, TAIL[5:10], f'"{version.etag}"'),
        (ShortBody(by=2, announced=True), 206, TAIL[5:8], f'"{version.etag}"'),
        (LongBody(by=2, announced=True), 206, TAIL[5:10] + b"XX", f'"{version.etag}"'),
        (ReplaceObject(b"0123456789"), 206, b"56789", f'"{hashlib.md5(b"0123456789").hexdigest()}"'),
    ]
    for behaviour, status, body, etag in altered:
        peer.play(Rule(do=behaviour))
        answer = http("GET", "/b/k", **asked)
        assert (answer.status, answer.data, answer.headers.get("etag")) == (status, body, etag), behaviour


def test_a_wrong_checksum_is_told_for_right_bytes(peer: Peer, http: Http) -> None:
    peer.store.put("b", "k", TAIL)
    peer.play(Rule(do=WrongChecksum()))
    answer = http("GET", "/b/k", x_amz_checksum_mode="ENABLED")
    assert answer.data == TAIL
    assert answer.headers["x-amz-checksum-crc64nvme"] != checksum_of("crc64nvme", TAIL)


@pytest.mark.parametrize(
    ("behaviour", "answers", "end"), [(DuplicateResponse(), 2, b"hello"), (LongBody(by=3), 1, b"helloXXX")], ids=repr
)
def test_a_duplicate_or_long_answer_leaves_bytes_on_the_connection(
    peer: Peer, authority: Authority, behaviour: Behaviour, answers: int, end: bytes
) -> None:
    peer.store.put("b", "k", b"hello")
    peer.play(Rule(do=behaviour))
    scheme, _, port = peer.endpoint_url.replace("://", ":").split(":")
    with socket.create_connection(("127.0.0.1", int(port)), 10) as plain, contextlib.ExitStack() as stack:
        context = ssl.create_default_context(cafile=str(authority.bundle))
        wrapped = context.wrap_socket(plain, server_hostname="localhost") if scheme == "https" else plain
        sock = stack.enter_context(wrapped)
        sock.sendall(b"GET /b/k HTTP/1.1\r\nHost: x\r\n\r\n")
        came = b""
        while not came.endswith(end) or came.count(b"HTTP/1.1 200 OK") < answers:
            came += sock.recv(1 << 16)
    assert came.count(b"HTTP/1.1 200 OK") == answers
    assert came.endswith(end)


@pytest.mark.parametrize("declaration", [False, True])
def test_white_space_comes_before_the_document(peer: Peer, boto: Any, declaration: bool) -> None:
    slow = WhiteSpaceFirst(pause=0.001, declaration=declaration)
    peer.play(Rule("CompleteMultipartUpload", do=slow))
    complete(boto)
    assert peer.store.versions("b", "k")[-1].data == DATA + TAIL


@pytest.mark.parametrize("behaviour", [ErrorInside200(), WhiteSpaceFirst(pause=0.001, error="InternalError")], ids=repr)
def test_an_error_inside_a_200_has_no_effect(peer: Peer, boto: Any, behaviour: Behaviour) -> None:
    peer.play(Rule("CompleteMultipartUpload", do=behaviour))
    with pytest.raises(ClientError, match="InternalError"):
        complete(boto)
    assert len(peer.store.orphans()) == 1


@pytest.mark.parametrize("status", [301, 307, 400])
def test_another_region_redirects_until_the_request_is_signed_for_it(peer: Peer, boto: Any, status: int) -> None:
    peer.store.put("b", "k", TAIL)
    peer.play(Rule(do=InRegion("eu-west-1", status)))
    assert boto.get_object(Bucket="b", Key="k")["Body"].read() == TAIL
    first, *_, last = peer.requests("GetObject")
    assert (first.status, "/us-east-1/" in first.headers["authorization"]) == (status, True)
    assert (last.status, "/eu-west-1/" in last.headers["authorization"]) == (200, True)


def test_a_clock_that_is_off_refuses_and_tells_its_time(peer: Peer, boto: Any) -> None:
    peer.play(Rule(do=Clock(ahead=3600)))
    with pytest.raises(ClientError) as caught:
        boto.get_object(Bucket="b", Key="k")
    assert code_of(caught) == "RequestTimeTooSkewed"
    peer.play(Rule(do=Clock(ahead=60)))
    with pytest.raises(ClientError, match="NoSuchKey"):
        boto.get_object(Bucket="b", Key="k")


def test_an_expired_token_and_an_unknown_algorithm_are_refused(peer: Peer, http: Http) -> None:
    peer.play(Rule("GetObject", do=Expired("old")), Rule("PutObject", do=Without(("crc64nvme",))))
    peer.store.put("b", "k", TAIL)
    assert http("GET", "/b/k", x_amz_security_token="old").status == 400
    assert http("GET", "/b/k", x_amz_security_token="new").data == TAIL
    assert http("PUT", "/b/k", body=b"x", x_amz_checksum_crc64nvme="AAAAAAAAAAA=").status == 400
    assert http("PUT", "/b/k", body=b"x").status == 200


def test_bytes_of_a_part_after_the_abort_are_counted(peer: Peer, boto: Any) -> None:
    upload = start_upload(boto)
    peer.play(Rule("UploadPart", do=StallRequest(at=1000)))
    codes: list[str] = []

    def send() -> None:
        try:
            boto.upload_part(**upload, PartNumber=1, Body=DATA * 2)
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])

    thread = threading.Thread(target=send)
    thread.start()
    peer.wait_for(lambda: sum(one.received for one in peer.requests("UploadPart")) >= 1000)
    boto.abort_multipart_upload(**upload)
    peer.resume()
    thread.join(20)
    assert codes == ["NoSuchUpload"]
    assert 0 < peer.late_bytes() < len(DATA) * 2


def test_a_peer_without_rules_is_quiet_after_its_requests(peer: Peer, http: Http) -> None:
    http("GET", "/b/k")
    peer.wait_until_quiet()
    assert [one.status for one in peer.requests()] == [404]


def test_a_wait_that_is_in_vain_tells_what_was_asked(peer: Peer) -> None:
    with pytest.raises(AssertionError, match="did not happen"):
        peer.wait_for(lambda: False, timeout=0.01)
