"""What a write is told to have become, when an attempt of it ended without a response that tells.

The tables of docs/explanation/architecture.md, case by case. While the store lists an upload, its Complete has not
happened; equal bytes under the key never prove who wrote them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from behaviours import (
    DropBeforeHead,
    LostResponse,
    Page,
    ReplaceObject,
    Status,
    Without,
    WithoutETag,
)
from marks import Connect
from model import MIB
from peer import Behaviour, Peer, Rule

import s3dlio
from s3dlio import Client, UploadInfo

PART = 5 * MIB
DATA = random.Random(51).randbytes(PART + 4321)  # two parts
SMALL = DATA[:54_321]  # one PutObject
OTHER = random.Random(52).randbytes(len(DATA))
URI = "s3://b/k"
COMPLETE, PUT, LIST = "CompleteMultipartUpload", "PutObject", "ListParts"
NEW = {"metadata": {"written": "now"}}
CREATES: dict[str, Any] = {"if_none_match": "*"}


def multipart(client: Client, data: bytes = DATA, **options: Any) -> UploadInfo:
    return client.put_bytes(URI, data, part_size=PART, **options)


def in_series(client: Client, data: bytes = SMALL, **options: Any) -> UploadInfo:
    """One of many, of which the others go well."""
    items = [(f"s3://b/beside{number}", b"beside") for number in range(3)] + [(URI, data)]
    infos = client.put_many(items, max_in_flight=1, on_error="return", part_size=PART, **options)
    assert all(isinstance(one, UploadInfo) for one in infos[:3])
    if isinstance(infos[3], Exception):
        raise infos[3]
    return infos[3]  # type: ignore[no-any-return]


def alone(client: Client, data: bytes = SMALL, **options: Any) -> UploadInfo:
    return client.put_bytes(URI, data, part_size=PART, **options)


def in_parts_of_many(client: Client, **options: Any) -> UploadInfo:
    return in_series(client, DATA, **options)


Put = Callable[..., UploadInfo]
small = pytest.mark.parametrize("put", [alone, in_series])
large = pytest.mark.parametrize("put", [multipart, in_parts_of_many])

# An attempt that took effect, and one that did not; neither response says so.
DONE: dict[str, Behaviour] = {
    "closed": LostResponse(),
    "500": LostResponse(Status(500, "InternalError")),
    "503": LostResponse(Status(503, "SlowDown")),
    "504": LostResponse(Status(504)),
    "200-empty": LostResponse(Page(b"")),
    "200-html": LostResponse(Page()),
    "200-other-document": LostResponse(Page(b"<ListPartsResult/>")),
    "200-no-etag": WithoutETag(),
}
UNDONE: dict[str, Behaviour] = {
    "closed": DropBeforeHead(),
    "500": Status(500, "InternalError"),
    "503": Status(503, "SlowDown"),
    "200-empty": Page(b""),
    "200-html": Page(),
}
done = pytest.mark.parametrize("fault", DONE.values(), ids=DONE)
undone = pytest.mark.parametrize("fault", UNDONE.values(), ids=UNDONE)
REFUSED = Rule(LIST, do=Status(403, "AccessDenied"))


def stored(peer: Peer) -> list[tuple[bytes, str | None]]:
    return [(one.data, one.headers.get("x-amz-meta-written")) for one in peer.store.versions("b", "k")]


def older(peer: Peer, data: bytes = DATA) -> None:
    peer.store.put("b", "k", data, {"x-amz-meta-written": "then"})


class AbortedByAnother:
    """Somebody else aborts the upload while it is being completed, and the connection is closed."""

    def __call__(self, turn: Any) -> None:
        turn.read()
        for one in turn.peer.store.uploads.values():
            one.ended = "aborted"
        turn.close()


# ---------------------------------------------------------------------------------------------------- Complete


@large
@done
@pytest.mark.parametrize("condition", [{}, CREATES], ids=["plain", "if-none-match"])
def test_a_complete_that_happened_is_found_by_the_end_of_its_upload(
    peer: Peer, client: Client, put: Put, fault: Behaviour, condition: dict[str, Any]
) -> None:
    peer.play(Rule(COMPLETE, attempt=1, do=fault))
    info = put(client, **condition, **NEW)
    assert stored(peer) == [(DATA, "now")]
    assert (info.etag, info.checksum_confirmed) == (peer.store.versions("b", "k")[0].etag, True)
    assert len(peer.requests(COMPLETE)) == (2 if fault == LostResponse() else 1)  # no attempt, on a pooled connection
    assert peer.store.orphans() == []


@done
def test_a_complete_that_replaced_the_version_it_was_to_replace_is_found(
    peer: Peer, client: Client, fault: Behaviour
) -> None:
    older(peer, OTHER)
    before = peer.store.versions("b", "k")[-1].etag
    peer.play(Rule(COMPLETE, attempt=1, do=fault))
    multipart(client, if_match=before, **NEW)
    assert stored(peer) == [(OTHER, "then"), (DATA, "now")]


@large
@undone
def test_a_complete_that_did_not_happen_is_sent_again_though_equal_bytes_are_there(
    peer: Peer, client: Client, put: Put, fault: Behaviour
) -> None:
    older(peer)
    peer.play(Rule(COMPLETE, attempt=1, do=fault))
    put(client, **NEW)
    assert stored(peer) == [(DATA, "then"), (DATA, "now")]
    assert peer.store.orphans() == []


@undone
def test_a_complete_that_never_happens_is_an_error_though_equal_bytes_are_there(
    peer: Peer, client: Client, fault: Behaviour
) -> None:
    older(peer)
    peer.play(Rule(COMPLETE, do=fault))
    with pytest.raises((s3dlio.S3Error, s3dlio.TransportError), match="b/k") as caught:
        multipart(client, **NEW)
    assert caught.value.uncertain >= 1
    assert stored(peer) == [(DATA, "then")]
    assert peer.store.orphans() == []


@large
@undone
@pytest.mark.parametrize("condition", ["if_none_match", "if_match"])
def test_another_writer_of_the_same_bytes_is_never_taken_for_the_own_complete(
    peer: Peer, client: Client, put: Put, fault: Behaviour, condition: str
) -> None:
    """The lock is another's: the first attempt ends without a response, and the second finds it taken."""
    value = "*" if condition == "if_none_match" else "0" * 32
    peer.play(Rule(COMPLETE, attempt=1, do=fault), Rule(COMPLETE, attempt=2, do=ReplaceObject(DATA)))
    if condition == "if_match":  # the small ones beside it have no such version either
        put = multipart
    with pytest.raises(s3dlio.PreconditionFailedError, match="look at it") as caught:
        put(client, **{condition: value})
    assert caught.value.uncertain == 1
    assert stored(peer) == [(DATA, None)]
    assert peer.store.orphans() == []


