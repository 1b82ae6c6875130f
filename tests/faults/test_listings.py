"""Listings whose pages do not lead on: an error that names what was listed, or the rest by the last entry; never a part
of it for the whole, and never asked for ever."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from behaviours import Status, WithoutETag
from model import MIB, Part, Reply, Upload
from peer import Peer, Rule, Turn

import s3dlio
from s3dlio import Client

PART = 5 * MIB
URI = "s3://b/k"
PARTS, UPLOADS, ABORT = "ListParts", "ListMultipartUploads", "AbortMultipartUpload"
Alter = Callable[[bytes, int], bytes]


class InPages:
    """Pages of two entries each, with something altered in their documents, by the number of the page."""

    def __init__(self, alter: Alter = lambda document, _: document) -> None:
        self._alter = alter

    def __call__(self, turn: Turn) -> None:
        turn.target += "&max-parts=2&max-uploads=2"
        reply = turn.serve()
        turn.send(replace(reply, body=self._alter(reply.body, turn.seen.attempt)))


def without(name: str) -> Alter:
    return lambda document, _: re.sub(rb"<%b>[^<]*</%b>" % (name.encode(), name.encode()), b"", document)


def setting(name: str, value: str) -> Alter:
    element = b"<%b>%b</%b>" % (name.encode(), value.encode(), name.encode())
    return lambda document, _: re.sub(rb"<%b>[^<]*</%b>" % (name.encode(), name.encode()), element, document)


def both(*alters: Alter) -> Alter:
    def alter(document: bytes, page: int) -> bytes:
        for one in alters:
            document = one(document, page)
        return document

    return alter


def left(peer: Peer, key: str = "k", parts: int = 0, **options: Any) -> str:
    """An upload on the store, which somebody else has begun."""
    upload_id = f"left-{len(peer.store.uploads)}"
    made = Upload(upload_id, "b", key, "crc64nvme", "FULL_OBJECT", {}, **options)
    for number in range(1, parts + 1):
        data = bytes([number]) * PART
        made.parts[number] = Part(data, f"etag{number}", "AAAAAAAAAAA=")
    peer.store.uploads[upload_id] = made
    return upload_id


ODD_MARKERS = ["", "0", "1", "2", "undefined", "-5", "99999"]


@pytest.mark.parametrize(
    "alter",
    [without("NextPartNumberMarker"), *(setting("NextPartNumberMarker", one) for one in ODD_MARKERS)],
    ids=["none", *(repr(one) for one in ODD_MARKERS)],
)
def test_parts_are_listed_to_their_end_whatever_the_marker(peer: Peer, client: Client, alter: Alter) -> None:
    peer.store.reports_checksums = False
    upload_id = left(peer, parts=5)
    peer.play(Rule(PARTS, do=InPages(alter)))
    writer = client.resume(URI, upload_id, part_size=PART)
    assert writer.resume_offset == 5 * PART
    assert len(peer.requests(PARTS)) == 3
    writer.abort()


STUCK: dict[str, Alter] = {
    "the first page again": lambda document, _: FIRST_PARTS,
    "nothing, and more": setting("IsTruncated", "true"),
    "nothing, and an odd word for more": setting("IsTruncated", "undefined"),
}
FIRST_PARTS = (
    b"<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>1</NextPartNumberMarker>"
    b'<Part><PartNumber>1</PartNumber><ETag>"a"</ETag><Size>5242880</Size></Part></ListPartsResult>'
)


@pytest.mark.parametrize("alter", STUCK.values(), ids=STUCK)
def test_parts_that_never_end_are_an_error(peer: Peer, client: Client, alter: Alter) -> None:
    upload_id = left(peer, parts=0)
    peer.play(Rule(PARTS, do=InPages(alter)))
    with pytest.raises(s3dlio.S3Error, match=r"ListParts of s3://b/k.*leads to no new one") as caught:
        client.resume(URI, upload_id)
    assert caught.value.code == "MalformedResponse"
    assert len(peer.requests(PARTS)) <= 2
    assert peer.store.orphans() == [upload_id]


def test_parts_that_never_end_fail_a_complete_that_needs_them(peer: Peer, client: Client) -> None:
    peer.play(
        Rule("UploadPart", part=1, do=WithoutETag()),
        Rule(PARTS, do=InPages(lambda *_: FIRST_PARTS)),
    )
    with pytest.raises(s3dlio.S3Error, match="reported no ETag"):
        client.put_bytes(URI, bytes(PART + 1), part_size=PART)
    assert len(peer.requests(PARTS)) == 2
    assert peer.store.orphans() == []


def test_one_page_tells_that_a_late_part_has_come(peer: Peer, client: Client) -> None:
    """After an abort with parts on their way it is asked whether the upload is there, not what all is in it."""
    taken: list[bool] = []

    class ComesLate:
        def __call__(self, turn: Turn) -> None:
            turn.send(Reply(204) if not taken else turn.serve())
            taken.append(True)

    peer.play(
        Rule("UploadPart", do=Held()),
        Rule(ABORT, do=ComesLate()),
        Rule(PARTS, do=InPages(lambda *_: FIRST_PARTS)),
    )
    writer = client.writer(URI, part_size=PART)
    writer.write(bytes(PART + 1))
    peer.wait_for(lambda: bool(peer.requests("UploadPart")))
    writer.abort()
    assert len(peer.requests(PARTS)) <= 5
    assert peer.store.orphans() == []


class Held:
    def __call__(self, turn: Turn) -> None:
        turn.read()
        turn.hold()


@pytest.mark.parametrize("code", ["AccessDenied", "NotImplemented"])
def test_an_abort_succeeds_though_parts_cannot_be_listed(peer: Peer, client: Client, code: str) -> None:
    peer.play(Rule("UploadPart", do=Held()), Rule(PARTS, do=Status(403, code)))
    writer = client.writer(URI, part_size=PART)
    writer.write(bytes(PART + 1))
    peer.wait_for(lambda: bool(peer.requests("UploadPart")))
    writer.abort()
    assert peer.store.orphans() == []


# ------------------------------------------------------------------------------------------------------ uploads

ENTRIES = [("z", "u1"), ("a", "u2"), ("a", "u3"), ("m", "u4"), ("a", "u5")]


class UploadPages:
    """ENTRIES, in an order of the store's own, two a page; `altered` may spoil what a page says of the next."""

    def __init__(self, altered: Alter) -> None:
        self._altered = altered

    def __call__(self, turn: Turn) -> None:
        turn.read()
        asked = dict(re.findall(r"(key-marker|upload-id-marker)=([^&]*)", turn.target))
        marker = (asked.get("key-marker", ""), asked.get("upload-id-marker", ""))
        first = ENTRIES.index(marker) + 1 if marker in ENTRIES else 0
        shown, more = ENTRIES[first : first + 2], first + 2 < len(ENTRIES)
        document = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        for key, upload_id in shown[-1:]:
            document += f"<NextKeyMarker>{key}</NextKeyMarker><NextUploadIdMarker>{upload_id}</NextUploadIdMarker>"
        document += "".join(f"<Upload><Key>{key}</Key><UploadId>{one}</UploadId></Upload>" for key, one in shown)
        document = f"<ListMultipartUploadsResult>{document}</ListMultipartUploadsResult>"
        turn.send(Reply(200, {}, self._altered(document.encode(), turn.seen.attempt)))


