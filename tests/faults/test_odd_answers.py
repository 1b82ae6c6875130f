"""What a store leaves out or says oddly of an upload is unknown: it fails nothing and deletes nothing.

A proxy that weakens ETags, drops headers or writes them twice stands between many stores and their callers.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from typing import Any

import pytest
from behaviours import Status, WithHeader, Without, WithoutETag, WithoutHeader
from marks import Connect
from model import MIB, Reply
from peer import Behaviour, Peer, Rule, Turn

import s3dlio
from s3dlio import Client, UploadInfo

PART = 5 * MIB
DATA = random.Random(61).randbytes(2 * PART + 4321)  # three parts
SMALL = DATA[:54_321]  # one PutObject
URI = "s3://b/k"
CREATE, UPLOAD_PART, COMPLETE, PUT, LIST, HEAD = (
    "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject", "ListParts", "HeadObject",
)  # fmt: skip
CRC = "x-amz-checksum-crc64nvme"


def put(client: Client, data: bytes = DATA, **options: Any) -> UploadInfo:
    return client.put_bytes(URI, data, part_size=PART, **options)


def assert_stored(peer: Peer, data: bytes = DATA) -> None:
    assert [one.data for one in peer.store.versions("b", "k")] == [data], peer.transcript()
    assert peer.store.orphans() == []
    assert peer.requests("DeleteObject") == []


@dataclass(frozen=True)
class Tagged:
    """ETags as a proxy or another store writes them, in headers and, if it looks into them, in documents: ``{}`` stands
    for what is between the quotes."""

    form: str
    documents: bool = False

    def __call__(self, turn: Turn) -> None:
        turn.send(self.alter(turn.serve()))

    def alter(self, reply: Reply) -> Reply:
        headers = {
            name: self.form.replace("{}", value.strip('"')) if name == "ETag" else value
            for name, value in reply.headers.items()
        }
        body = reply.body
        if self.documents:
            body = re.sub(rb"<ETag>\"?([^<\"]*)\"?</ETag>", self._written, body)
        return replace(reply, headers=headers, body=body)

    def _written(self, found: re.Match[bytes]) -> bytes:
        return b"<ETag>%b</ETag>" % self.form.encode().replace(b"{}", found[1])


FORMS = ['W/"{}"', "{}", "W/{}", "", '""', 'W/""', '"{}", "{}"', '"{}", "other"', ' "{}" ']
UNREADABLE = ["", '""', 'W/""', '"{}", "other"']
EVERYWHERE = [(form, False) for form in FORMS] + [(form, True) for form in FORMS if form not in UNREADABLE]


@pytest.mark.parametrize(("form", "in_documents"), EVERYWHERE)
@pytest.mark.parametrize("checksum", ["crc64nvme", None])
def test_an_upload_succeeds_however_etags_are_written(
    peer: Peer, client: Client, form: str, in_documents: bool, checksum: str | None
) -> None:
    peer.store.versioned = True
    peer.play(Rule(do=Tagged(form, in_documents)))
    info = put(client, checksum=checksum)
    assert_stored(peer)
    etag = peer.store.versions("b", "k")[0].etag
    assert info.etag == (f"W/{etag}" if form.startswith("W/") and in_documents else etag)


def test_an_upload_whose_parts_have_no_etag_anywhere_is_a_clear_error(peer: Peer, client: Client) -> None:
    peer.play(Rule(do=Tagged("", documents=True)))
    with pytest.raises(s3dlio.S3Error, match=r"b/k.*reported no ETag for 3 parts"):
        put(client)
    assert peer.requests(COMPLETE) == []
    assert peer.store.orphans() == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("checksum", ["crc64nvme", None])
def test_a_small_object_is_stored_however_etags_are_written(
    peer: Peer, client: Client, form: str, checksum: str | None
) -> None:
    peer.store.versioned = True
    peer.play(Rule(do=Tagged(form)))
    infos = [put(client, SMALL, checksum=checksum), *client.put_many([("s3://b/many", SMALL)], checksum=checksum)]
    assert_stored(peer, SMALL)
    (version,) = peer.store.versions("b", "k")
    tag = {FORMS[0]: f"W/{version.etag}", FORMS[2]: f"W/{version.etag}"}.get(form, version.etag)
    expected = None if form in UNREADABLE else tag
    assert [info.etag for info in infos] == [expected, expected]


def test_complete_sends_the_etags_as_the_store_gave_them(peer: Peer, client: Client) -> None:
    documents: list[bytes] = []

    class Reading:
        def __call__(self, turn: Turn) -> None:
            documents.append(turn.read())
            turn.send(turn.serve())

    peer.play(
        Rule(UPLOAD_PART, part=1, do=Tagged('W/"{}"')),
        Rule(UPLOAD_PART, part=2, do=Tagged("{}")),
        Rule(COMPLETE, do=Reading()),
    )
    put(client)
    (upload,) = peer.store.uploads.values()
    first, second = ([one.encode() for one in re.findall(r"<ETag>([^<]*)</ETag>", text.decode())] for text in documents)
    tags = [upload.parts[number].etag.encode() for number in (1, 2, 3)]
    assert first == [b'W/"%b"' % tags[0], tags[1], b'"%b"' % tags[2]]
    assert second == [b'"%b"' % tag for tag in tags]  # the weak one was refused, and the list names strong ones


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("checksums", [True, False])
def test_a_part_without_an_etag_is_found_in_the_list(peer: Peer, client: Client, number: int, checksums: bool) -> None:
    peer.store.reports_checksums = checksums
    peer.play(Rule(UPLOAD_PART, part=number, do=WithoutETag()))
    put(client)
    assert_stored(peer)
    assert len(peer.requests(LIST)) == 1
    assert len(peer.requests(UPLOAD_PART)) == 3


def test_a_part_without_an_etag_that_the_store_has_otherwise_is_never_published(peer: Peer, client: Client) -> None:
    class Overwritten:
        def __call__(self, turn: Any) -> None:
            turn.read()
            turn.serve(body=bytes(PART), without=CRC)
            turn.send(Reply(200))

    peer.play(Rule(UPLOAD_PART, part=1, do=Overwritten()))
    with pytest.raises(s3dlio.S3Error, match="reported no ETag"):
        put(client)
    assert peer.store.versions("b", "k") == []
    assert peer.store.orphans() == []


# ------------------------------------------------------------------------------------------- sizes and checksums


@pytest.mark.parametrize("length", [None, "", "undefined", "-1", "1_0", "٣"], ids=repr)
@pytest.mark.parametrize("checksum", ["crc64nvme", None])
def test_a_head_that_tells_no_size_fails_nothing(
    peer: Peer, client: Client, length: str | None, checksum: str | None
) -> None:
    peer.store.versioned, peer.store.reports_checksums = True, False
    name = "Content-Length"
    told = Headless() if length is None or not length.isascii() else WithHeader(name, length)
    peer.play(Rule(HEAD, do=told))
    info = put(client, checksum=checksum)
    assert_stored(peer)
    assert info.checksum_confirmed is False
    assert (info.checksum is None) == (checksum is None)


class Headless:
    """An answer to HEAD without a Content-Length, which ends with its connection."""

    def __call__(self, turn: Turn) -> None:
        reply = turn.serve()
        head = turn.head_of(reply).decode("latin-1")
        turn.seen.status = reply.status
        turn.link.send(re.sub("Content-Length: [0-9]+\r\n", "Connection: close\r\n", head).encode("latin-1"))
        turn.close()


@pytest.mark.parametrize("fault", [Status(403), Status(404), Status(500)], ids=repr)
def test_a_head_that_is_refused_fails_nothing(peer: Peer, client: Client, fault: Behaviour) -> None:
    """Whoever may only write may write."""
    peer.store.versioned, peer.store.reports_checksums = True, False
    peer.play(Rule(HEAD, do=fault))
    assert put(client).checksum_confirmed is False
    assert_stored(peer)


def test_a_size_that_differs_is_an_error_and_deletes_nothing(peer: Peer, client: Client) -> None:
    peer.store.versioned = True
    peer.play(Rule(HEAD, do=WithHeader("Content-Length", str(len(DATA) + 1))))
    with pytest.raises(s3dlio.ChecksumMismatchError, match=f"{len(DATA) + 1} bytes.*nothing was deleted"):
        put(client, checksum=None)
    assert_stored(peer)


def test_an_object_that_another_has_written_meanwhile_is_not_compared(peer: Peer, client: Client) -> None:
    """Without versions the HEAD after Complete may find the next writer's object."""

    class Replaced:
        def __call__(self, turn: Turn) -> None:
            turn.peer.store.put("b", "k", SMALL)
            turn.send(turn.serve())

    peer.play(Rule(COMPLETE, do=WithoutHeader("ChecksumCRC64NVME")), Rule(HEAD, do=Replaced()))
    info = put(client)
    assert [one.data for one in peer.store.versions("b", "k")] == [DATA, SMALL]
    assert info.etag == peer.store.versions("b", "k")[0].etag
    assert info.checksum_confirmed is False