def test_a_condition_that_fails_at_once_is_certain(peer: Peer, client: Client) -> None:
    for data in (SMALL, DATA):
        older(peer, data)
        with pytest.raises(s3dlio.PreconditionFailedError) as caught:
            multipart(client, data, **CREATES)
        assert caught.value.uncertain == 0
        assert "look at it" not in str(caught.value)


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "NoSuchUpload"])
def test_a_refusal_after_an_attempt_that_did_not_happen_is_uncertain(peer: Peer, client: Client, code: str) -> None:
    status, error = (409, s3dlio.PreconditionFailedError) if code.startswith("Cond") else (404, s3dlio.NotFoundError)
    peer.play(Rule(COMPLETE, attempt=1, do=DropBeforeHead()), Rule(COMPLETE, do=Status(status, code)))
    with pytest.raises(error) as caught:
        multipart(client, **CREATES)
    assert caught.value.uncertain == 1
    assert stored(peer) == []


@done
def test_where_parts_cannot_be_listed_the_next_complete_tells(peer: Peer, client: Client, fault: Behaviour) -> None:
    peer.play(Rule(COMPLETE, attempt=1, do=fault), REFUSED)
    multipart(client, **NEW)
    assert stored(peer) == [(DATA, "now")]
    assert len(peer.requests(COMPLETE)) == 2


