"""What an upload promises when the store or the way to it fails.

After every fault either the object is stored exactly, or an error of the contract is raised and no object is
there; and nothing is left on the store that somebody would go on paying for.
"""

from __future__ import annotations

import logging
import random
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from behaviours import (
    Clock,
    CorruptInTransit,
    CorruptStored,
    Drip,
    DripRequest,
    DropAfterHead,
    DropBeforeHead,
    DuplicateResponse,
    EarlyResponse,
    ErrorInside200,
    Expired,
    InRegion,
    LongBody,
    LostResponse,
    Page,
    ReplaceObject,
    ResetRequest,
    ResetResponse,
    ShortBody,
    Stall,
    StallRequest,
    StallResponse,
    Status,
    WhiteSpaceFirst,
    Without,
    WithoutHeader,
    WrongChecksum,
    WrongETag,
)
from marks import ATTEMPTS, Connect, over_both
from model import MIB, checksum_of
from peer import Behaviour, Peer, Rule

import s3dlio
from s3dlio import Client, UploadInfo

PART = 5 * MIB
DATA = random.Random(11).randbytes(PART + 300_001)  # two parts
LONG = random.Random(14).randbytes(2 * PART + MIB + 17)  # three parts
SMALL = random.Random(12).randbytes(300_001)  # one PutObject
OTHER = random.Random(13).randbytes(len(DATA))
URI = "s3://b/k"
CREATE, UPLOAD_PART, COMPLETE, PUT = "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject"
OPERATIONS = [CREATE, UPLOAD_PART, COMPLETE, PUT]


def bytes_for(operation: str) -> bytes:
    return SMALL if operation == PUT else DATA


def rule_for(operation: str, do: Behaviour, attempt: Any = 1) -> Rule:
    return Rule(operation, part=1 if operation == UPLOAD_PART else None, attempt=attempt, do=do)


def upload(client: Client, data: bytes, **options: Any) -> UploadInfo:
    with client.writer(URI, part_size=PART, **options) as writer:
        writer.write(data)
    return writer.close()


def assert_stored_exactly(peer: Peer, info: UploadInfo, data: bytes) -> None:
    versions = peer.store.versions("b", "k")
    assert versions, peer.transcript()
    assert versions[-1].data == data
    assert info.total_bytes == len(data)
    assert info.etag == versions[-1].etag
    if info.checksum_algorithm == "sha256":
        assert info.checksum == versions[-1].checksum[1]
    elif info.checksum_algorithm is not None:
        assert info.checksum == checksum_of(info.checksum_algorithm, data)
    assert peer.store.orphans() == [], peer.transcript()


def assert_nothing_left(peer: Peer) -> None:
    peer.wait_for(lambda: not peer.store.orphans(), timeout=5)
    assert peer.store.versions("b", "k") == []


# ------------------------------------------------------------------------------------------------ what is cured

PASSING: dict[str, Behaviour] = {
    "slow-down": Status(503, "SlowDown"),
    "internal-error": Status(500, "InternalError"),
    "gateway": Status(502),
    "too-many": Status(429, "TooManyRequests"),
    "request-timeout": Status(400, "RequestTimeout"),
    "drop-before-head": DropBeforeHead(),
    "reset-at-once": ResetRequest(),
    "reset-in-the-request": ResetRequest(at=100),
    "early-503": EarlyResponse(503, "SlowDown", after=100),
    "early-500": EarlyResponse(500, "InternalError"),
    "drip": Drip(pieces=5, pause=0.02),
    "drip-request": DripRequest(pieces=5, pause=0.02),
    "duplicate-response": DuplicateResponse(),
    "long-body": LongBody(),
}


@over_both
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_passing_fault_leaves_the_object_exact(peer: Peer, client: Client, operation: str, fault: Behaviour) -> None:
    peer.play(rule_for(operation, fault))
    info = upload(client, bytes_for(operation))
    assert_stored_exactly(peer, info, bytes_for(operation))


LOST: dict[str, Behaviour] = {
    "500": LostResponse(Status(500, "InternalError")),
    "504": LostResponse(Status(504)),
    "head-only-reset": ResetResponse(),
    "head-only-closed": DropAfterHead(),
    "reset-in-the-answer": ResetResponse(at=20),
}