GOES_ON: dict[str, Alter] = {
    "as it should": lambda document, _: document,
    "no markers": both(without("NextKeyMarker"), without("NextUploadIdMarker")),
    "empty markers": both(setting("NextKeyMarker", ""), setting("NextUploadIdMarker", "")),
    "the marker of the first page": lambda document, page: (
        document
        if page == 1
        else both(setting("NextKeyMarker", "a"), setting("NextUploadIdMarker", "u2"))(document, page)
    ),
}


@pytest.mark.parametrize("alter", GOES_ON.values(), ids=GOES_ON)
def test_uploads_are_listed_to_their_end(peer: Peer, client: Client, alter: Alter) -> None:
    peer.play(Rule(UPLOADS, do=UploadPages(alter)))
    listed = client.list_uploads("s3://b")
    assert [(one.uri, one.upload_id) for one in listed] == [(f"s3://b/{key}", one) for key, one in ENTRIES]
    assert len(peer.requests(UPLOADS)) == 3


def _counting(document: bytes, page: int) -> bytes:
    """The same uploads under ever new markers."""
    return both(setting("NextKeyMarker", f"k{page}"), setting("NextUploadIdMarker", f"u{page}"))(document, page)


CIRCLES: dict[str, Alter] = {
    "the same page, new markers": both(setting("IsTruncated", "true"), _counting),
    "more after the last": setting("IsTruncated", "true"),
    "nothing, and more": lambda *_: (
        b"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated></ListMultipartUploadsResult>"
    ),
    "nothing, and the same marker": lambda *_: (
        b"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>"
        b"</ListMultipartUploadsResult>"
    ),
}