def test_where_parts_cannot_be_listed_a_failed_condition_stays_uncertain(peer: Peer, client: Client) -> None:
    """MinIO looks at the condition first: the object may be the one that the first attempt has created."""
    peer.play(
        Rule(COMPLETE, attempt=1, do=LostResponse()), Rule(COMPLETE, do=Status(412, "PreconditionFailed")), REFUSED
    )
    with pytest.raises(s3dlio.PreconditionFailedError, match="look at it") as caught:
        multipart(client, **CREATES)
    assert caught.value.uncertain == 1


@pytest.mark.parametrize(
    "there", [None, OTHER, DATA], ids=["nothing", "other bytes", "the same bytes, described otherwise"]
)
def test_an_upload_that_another_has_aborted_is_an_error(peer: Peer, client: Client, there: bytes | None) -> None:
    if there is not None:
        older(peer, there)
    peer.play(Rule(COMPLETE, attempt=1, do=AbortedByAnother()))
    with pytest.raises(s3dlio.NotFoundError, match="NoSuchUpload") as caught:
        multipart(client, **NEW)
    assert caught.value.uncertain == 1
    assert stored(peer) == ([] if there is None else [(there, "then")])


def test_a_complete_is_asked_about_by_a_later_one_too(peer: Peer, client: Client) -> None:
    """InvalidPart begins another Complete, and what it is answered may be due to an attempt before."""

    class LateEffect:
        """The first attempt, which was given up, is carried out only now."""

        def __call__(self, turn: Any) -> None:
            turn.serve()
            turn.send(turn.serve())

    peer.play(
        Rule(COMPLETE, attempt=1, do=DropBeforeHead()),
        Rule(COMPLETE, attempt=2, do=Status(400, "InvalidPart")),
        Rule(COMPLETE, attempt=3, do=LateEffect()),
    )
    multipart(client, **NEW)
    assert stored(peer) == [(DATA, "now")]


# --------------------------------------------------------------------------------------------------- PutObject


@small
@pytest.mark.parametrize("fault", [*DONE.values(), *UNDONE.values()], ids=[*DONE, *(f"un{name}" for name in UNDONE)])
def test_a_put_without_a_condition_is_sent_again_or_found(
    peer: Peer, client: Client, put: Put, fault: Behaviour
) -> None:
    older(peer, SMALL)
    peer.play(Rule(PUT, key="k", attempt=1, do=fault))
    info = put(client, **NEW)
    assert stored(peer)[-1] == (SMALL, "now")
    assert info.etag == peer.store.versions("b", "k")[-1].etag
    assert info.checksum_confirmed


@small
@pytest.mark.parametrize("name", ["200-empty", "200-html", "200-other-document"])
def test_a_put_whose_answer_is_never_readable_is_found_by_what_is_there(
    peer: Peer, client: Client, put: Put, name: str
) -> None:
    peer.play(Rule(PUT, key="k", do=DONE[name]))
    info = put(client, **NEW)
    assert stored(peer) == [(SMALL, "now")]
    assert info.etag == peer.store.versions("b", "k")[-1].etag


@small
@pytest.mark.parametrize("name", ["200-empty", "200-html"])
def test_a_put_that_never_happens_is_an_error_though_equal_bytes_are_there(
    peer: Peer, client: Client, put: Put, name: str
) -> None:
    older(peer, SMALL)
    peer.play(Rule(PUT, key="k", do=UNDONE[name]))
    with pytest.raises(s3dlio.TransportError, match=r"b/k.*status 200 cannot be read") as caught:
        put(client, **NEW)
    assert caught.value.uncertain >= 1
    assert stored(peer) == [(SMALL, "then")]


@small
@pytest.mark.parametrize("name", [name for name in DONE if name != "200-no-etag"])
def test_a_put_under_a_condition_that_may_be_met_by_itself_is_uncertain(
    peer: Peer, client: Client, put: Put, name: str
) -> None:
    peer.play(Rule(PUT, key="k", attempt=1, do=DONE[name]))
    with pytest.raises(s3dlio.PreconditionFailedError, match="look at it") as caught:
        put(client, **CREATES, **NEW)
    assert caught.value.uncertain == 1
    assert stored(peer) == [(SMALL, "now")]