ODD_CHECKSUMS = ["", "undefined", "AAAA", "AAAAAAAAAAA", "-3", "AAAAAAAAAAA=, AAAAAAAAAAE="]


@pytest.mark.parametrize("value", ODD_CHECKSUMS, ids=repr)
def test_a_checksum_that_cannot_be_read_is_none(peer: Peer, client: Client, value: str) -> None:
    class Odd:
        def __call__(self, turn: Turn) -> None:
            reply = turn.serve()
            body = re.sub(rb"(<ChecksumCRC64NVME>)[^<]*", rb"\g<1>" + value.encode(), reply.body)
            headers = {name: value if name.lower() == CRC else told for name, told in reply.headers.items()}
            turn.send(replace(reply, headers=headers, body=body))

    peer.store.versioned = True
    peer.play(Rule(do=Odd()))
    infos = [put(client), put(client, SMALL), *client.put_many([(URI, SMALL)])]
    assert [one.data for one in peer.store.versions("b", "k")] == [DATA, SMALL, SMALL]
    assert {info.checksum_confirmed for info in infos} == {False}
    assert all(info.checksum for info in infos)


def test_a_checksum_that_was_told_twice_is_the_same_one(peer: Peer, client: Client) -> None:
    class Twice:
        def __call__(self, turn: Turn) -> None:
            reply = turn.serve()
            headers = {n: f"{told}, {told}" if n.lower() == CRC else told for n, told in reply.headers.items()}
            turn.send(replace(reply, headers=headers))

    peer.play(Rule(do=Twice()))
    assert all(info.checksum_confirmed for info in [put(client), put(client, SMALL), *client.put_many([(URI, SMALL)])])