@pytest.mark.parametrize("alter", CIRCLES.values(), ids=CIRCLES)
@pytest.mark.parametrize("uri", ["s3://b", "s3://b/a"])
def test_uploads_that_never_end_are_an_error_that_names_what_was_listed(
    peer: Peer, client: Client, alter: Alter, uri: str
) -> None:
    peer.play(Rule(UPLOADS, do=UploadPages(alter)))
    named = "ListMultipartUploads of s3://b.*" + ("'a'.*" if uri.endswith("a") else "") + "leads to no new one"
    for call in (lambda: client.list_uploads(uri), lambda: client.abort_uploads(uri, older_than=1)):
        with pytest.raises(s3dlio.S3Error, match=named):
            call()
    assert len(peer.requests(UPLOADS)) <= 10
    assert peer.requests(ABORT) == []


def test_ever_new_empty_pages_come_to_an_end(peer: Peer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from s3dlio._s3 import listings

    def page(_: bytes, number: int) -> bytes:
        more = f"<IsTruncated>true</IsTruncated><NextKeyMarker>k{number}</NextKeyMarker>"
        return f"<ListMultipartUploadsResult>{more}</ListMultipartUploadsResult>".encode()

    monkeypatch.setattr(listings, "MOST_PAGES", 50)  # the bound itself would take minutes
    peer.play(Rule(UPLOADS, do=UploadPages(page)))
    with pytest.raises(s3dlio.S3Error, match="page 50"):
        client.list_uploads("s3://b")


# ------------------------------------------------------------------------------------------------ aborted by age

HOURS_AGO = datetime.now(UTC) - timedelta(hours=2)


def test_uploads_are_aborted_by_age(peer: Peer, client: Client) -> None:
    old = [left(peer, "k1", initiated=HOURS_AGO), left(peer, "k2", initiated=HOURS_AGO)]
    young = left(peer, "k1")
    other = left(peer, "elsewhere", initiated=HOURS_AGO)
    aborted = client.abort_uploads("s3://b/k*", older_than=timedelta(hours=1))
    assert [(one.uri, one.upload_id) for one in aborted] == [("s3://b/k1", old[0]), ("s3://b/k2", old[1])]
    assert all(one.started_at == HOURS_AGO for one in aborted)
    assert peer.store.orphans() == [young, other]
    assert client.abort_uploads("s3://b/k*", older_than=timedelta(hours=1)) == []


@pytest.mark.parametrize(
    ("uri", "chosen"),
    [
        ("s3://b", ["d", "d.bak", "d/e/f", "d/x", "z[1]"]),
        ("s3://b/", ["d", "d.bak", "d/e/f", "d/x", "z[1]"]),
        ("s3://b/d", ["d"]),
        ("s3://b/d/", ["d/e/f", "d/x"]),
        ("s3://b/d/*", ["d/x"]),
        ("s3://b/**/f", ["d/e/f"]),
        ("s3://b/z[1]", ["z[1]"]),
        ("s3://b/none", []),
    ],
)
def test_a_uri_selects_uploads_as_it_selects_objects(peer: Peer, client: Client, uri: str, chosen: list[str]) -> None:
    for key in ("d", "d.bak", "d/e/f", "d/x", "z[1]"):
        left(peer, key, initiated=HOURS_AGO)
    expected = [f"s3://b/{key}" for key in chosen]
    assert [one.uri for one in client.list_uploads(uri)] == expected
    assert [one.uri for one in client.abort_uploads(uri, older_than=60)] == expected


ODD_TIMES = [
    "", "undefined", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "99999999999", "Mon, 01 Jan 0001 00:00:00 GMT",
    "Wed, 31 Feb 2024 00:00:00 GMT", "-0000",
]  # fmt: skip


@pytest.mark.parametrize("time", ODD_TIMES, ids=repr)
def test_an_upload_whose_age_is_unknown_is_left_alone(peer: Peer, client: Client, time: str) -> None:
    upload_id = left(peer, initiated=HOURS_AGO)
    peer.play(Rule(UPLOADS, do=InPages(setting("Initiated", time))))
    assert [one.started_at for one in client.list_uploads("s3://b")] == [None]
    assert client.abort_uploads("s3://b", older_than=60) == []
    assert peer.store.orphans() == [upload_id]


@pytest.mark.parametrize("form", ["%Y-%m-%dT%H:%M:%S", "%a, %d %b %Y %H:%M:%S -0000", "%a %b %d %H:%M:%S %Y"])
def test_an_age_in_another_form_is_read(peer: Peer, client: Client, form: str) -> None:
    left(peer)
    peer.play(Rule(UPLOADS, do=InPages(setting("Initiated", HOURS_AGO.strftime(form)))))
    assert len(client.abort_uploads("s3://b", older_than=3600)) == 1
    assert peer.store.orphans() == []


class StoreClock:
    """The store's clock is off ours, by which it also tells the age of uploads."""

    def __init__(self, ahead: timedelta, tells: bool) -> None:
        self._ahead, self._tells = ahead, tells

    def __call__(self, turn: Turn) -> None:
        from behaviours import Clock

        if turn.seen.operation == UPLOADS and not self._tells:
            reply = turn.serve()
            turn.send(replace(reply, headers={**reply.headers, "Date": "undefined"}))
        else:
            Clock(self._ahead.total_seconds())(turn)


@pytest.mark.parametrize("tells", [True, False], ids=["a Date with the list", "the offset learned"])
@pytest.mark.parametrize("hours", [-5, 5])
def test_ages_go_by_the_clock_of_the_store(peer: Peer, client: Client, hours: int, tells: bool) -> None:
    ahead = timedelta(hours=hours)
    young = left(peer, initiated=datetime.now(UTC) + ahead - timedelta(minutes=30))
    old = left(peer, initiated=datetime.now(UTC) + ahead - timedelta(minutes=90))
    peer.play(Rule(do=StoreClock(ahead, tells)))
    client.put_bytes("s3://b/first", b"from which the client learns")
    aborted = client.abort_uploads("s3://b", older_than=timedelta(hours=1))
    assert [one.upload_id for one in aborted] == [old]
    assert peer.store.orphans() == [young]


def test_a_date_from_the_future_makes_nothing_older(peer: Peer, client: Client) -> None:
    """A proxy's clock may be anything: an upload is aborted only if it is old by ours, as corrected, too."""

    class Ahead:
        def __call__(self, turn: Turn) -> None:
            reply = turn.serve()
            turn.send(replace(reply, headers={**reply.headers, "Date": "Fri, 31 Dec 2088 23:59:59 GMT"}))

    upload_id = left(peer)
    peer.play(Rule(UPLOADS, do=Ahead()))
    assert client.abort_uploads("s3://b", older_than=timedelta(days=1)) == []
    assert peer.store.orphans() == [upload_id]


def test_every_key_that_is_listed_can_be_aborted(peer: Peer, client: Client) -> None:
    keys = ["a\nb", "tab\there", "del\x7f", "a//b", "/lead", "..", " blank ", "%41", "ünï?#&+"]
    for key in keys:
        left(peer, key, initiated=HOURS_AGO)
    aborted = client.abort_uploads("s3://b", older_than=60)
    assert [one.uri for one in aborted] == [f"s3://b/{key}" for key in keys]
    assert peer.store.orphans() == []


@pytest.mark.parametrize("refused", [1, 3])
def test_a_refusal_does_not_keep_the_others_from_being_aborted(peer: Peer, client: Client, refused: int) -> None:
    ids = [left(peer, f"k{number}", initiated=HOURS_AGO) for number in range(8)]
    stay = [f"k{2 * number}" for number in range(refused)]
    peer.play(*[Rule(ABORT, key=key, do=Status(403, "AccessDenied")) for key in stay])
    with pytest.raises(s3dlio.AccessDeniedError, match="b/k0") as caught:
        client.abort_uploads("s3://b", older_than=60)
    assert peer.store.orphans() == [ids[2 * number] for number in range(refused)]
    notes = caught.value.__notes__
    assert notes[0] == f"uploads aborted: {8 - refused}; refused: {refused}"
    assert [key for key in stay[1:] if any(f"b/{key}" in note for note in notes)] == stay[1:]


def test_an_upload_that_ended_meanwhile_is_no_refusal(peer: Peer, client: Client) -> None:
    left(peer, "k1", initiated=HOURS_AGO)
    left(peer, "k2", initiated=HOURS_AGO)
    peer.play(Rule(ABORT, key="k1", do=Status(404, "NoSuchUpload")))
    assert len(client.abort_uploads("s3://b", older_than=60)) == 2


@pytest.mark.parametrize("older_than", [1e300, 1e15])
def test_an_age_beyond_all_bounds_aborts_nothing(peer: Peer, client: Client, older_than: float) -> None:
    upload_id = left(peer, initiated=HOURS_AGO)
    assert client.abort_uploads("s3://b", older_than=older_than) == []
    assert peer.store.orphans() == [upload_id]