@over_both
def test_an_early_refusal_stops_the_body(peer: Peer, client: Client) -> None:
    large = bytes(64 * MIB)  # far more than kernels keep on the way
    peer.play(Rule(PUT, do=EarlyResponse(403, "AccessDenied", after=MIB)))
    with pytest.raises(s3dlio.AccessDeniedError):
        client.put_bytes(URI, large, part_size=64 * MIB)
    peer.wait_until_quiet()
    (asked,) = peer.requests(PUT)
    assert MIB <= asked.received < len(large) // 2


@over_both
@pytest.mark.parametrize("operation", [UPLOAD_PART, COMPLETE, PUT])
@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
def test_an_answer_lost_after_success_leaves_the_object_exact(
    peer: Peer, client: Client, operation: str, fault: Behaviour
) -> None:
    peer.play(rule_for(operation, fault))
    info = upload(client, bytes_for(operation))
    assert_stored_exactly(peer, info, bytes_for(operation))
    assert all(version.data == bytes_for(operation) for version in peer.store.versions("b", "k"))


@over_both
@pytest.mark.parametrize(
    "operation",
    [
        UPLOAD_PART,
        PUT,
        COMPLETE,
    ],
)
def test_a_connection_closed_after_success_leaves_the_object_exact(peer: Peer, client: Client, operation: str) -> None:
    peer.play(rule_for(operation, LostResponse()))
    info = upload(client, bytes_for(operation))
    assert_stored_exactly(peer, info, bytes_for(operation))