@pytest.mark.parametrize("checksum", ["crc64nvme", "crc32c", "crc32", "sha256", None])
@pytest.mark.parametrize("reports", [True, False])
def test_what_was_computed_and_what_the_store_confirmed_are_told_apart(
    peer: Peer, client: Client, checksum: str | None, reports: bool
) -> None:
    peer.store.reports_checksums = reports
    for info in (
        put(client, checksum=checksum),
        put(client, SMALL, checksum=checksum),
        *client.put_many([(URI, SMALL), (URI, DATA)], checksum=checksum, part_size=PART),
    ):
        assert info.checksum_confirmed is info["checksum_confirmed"] is (reports and checksum is not None)
        assert dict(info)["checksum_confirmed"] is info.checksum_confirmed
        assert (info.checksum is None) == (checksum is None)
        assert info.checksum_algorithm == checksum


@pytest.mark.parametrize("checksum", ["crc32", "crc32c"])
@pytest.mark.parametrize("wrong", [False, True])
def test_a_composite_checksum_where_another_was_asked_for_is_compared_as_what_it_is(
    peer: Peer, client: Client, checksum: str, wrong: bool
) -> None:
    class Composite:
        """The store does not know the type FULL_OBJECT, and goes by its own."""

        def __call__(self, turn: Turn) -> None:
            upload = turn.peer.store.uploads[turn.seen.upload_id]
            upload.checksum_type = "COMPOSITE"
            del turn.headers["x-amz-checksum-type"], turn.headers[f"x-amz-checksum-{checksum}"]  # type: ignore[attr-defined]
            reply = turn.serve()
            body = re.sub(rb"(<ChecksumCRC32C?>)(.)", rb"\g<1>X", reply.body) if wrong else reply.body
            turn.send(replace(reply, body=body))

    peer.store.versioned = True
    peer.play(Rule(COMPLETE, do=Composite()))
    if wrong:
        with pytest.raises(s3dlio.ChecksumMismatchError, match="nothing was deleted"):
            put(client, checksum=checksum)
    else:
        info = put(client, checksum=checksum)
        assert info.checksum_confirmed
        assert info.checksum == peer.store.versions("b", "k")[0].checksum[1]
    assert_stored(peer)


@pytest.mark.parametrize("version", ["", "null", "v1, v2"])
def test_a_version_that_is_not_clearly_named_is_never_deleted(peer: Peer, client: Client, version: str) -> None:
    class Wrong:
        def __call__(self, turn: Turn) -> None:
            reply = turn.serve()
            headers = {**reply.headers, "x-amz-version-id": version, CRC: "AAAAAAAAAAE="}
            turn.send(replace(reply, headers=headers))

    before = peer.store.put("b", "k", b"what was there before")
    peer.play(Rule(PUT, do=Wrong()))
    with pytest.raises(s3dlio.ChecksumMismatchError, match="may be visible"):
        put(client, SMALL)
    with pytest.raises(s3dlio.ChecksumMismatchError, match="may be visible"):
        client.put_many([(URI, SMALL)])
    assert before in peer.store.versions("b", "k")
    assert peer.requests("DeleteObject") == []


# ------------------------------------------------------------------------------- checksums refused after the Create