@small
@undone
@pytest.mark.parametrize("condition", ["if_none_match", "if_match"])
def test_another_writer_of_the_same_bytes_is_never_taken_for_the_own_put(
    peer: Peer, client: Client, put: Put, fault: Behaviour, condition: str
) -> None:
    """The lock is another's: the first attempt ends without a response, and the second finds it taken."""
    value = "*" if condition == "if_none_match" else "0" * 32
    peer.play(Rule(PUT, key="k", attempt=1, do=fault), Rule(PUT, key="k", attempt=2, do=ReplaceObject(SMALL)))
    if condition == "if_match":  # the others of the series have no such version either
        put = alone
    with pytest.raises(s3dlio.PreconditionFailedError, match="look at it") as caught:
        put(client, **{condition: value})
    assert caught.value.uncertain == 1
    assert stored(peer) == [(SMALL, None)]


@small
@undone
def test_a_put_under_a_condition_that_still_holds_succeeds(
    peer: Peer, client: Client, put: Put, fault: Behaviour
) -> None:
    peer.play(Rule(PUT, key="k", attempt=1, do=fault))
    put(client, **CREATES, **NEW)
    assert stored(peer) == [(SMALL, "now")]


def test_a_checksum_in_the_answer_is_as_good_as_an_etag(peer: Peer, client: Client) -> None:
    for answer in (Status(403), WithoutETag()):  # a HEAD may tell the ETag, or not
        peer.play(Rule(PUT, do=WithoutETag()), Rule("HeadObject", do=answer))
        info = client.put_bytes(f"s3://b/{answer}", SMALL, **CREATES)
        assert (info.etag, info.checksum_confirmed) == (None, True)
    assert len(peer.requests(PUT)) == 2


def test_an_answer_without_an_etag_from_a_store_without_checksums_is_believed_if_nothing_differs(
    peer: Peer, client: Client
) -> None:
    peer.store.reports_checksums = False
    peer.play(Rule(PUT, do=WithoutETag()), Rule("HeadObject", do=WithoutETag()))
    info = alone(client)
    assert (info.etag, info.checksum_confirmed) == (None, False)
    assert len(peer.requests(PUT)) == 1


def test_an_attempt_with_another_checksum_stays_uncertain(peer: Peer, connect: Connect) -> None:
    """The first attempt creates the object, the second has its checksum refused, and the third finds the object."""
    for put in (alone, in_series):
        key = put.__name__
        uri = f"s3://b/{key}"
        peer.play(
            Rule(PUT, key=key, attempt=1, do=LostResponse()),
            Rule(PUT, key=key, attempt=2, do=Without(("crc64nvme",))),
        )
        client = connect(peer)
        call = partial(client.put_bytes, uri, SMALL) if put is alone else partial(client.put_many, [(uri, SMALL)])
        with pytest.raises(s3dlio.PreconditionFailedError) as caught:
            call(**CREATES)
        assert caught.value.uncertain == 1


@pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "complete"])
def test_a_pooled_connection_that_was_closed_unanswered_leaves_the_outcome_open(
    peer: Peer, client: Client, data: bytes
) -> None:
    """It costs no attempt, but the request may have been carried out."""
    client.put_bytes("s3://b/first", b"leaves a connection", if_none_match="*")
    operation = PUT if data is SMALL else COMPLETE
    peer.play(
        Rule(operation, key="k", attempt=1, do=DropBeforeHead()),
        Rule(operation, key="k", attempt=2, do=ReplaceObject(data)),
    )
    with pytest.raises(s3dlio.PreconditionFailedError, match="look at it") as caught:
        multipart(client, data, **CREATES)
    assert (caught.value.uncertain, caught.value.attempts) == (1, 1)
    first, second = peer.requests(operation)[-2:]
    assert first.connection != second.connection