def test_a_lost_answer_to_create_is_named_in_a_warning(
    peer: Peer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    peer.play(Rule(CREATE, attempt=1, do=LostResponse()))
    with caplog.at_level(logging.WARNING, "s3dlio"):
        info = upload(client, DATA)
    assert peer.store.versions("b", "k")[-1].data == DATA
    assert peer.store.orphans() == ["upload-1"]  # nobody was told its id, and a guess might be another writer's
    assert info.upload_id == "upload-2"
    assert any("b/k" in text and "unseen: 1;" in text and "list_uploads" in text for text in caplog.messages)


def test_the_warning_counts_every_lost_answer_to_create(
    peer: Peer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    peer.play(Rule(CREATE, attempt={1, 2}, do=LostResponse()))
    with caplog.at_level(logging.WARNING, "s3dlio"):
        upload(client, DATA)
    assert peer.store.orphans() == ["upload-1", "upload-2"]
    assert ["unseen: 2;" in text for text in caplog.messages] == [True]


def test_an_answer_to_create_that_cannot_be_read_is_named_in_the_warning(
    peer: Peer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    peer.play(Rule(CREATE, attempt=1, do=LostResponse(Status(200))))
    with caplog.at_level(logging.WARNING, "s3dlio"):
        info = upload(client, DATA)
    assert (info.upload_id, peer.store.orphans()) == ("upload-2", ["upload-1"])
    assert ["unseen: 1;" in text for text in caplog.messages] == [True]


def test_answers_to_create_that_can_never_be_read_are_an_error_that_counts_them(
    peer: Peer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    peer.play(Rule(CREATE, do=LostResponse(Page())))
    with caplog.at_level(logging.WARNING, "s3dlio"), pytest.raises(s3dlio.TransportError, match="cannot be read"):
        upload(client, DATA)
    assert len(peer.store.orphans()) == ATTEMPTS
    assert [f"unseen: {ATTEMPTS};" in text for text in caplog.messages] == [True]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", [Stall(), StallRequest(at=100)], ids=["no-answer", "in-the-request"])
def test_a_stalled_request_is_sent_again(peer: Peer, impatient: Client, operation: str, fault: Behaviour) -> None:
    peer.play(rule_for(operation, fault))
    info = upload(impatient, bytes_for(operation))
    assert_stored_exactly(peer, info, bytes_for(operation))


def test_a_stalled_answer_to_complete_is_asked_for_again(peer: Peer, impatient: Client) -> None:
    peer.play(Rule(COMPLETE, attempt=1, do=StallResponse(at=20)))
    info = upload(impatient, DATA)
    assert_stored_exactly(peer, info, DATA)


def test_a_slow_upload_that_advances_is_never_given_up(peer: Peer, connect: Connect) -> None:
    large = random.Random(15).randbytes(24 * MIB)  # far more than kernels keep on the way
    peer.play(Rule(PUT, do=DripRequest(pieces=12, pause=0.12)))
    connect(peer, deadline=1.0).put_bytes(URI, large, part_size=32 * MIB)
    assert peer.store.versions("b", "k")[-1].data == large
    assert len(peer.requests(PUT)) == 1


@pytest.mark.parametrize("declaration", [True, False], ids=["declaration", "no-declaration"])
def test_white_space_keeps_a_complete_alive_beyond_the_deadline(
    peer: Peer, impatient: Client, declaration: bool
) -> None:
    peer.play(Rule(COMPLETE, do=WhiteSpaceFirst(beats=6, pause=0.15, declaration=declaration)))
    info = upload(impatient, DATA)
    assert_stored_exactly(peer, info, DATA)
    assert len(peer.requests(COMPLETE)) == 1


@pytest.mark.parametrize(
    "fault", [ErrorInside200("InternalError"), WhiteSpaceFirst(pause=0.01, error="InternalError")], ids=repr
)
def test_a_passing_error_inside_a_200_is_sent_again(peer: Peer, client: Client, fault: Behaviour) -> None:
    peer.play(Rule(COMPLETE, attempt=1, do=fault))
    info = upload(client, DATA)
    assert_stored_exactly(peer, info, DATA)


@pytest.mark.parametrize("operation", [PUT, COMPLETE])
def test_an_answer_without_a_checksum_is_checked_otherwise(peer: Peer, client: Client, operation: str) -> None:
    name = "x-amz-checksum-crc64nvme" if operation == PUT else "ChecksumCRC64NVME"
    peer.play(Rule(operation, do=WithoutHeader(name)))
    info = upload(client, bytes_for(operation))
    assert_stored_exactly(peer, info, bytes_for(operation))


@pytest.mark.parametrize("checksum", ["crc64nvme", "crc32c", "crc32", "sha256", None])
def test_a_store_that_reports_no_checksums_takes_objects_too(peer: Peer, client: Client, checksum: str | None) -> None:
    peer.store.reports_checksums = False
    peer.play(Rule(UPLOAD_PART, part=1, attempt=1, do=Status(503, "SlowDown")))
    info = upload(client, DATA, checksum=checksum)
    assert_stored_exactly(peer, info, DATA)


def test_a_flushed_part_whose_answer_was_lost_is_replaced_by_its_successor(peer: Peer, client: Client) -> None:
    peer.play(
        Rule(UPLOAD_PART, part=1, attempt=1, do=LostResponse()),
        Rule(UPLOAD_PART, part=1, attempt=3, do=DropBeforeHead()),
    )
    with client.writer(URI, part_size=PART) as writer:
        writer.write(DATA[: 2 * MIB])
        writer.flush()
        writer.write(DATA[2 * MIB :])
    assert_stored_exactly(peer, writer.close(), DATA)


def test_every_request_failing_once_leaves_the_object_exact(peer: Peer, client: Client) -> None:
    peer.play(Rule(attempt=1, do=Status(503, "SlowDown")), Rule(attempt=2, do=DropBeforeHead()))
    info = upload(client, DATA)
    assert_stored_exactly(peer, info, DATA)


# ---------------------------------------------------------------------------------------------- what is refused

REFUSED: dict[str, tuple[str, Behaviour, type[s3dlio.S3dlioError]]] = {
    f"{operation}-{name}": (operation, fault, error)
    for operation in OPERATIONS
    for name, fault, error in [
        ("403", Status(403, "AccessDenied"), s3dlio.AccessDeniedError),
        ("early-403", EarlyResponse(403, "AccessDenied", after=100), s3dlio.AccessDeniedError),
        ("no-such-bucket", Status(404, "NoSuchBucket"), s3dlio.NotFoundError),
        ("400", Status(400, "InvalidArgument"), s3dlio.S3Error),
        ("501", Status(501, "NotImplemented"), s3dlio.S3Error),
        ("always-503", Status(503, "SlowDown"), s3dlio.ThrottledError),
        ("always-500", Status(500, "InternalError"), s3dlio.S3Error),
        ("always-dropped", DropBeforeHead(), s3dlio.TransportError),
        ("always-reset", ResetRequest(at=100), s3dlio.TransportError),
    ]
} | {
    "part-no-such-upload": (UPLOAD_PART, Status(404, "NoSuchUpload"), s3dlio.NotFoundError),
    "part-wrong-checksum": (UPLOAD_PART, WrongChecksum(), s3dlio.ChecksumMismatchError),
    "complete-412": (COMPLETE, Status(412, "PreconditionFailed"), s3dlio.PreconditionFailedError),
    "complete-409": (COMPLETE, Status(409, "ConditionalRequestConflict"), s3dlio.PreconditionFailedError),
    "complete-no-such-upload": (COMPLETE, Status(404, "NoSuchUpload"), s3dlio.NotFoundError),
    "complete-error-inside-200": (COMPLETE, ErrorInside200("InternalError"), s3dlio.S3Error),
    "complete-white-space-and-error": (COMPLETE, WhiteSpaceFirst(pause=0.01, error="AccessDenied"), s3dlio.S3Error),
    "put-412": (PUT, Status(412, "PreconditionFailed"), s3dlio.PreconditionFailedError),
    "put-always-409": (PUT, Status(409, "ConditionalRequestConflict"), s3dlio.PreconditionFailedError),
}


@pytest.mark.parametrize(("operation", "fault", "error"), REFUSED.values(), ids=REFUSED)
def test_a_lasting_fault_is_a_clear_error_and_nothing_stays(
    peer: Peer, client: Client, operation: str, fault: Behaviour, error: type[Exception]
) -> None:
    peer.play(rule_for(operation, fault, attempt=None))
    with pytest.raises(error, match="b/k") as caught:
        upload(client, bytes_for(operation))
    assert operation in str(caught.value)
    # What a pooled connection loses that the store had closed is sent once more without counting.
    assert len(peer.requests(operation, part=1 if operation == UPLOAD_PART else None)) <= 2 * ATTEMPTS
    assert_nothing_left(peer)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_store_that_never_answers_is_a_timeout(peer: Peer, connect: Connect, operation: str) -> None:
    impatient = connect(peer, deadline=0.2, attempts=2)
    peer.play(rule_for(operation, Stall(), attempt=None))
    with pytest.raises(s3dlio.TimeoutError, match=f"{operation}.*2 attempts"):
        upload(impatient, bytes_for(operation))
    assert_nothing_left(peer)


@pytest.mark.parametrize("operation", [PUT, COMPLETE])
def test_a_wrong_checksum_of_the_published_object_is_an_error(peer: Peer, client: Client, operation: str) -> None:
    peer.play(Rule(operation, do=WrongChecksum()))
    with pytest.raises(s3dlio.ChecksumMismatchError, match="b/k"):
        upload(client, bytes_for(operation))
    assert peer.store.orphans() == []


@pytest.mark.parametrize("fault", [ShortBody(by=30, announced=True), LongBody(by=9, announced=True)], ids=repr)
def test_a_complete_that_answers_no_document_is_asked_about(peer: Peer, client: Client, fault: Behaviour) -> None:
    peer.play(Rule(COMPLETE, do=fault))
    info = upload(client, DATA)
    assert_stored_exactly(peer, info, DATA)
    assert len(peer.requests(COMPLETE)) == 1


@pytest.mark.parametrize("operation", [UPLOAD_PART, PUT])
@pytest.mark.parametrize("at", [0, 100_000, -1])
def test_bytes_changed_on_the_way_are_never_published(peer: Peer, client: Client, operation: str, at: int) -> None:
    """A store that refuses them may be sent them again; what must not be is an object with them."""
    peer.play(rule_for(operation, CorruptInTransit(at)))
    try:
        info = upload(client, bytes_for(operation))
    except (s3dlio.ChecksumMismatchError, s3dlio.S3Error):
        assert_nothing_left(peer)
    else:
        assert_stored_exactly(peer, info, bytes_for(operation))


@pytest.mark.parametrize("at", [0, PART - 1])
def test_a_part_that_the_store_keeps_wrongly_is_never_published(peer: Peer, client: Client, at: int) -> None:
    peer.play(Rule(UPLOAD_PART, part=1, do=CorruptStored(at)))
    with pytest.raises((s3dlio.ChecksumMismatchError, s3dlio.S3Error), match="b/k"):
        upload(client, DATA)
    assert_nothing_left(peer)


def test_a_part_that_changed_after_it_was_stored_is_never_published(peer: Peer, client: Client) -> None:
    class ChangedLater:
        def __call__(self, turn: Any) -> None:
            (upload,) = turn.peer.store.uploads.values()
            kept = upload.parts[1]
            upload.parts[1] = type(kept)(OTHER[:PART], kept.etag, kept.checksum)
            turn.send(turn.serve())

    peer.play(Rule(COMPLETE, do=ChangedLater()))
    with pytest.raises((s3dlio.ChecksumMismatchError, s3dlio.S3Error), match="b/k"):
        upload(client, DATA)
    assert_nothing_left(peer)


# -------------------------------------------------------------------------------------------------- conditions


def test_a_condition_that_fails_leaves_the_other_object_alone(peer: Peer, client: Client) -> None:
    for operation in (PUT, COMPLETE):
        peer.play(Rule(operation, attempt=1, do=ReplaceObject(OTHER)))
        with pytest.raises(s3dlio.PreconditionFailedError):
            upload(client, bytes_for(operation), if_none_match="*")
        assert {version.data for version in peer.store.versions("b", "k")} == {OTHER}
        assert peer.store.orphans() == []


@pytest.mark.parametrize("operation", [PUT, COMPLETE])
def test_a_condition_that_fails_after_a_lost_attempt_is_still_an_error(
    peer: Peer, client: Client, operation: str
) -> None:
    peer.play(rule_for(operation, DropBeforeHead()), rule_for(operation, ReplaceObject(OTHER), attempt=2))
    with pytest.raises(s3dlio.PreconditionFailedError):
        upload(client, bytes_for(operation), if_none_match="*")
    assert {version.data for version in peer.store.versions("b", "k")} == {OTHER}
    assert peer.store.orphans() == []


def test_a_conflict_of_a_put_is_sent_again(peer: Peer, client: Client) -> None:
    peer.play(Rule(PUT, attempt=1, do=Status(409, "ConditionalRequestConflict")))
    info = upload(client, SMALL, if_none_match="*")
    assert_stored_exactly(peer, info, SMALL)


class AbortedByAnother:
    """Somebody aborts the upload while Complete is under way, and its answer is lost."""

    def __call__(self, turn: Any) -> None:
        turn.read()
        for one in turn.peer.store.uploads.values():
            one.ended = "aborted"
        turn.close()


@pytest.mark.parametrize("checksum", ["crc64nvme", None])
def test_an_older_object_is_never_taken_for_the_one_being_completed(
    peer: Peer, client: Client, checksum: str | None
) -> None:
    peer.store.put("b", "k", OTHER)  # as long as what is being uploaded
    peer.play(Rule(COMPLETE, attempt=1, do=AbortedByAnother()))
    with pytest.raises((s3dlio.S3Error, s3dlio.ChecksumMismatchError), match="b/k"):
        upload(client, DATA, checksum=checksum)
    assert [version.data for version in peer.store.versions("b", "k")] == [OTHER]


def test_parts_that_are_ours_are_completed_with_the_listed_etags(peer: Peer, client: Client) -> None:
    peer.play(Rule(UPLOAD_PART, part=1, do=WrongETag()))
    info = upload(client, DATA)
    assert_stored_exactly(peer, info, DATA)
    assert len(peer.requests("ListParts")) == 1


def test_parts_that_are_not_ours_are_never_completed(peer: Peer, client: Client) -> None:
    class Overwritten:
        def __call__(self, turn: Any) -> None:
            turn.send(turn.serve())
            turn.serve(body=OTHER[:PART], without="x-amz-checksum-crc64nvme")

    peer.play(Rule(UPLOAD_PART, part=1, do=Overwritten()))
    with pytest.raises((s3dlio.S3Error, s3dlio.ChecksumMismatchError), match="b/k"):
        upload(client, DATA)
    assert_nothing_left(peer)


# ------------------------------------------------------------------------------ places, clocks, identities, limits


@pytest.mark.parametrize("status", [301, 307, 400])
@pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "multipart"])
def test_a_bucket_of_another_region_is_written_there(peer: Peer, client: Client, data: bytes, status: int) -> None:
    peer.play(Rule(do=InRegion("eu-west-1", status)))
    info = upload(client, data)
    assert_stored_exactly(peer, info, data)


def test_a_redirect_that_leads_nowhere_is_an_error(peer: Peer, client: Client) -> None:
    peer.play(Rule(do=Status(301, "PermanentRedirect", {"x-amz-bucket-region": "eu-west-1"})))
    with pytest.raises(s3dlio.S3Error, match="PermanentRedirect"):
        upload(client, SMALL)
    assert len(peer.requests()) <= ATTEMPTS


@pytest.mark.parametrize("ahead", [-7200, 7200])
@pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "multipart"])
def test_a_clock_that_is_off_is_corrected_once_and_remembered(
    peer: Peer, client: Client, data: bytes, ahead: int
) -> None:
    peer.play(Rule(do=Clock(ahead)))
    upload(client, SMALL)
    refused = [one for one in peer.requests() if one.status == 403]
    info = upload(client, data)
    assert_stored_exactly(peer, info, data)
    assert len(refused) == len([one for one in peer.requests() if one.status == 403]) == 1