class AnyAlgorithm:
    """Create takes any algorithm, for the store does not look at it."""

    def __call__(self, turn: Turn) -> None:
        for name in ("x-amz-checksum-algorithm", "x-amz-checksum-type"):
            turn.headers.pop(name, None)  # type: ignore[attr-defined]
        turn.send(turn.serve())


@dataclass(frozen=True)
class KnowsParts:
    """A part may come with a checksum of any algorithm but these."""

    unknown: tuple[str, ...]

    def __call__(self, turn: Turn) -> None:
        upload = turn.peer.store.uploads[turn.seen.upload_id]
        named = {name.removeprefix("x-amz-checksum-") for name in turn.headers if name.startswith("x-amz-checksum-")}
        for algorithm in named - set(self.unknown):
            upload.algorithm = algorithm
        Without(self.unknown)(turn)


LADDER = [(("crc64nvme",), "crc32c"), (("crc64nvme", "crc32c"), "crc32"), (("crc64nvme", "crc32c", "crc32"), None)]


@pytest.mark.parametrize(("unknown", "used"), LADDER, ids=["crc32c", "crc32", "none"])
def test_a_checksum_that_is_refused_with_the_first_part_gives_way(
    peer: Peer, connect: Connect, unknown: tuple[str, ...], used: str | None
) -> None:
    peer.play(Rule(CREATE, do=AnyAlgorithm()), Rule(UPLOAD_PART, do=KnowsParts(unknown)))
    client = connect(peer)
    info = put(client)
    assert_stored(peer)
    assert info.checksum_algorithm == used
    again = len(peer.requests(CREATE))
    assert client.put_bytes("s3://b/next", DATA, part_size=PART).checksum_algorithm == used
    assert len(peer.requests(CREATE)) == again + 1  # it is remembered
    assert peer.store.orphans() == []


def test_a_checksum_that_is_refused_once_parts_are_stored_names_the_remedy(peer: Peer, client: Client) -> None:
    peer.play(Rule(UPLOAD_PART, part=2, do=Without(("crc64nvme",))))
    writer = client.writer(URI, part_size=PART)
    writer.write(DATA[: PART + 1])
    peer.wait_for(lambda: writer.parts_uploaded == 1)
    writer.write(DATA[PART + 1 :])
    with pytest.raises(s3dlio.S3Error, match=r"part 2.*checksum=None"):
        writer.close()
    assert peer.store.versions("b", "k") == []
    assert peer.store.orphans() == []


@pytest.mark.parametrize("operation", [PUT, CREATE, UPLOAD_PART, COMPLETE])
def test_a_pinned_checksum_that_is_refused_names_the_remedy(peer: Peer, connect: Connect, operation: str) -> None:
    peer.play(Rule(operation, do=Without(("crc64nvme",))))
    pinned = connect(peer, checksum_fallback=False)
    with pytest.raises(s3dlio.S3Error, match=f"{operation}.*checksum=None"):
        put(pinned, SMALL if operation == PUT else DATA)
    if operation == PUT:
        with pytest.raises(s3dlio.S3Error, match=f"{operation}.*checksum=None"):
            pinned.put_many([(URI, SMALL)])
    assert peer.store.versions("b", "k") == []
    assert peer.store.orphans() == []


@pytest.mark.parametrize("checksum", ["crc64nvme", "crc32", "sha256"])
def test_a_checksum_that_is_refused_at_complete_is_left_out_and_the_object_is_compared(
    peer: Peer, connect: Connect, checksum: str
) -> None:
    class NoHeaders:
        """Complete takes checksums of parts in its document, and none in its head."""

        def __call__(self, turn: Turn) -> None:
            told = [
                name for name in turn.headers if name.startswith("x-amz-checksum") or name == "x-amz-mp-object-size"
            ]
            if told:
                Without((checksum, ""), 501, "NotImplemented", f"A header is not implemented: {told[0]}")(turn)
            else:
                turn.send(turn.serve())

    peer.play(Rule(COMPLETE, do=NoHeaders()))
    info = put(connect(peer), checksum=checksum)
    assert_stored(peer)
    assert info.checksum_confirmed
    assert len(peer.requests(COMPLETE)) == 2


def test_a_checksum_that_only_a_head_tells_and_that_differs_is_an_error(peer: Peer, client: Client) -> None:
    peer.store.versioned = True
    peer.play(Rule(COMPLETE, do=WithoutHeader("ChecksumCRC64NVME")), Rule(HEAD, do=WithHeader(CRC, "AAAAAAAAAAE=")))
    with pytest.raises(s3dlio.ChecksumMismatchError, match="deleted again"):
        put(client)