@pytest.fixture
def refreshing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared file names a program that gives token-1, then token-2; each says to be valid for an hour."""
    expires = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    program, count = tmp_path / "credentials.py", tmp_path / "count"
    program.write_text(
        "import json, pathlib\n"
        f"path = pathlib.Path({str(count)!r})\n"
        "number = int(path.read_text()) + 1 if path.exists() else 1\n"
        "path.write_text(str(number))\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': 'id', 'SecretAccessKey': 'secret',\n"
        f"    'SessionToken': f'token-{{number}}', 'Expiration': {expires!r}}}))\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {sys.executable} {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))


@pytest.mark.usefixtures("refreshing")
@pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "multipart"])
def test_an_expired_token_is_refreshed(peer: Peer, connect: Connect, data: bytes) -> None:
    peer.play(Rule(do=Expired("token-1")))
    info = upload(connect(peer, credentials=None), data)
    assert_stored_exactly(peer, info, data)


def test_an_expired_token_that_cannot_be_refreshed_is_an_error(peer: Peer, connect: Connect) -> None:
    peer.play(Rule(do=Expired("old")))
    with pytest.raises(s3dlio.S3Error, match="ExpiredToken") as caught:
        upload(connect(peer, credentials=("id", "secret", "old")), DATA)
    assert "secret" not in str(caught.value)
    assert_nothing_left(peer)


def test_retry_after_is_waited_for(peer: Peer, connect: Connect) -> None:
    peer.play(Rule(PUT, attempt=1, do=Status(503, "SlowDown", {"Retry-After": "1"})))
    upload(connect(peer), SMALL)
    first, second = peer.requests(PUT)
    assert second.at - first.at >= 0.95


LADDER = [
    (("crc64nvme",), "crc32c"),
    (("crc64nvme", "crc32c"), "crc32"),
    (("crc64nvme", "crc32c", "crc32"), None),
]


@pytest.mark.parametrize(("unknown", "used"), LADDER, ids=["crc32c", "crc32", "none"])
@pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "multipart"])
def test_a_store_without_an_algorithm_is_given_the_next(
    peer: Peer, connect: Connect, data: bytes, unknown: tuple[str, ...], used: str | None
) -> None:
    peer.play(Rule(do=Without(unknown)))
    info = upload(connect(peer), data)
    assert_stored_exactly(peer, info, data)
    assert info.checksum_algorithm == used


def test_a_transport_failure_is_no_reason_to_give_up_checksums(peer: Peer, connect: Connect) -> None:
    peer.play(Rule(attempt=1, do=DropBeforeHead()))
    info = upload(connect(peer), DATA)
    assert_stored_exactly(peer, info, DATA)
    assert info.checksum_algorithm == "crc64nvme"


# ------------------------------------------------------------------------------------------------------- abort


def received(peer: Peer) -> int:
    return sum(one.received for one in peer.requests(UPLOAD_PART))


@over_both
@pytest.mark.parametrize(
    ("fault", "stalled_at"),
    [
        (Stall(), PART),
        (StallRequest(at=1000), 1000),
    ],
    ids=["no-answer", "in-the-request"],
)
def test_no_byte_of_a_part_follows_the_abort(peer: Peer, client: Client, fault: Behaviour, stalled_at: int) -> None:
    peer.play(Rule(UPLOAD_PART, do=fault))
    writer = client.writer(URI, part_size=PART)
    writer.write(LONG)
    peer.wait_for(lambda: [one.received >= stalled_at for one in peer.requests(UPLOAD_PART)] == [True, True])
    writer.abort()
    assert peer.store.orphans() == []
    peer.resume()
    peer.wait_until_quiet()
    assert peer.late_bytes() == 0
    assert not any(one.after_abort for one in peer.requests(UPLOAD_PART))
    assert_nothing_left(peer)


def test_an_abort_that_the_store_overtook_is_sent_again(peer: Peer, client: Client) -> None:
    peer.play(Rule(UPLOAD_PART, do=Stall()), Rule("AbortMultipartUpload", attempt=1, do=Status(204)))
    writer = client.writer(URI, part_size=PART)
    writer.write(LONG)
    peer.wait_for(lambda: received(peer) > 0)
    writer.abort()
    assert_nothing_left(peer)


@pytest.mark.parametrize("fault", [Status(503, "SlowDown"), DropBeforeHead(), LostResponse(), ResetRequest()], ids=repr)
def test_an_abort_that_fails_once_is_sent_again(peer: Peer, client: Client, fault: Behaviour) -> None:
    peer.play(Rule("AbortMultipartUpload", attempt=1, do=fault))
    writer = client.writer(URI, part_size=PART)
    writer.write(LONG)
    peer.wait_for(lambda: received(peer) > 0)
    writer.abort()
    assert_nothing_left(peer)


def test_an_abort_that_is_refused_is_an_error(peer: Peer, client: Client) -> None:
    peer.play(Rule("AbortMultipartUpload", do=Status(403, "AccessDenied")))
    writer = client.writer(URI, part_size=PART)
    writer.write(LONG)
    peer.wait_for(lambda: received(peer) > 0)
    with pytest.raises(s3dlio.AccessDeniedError, match="AbortMultipartUpload"):
        writer.abort()


def test_an_abort_that_is_refused_never_masks_the_first_error(peer: Peer, client: Client) -> None:
    peer.play(
        Rule("AbortMultipartUpload", do=Status(403, "AccessDenied")), Rule(UPLOAD_PART, do=Status(400, "InvalidDigest"))
    )
    with pytest.raises(s3dlio.S3Error, match="InvalidDigest"):
        upload(client, DATA)


def test_an_abort_waits_for_a_create_and_then_ends_it(peer: Peer, client: Client) -> None:
    peer.play(Rule(CREATE, do=Stall()))
    writer = client.writer(URI, part_size=PART)
    writer.write(LONG)
    peer.wait_for(lambda: len(peer.requests(CREATE)) == 1)
    thread = threading.Thread(target=writer.abort)
    thread.start()
    peer.resume()
    thread.join(20)
    assert not thread.is_alive()
    assert_nothing_left(peer)
    assert peer.requests(UPLOAD_PART) == []


def test_an_abort_during_complete_leaves_a_published_object_alone(peer: Peer, client: Client) -> None:
    peer.play(Rule(COMPLETE, do=Stall()))
    writer = client.writer(URI, part_size=PART)
    writer.write(LONG)
    infos: list[UploadInfo] = []
    closing = threading.Thread(target=lambda: infos.append(writer.close()))
    closing.start()
    peer.wait_for(lambda: len(peer.requests(COMPLETE)) == 1)
    aborting = threading.Thread(target=writer.abort)
    aborting.start()
    peer.resume()
    for thread in (closing, aborting):
        thread.join(20)
        assert not thread.is_alive()
    assert_stored_exactly(peer, infos[0], LONG)
    assert peer.requests("AbortMultipartUpload") == []


def test_a_part_that_fails_ends_the_stalled_ones(peer: Peer, client: Client) -> None:
    peer.play(Rule(UPLOAD_PART, part=2, do=Stall()), Rule(UPLOAD_PART, part=1, do=Status(403, "AccessDenied")))
    with pytest.raises(s3dlio.AccessDeniedError, match="part 1"):
        upload(client, DATA)
    assert_nothing_left(peer)
    assert not any(one.after_abort for one in peer.requests(UPLOAD_PART))
