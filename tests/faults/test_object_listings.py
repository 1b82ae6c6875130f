"""Listings and deletions of objects against a store whose pages, keys and refusals are odd."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from behaviours import Page, Serve, Status
from hypothesis import given, settings
from hypothesis import strategies as st
from model import Reply, Store
from peer import Peer, Rule, Turn

import s3dlio
from s3dlio import Client, ManyFailedError

LIST, DELETE, DELETE_ONE = "ListObjectsV2", "DeleteObjects", "DeleteObject"
Alter = Callable[[bytes, int], bytes]
KEYS = [f"d/{number:02}" for number in range(7)]


class InPages:
    """Pages of two entries, altered by the number of the page from 1."""

    def __init__(self, alter: Alter = lambda document, _: document) -> None:
        self._alter = alter

    def __call__(self, turn: Turn) -> None:
        turn.target = turn.target.replace("max-keys=1000", "max-keys=2")
        reply = turn.serve()
        turn.send(replace(reply, body=self._alter(reply.body, turn.seen.attempt)))


def without(name: str) -> Alter:
    return lambda document, _: re.sub(rb"<%b>[^<]*</%b>" % (name.encode(), name.encode()), b"", document)


def setting(name: str, value: str, page: int | None = None) -> Alter:
    element = b"<%b>%b</%b>" % (name.encode(), value.encode(), name.encode())

    def alter(document: bytes, number: int) -> bytes:
        if page not in (None, number):
            return document
        return re.sub(rb"<%b>[^<]*</%b>" % (name.encode(), name.encode()), element, document)

    return alter


@pytest.fixture
def filled(peer: Peer) -> Peer:
    for key in KEYS:
        peer.store.put("b", key, b"x" * 3)
    return peer


def keys_of(client: Client, uri: str = "s3://b/d/", **options: Any) -> list[str]:
    return [one.uri.removeprefix("s3://b/") for one in client.iter_objects(uri, **options)]


# ------------------------------------------------------------------------------------------------- pages


def test_all_pages_are_read_in_order(filled: Peer, client: Client) -> None:
    filled.play(Rule(LIST, do=InPages()))
    assert keys_of(client) == KEYS
    assert len(filled.requests(LIST)) == 4


def test_a_page_is_fetched_ahead_and_no_more_than_one(filled: Peer, client: Client) -> None:
    filled.play(Rule(LIST, do=InPages()))
    objects = client.iter_objects("s3://b/d/")
    assert filled.requests(LIST) == []
    next(objects)
    filled.wait_for(lambda: len(filled.requests(LIST)) == 2)
    filled.wait_until_quiet()
    next(objects)
    assert len(filled.requests(LIST)) == 2
    next(objects)
    filled.wait_for(lambda: len(filled.requests(LIST)) == 3)
    objects.close()
    assert list(objects) == []


BROKEN: dict[str, tuple[Alter, str]] = {
    "the same token again": (setting("NextContinuationToken", "ZC8wMQ=="), "was there before|begins again"),
    "more follows, and no token": (without("NextContinuationToken"), "names no next page"),
    "the last page, and a token": (setting("IsTruncated", "false"), "the last and names a next one"),
    "the page of another token": (setting("ContinuationToken", "other"), "another token"),
    "a key of another prefix": (setting("Key", "e/1", 2), "does not begin with 'd/'"),
    "a size that is no number": (setting("Size", "many", 2), "no number"),
    "a size below zero": (setting("Size", "-1", 2), "size that no object has"),
    "an entry without a key": (without("Key"), "lacks Key"),
    "an empty key": (setting("Key", "", 2), "no key"),
    "the first page again": (lambda document, page: document if page == 1 else FIRST, "begins again"),
}
FIRST = (
    b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>true</IsTruncated>'
    b"<NextContinuationToken>new</NextContinuationToken>"
    b"<Contents><Key>d/00</Key><Size>3</Size></Contents></ListBucketResult>"
)


@pytest.mark.parametrize(("alter", "words"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("way", ["iter_objects", "pages", "columns", "list", "delete"])
def test_pages_that_do_not_lead_on_are_an_error(
    filled: Peer, client: Client, alter: Alter, words: str, way: str
) -> None:
    filled.play(Rule(LIST, do=InPages(alter)))
    ways: dict[str, Callable[[], Any]] = {
        "iter_objects": lambda: list(client.iter_objects("s3://b/d/")),
        "pages": lambda: list(client.iter_objects("s3://b/d/").pages()),
        "columns": lambda: client.iter_objects("s3://b/d/").columns(),
        "list": lambda: client.list("s3://b/d/", recursive=True),
        "delete": lambda: client.delete("s3://b/d/", recursive=True),
    }
    with pytest.raises((s3dlio.S3Error, ManyFailedError)) as caught:
        ways[way]()
    error = caught.value
    if isinstance(error, ManyFailedError):  # what the pages before had is deleted, and named
        assert way == "delete"
        assert error.succeeded == [f"s3://b/{key}" for key in KEYS[: len(error.succeeded)]]
        error = error.failed["s3://b/d/"]  # type: ignore[assignment]
    assert isinstance(error, s3dlio.S3Error)
    assert error.code == "MalformedResponse"
    assert re.search(words, str(error))
    assert len(filled.requests(LIST)) <= 4


def test_a_listing_that_failed_does_not_go_on(filled: Peer, client: Client) -> None:
    filled.play(Rule(LIST, do=InPages(without("NextContinuationToken"))))
    objects = client.iter_objects("s3://b/d/")
    with pytest.raises(s3dlio.S3Error, match="names no next page"):
        next(objects)
    with pytest.raises(s3dlio.S3dlioError, match="begin another one"):
        next(objects)


def test_empty_pages_may_come_between_and_do_not_go_on_for_ever(filled: Peer, client: Client) -> None:
    def empty(document: bytes, page: int) -> bytes:
        return re.sub(rb"<Contents>.*</Contents>", b"", document) if page == 2 else document

    filled.play(Rule(LIST, do=InPages(empty)))
    assert keys_of(client) == KEYS[:2] + KEYS[4:]


def test_repeated_common_prefixes_count_once(peer: Peer, client: Client) -> None:
    peer.store.put("b", "a/1", b"")
    peer.play(
        Rule(LIST, do=Page(
            b"<ListBucketResult><CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>"
            b"<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes></ListBucketResult>"
        ))
    )  # fmt: skip
    assert client.list("s3://b") == ["s3://b/a/"]


@pytest.mark.parametrize(
    "page",
    [b"<html>login</html>", b"", b"<ListBucketResult>", b"<Other/>", b"<!DOCTYPE x []><ListBucketResult/>", b"\0"],
    ids=["html", "nothing", "cut", "other", "doctype", "zero"],
)
def test_a_page_that_is_no_listing_is_never_an_empty_one(peer: Peer, client: Client, page: bytes) -> None:
    peer.play(Rule(LIST, do=Page(page)))
    with pytest.raises(s3dlio.S3Error) as caught:
        client.list("s3://b/")
    assert caught.value.code == "MalformedResponse"


def test_a_503_is_retried_and_a_missing_bucket_reported(filled: Peer, client: Client) -> None:
    filled.play(Rule(LIST, attempt=2, do=Status(503, "SlowDown")), Rule(LIST, do=InPages()))
    assert keys_of(client) == KEYS
    with pytest.raises(s3dlio.NotFoundError):
        client.list("s3://missing/")


# ------------------------------------------------------------------------------------------------- selections


def test_siblings_are_never_selected(peer: Peer, client: Client) -> None:
    for key in ("name", "name.bak", "name/below", "names"):
        peer.store.put("b", key, b"")
    assert client.list("s3://b/name") == ["s3://b/name"]
    assert client.list("s3://b/name/") == ["s3://b/name/below"]
    assert client.delete("s3://b/name") == 1
    assert client.list("s3://b", recursive=True) == ["s3://b/name.bak", "s3://b/name/below", "s3://b/names"]
    assert client.list("s3://b/name") == []


ANY_KEY = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20) | st.sampled_from(
    [
        "a+b",
        "a b",
        "%41",
        "a%2Fb",
        "&amp;",
        "<x>",
        "d/",
        "//",
        ".",
        "..",
        "\u00e9",
        "e\u0301",
        "\U0001f600",
        "*",
        "[a]",
        "?",
    ]
)


@given(st.lists(ANY_KEY, max_size=8, unique=True))
@settings(deadline=None, max_examples=60)
def test_keys_go_through_listing_reading_and_deletion_unchanged(keys: list[str]) -> None:
    store = Store("b")
    for key in keys:
        store.put("b", key, key.encode())
    with Peer(store) as peer, Client(endpoint_url=peer.endpoint_url, region="r", credentials=("a", "b")) as client:
        found = keys_of(client, "s3://b")
        assert found == sorted(keys, key=str.encode)
        for key in found:
            assert bytes(client.get(f"s3://b/{key}")) == key.encode()
        assert client.delete("s3://b/", recursive=True) == len(keys)
        assert keys_of(client, "s3://b/") == []


def test_a_key_that_is_not_utf_8_is_listed_and_never_acted_on(filled: Peer, client: Client) -> None:
    last = setting("Key", "d%2F%FF")
    filled.play(Rule(LIST, do=InPages(lambda document, page: document if page % 4 else last(document, page))))
    assert keys_of(client)[-1] == "d/\udcff"
    with pytest.raises(ManyFailedError) as caught:
        client.delete("s3://b/d/", recursive=True)
    assert caught.value.succeeded == [f"s3://b/{key}" for key in KEYS[:-1]]
    (failed,) = caught.value.failed.values()
    assert isinstance(failed, s3dlio.UnsupportedUriError)
    assert "not valid UTF-8" in str(failed)


# ------------------------------------------------------------------------------------------------- deletions


def failing(code: str, *keys: str) -> Callable[[Turn], None]:
    """Deletes all but these keys, which it reports with a code."""

    def behave(turn: Turn) -> None:
        body = turn.read()
        left = re.sub(b"|".join(b"<Object><Key>%b</Key></Object>" % key.encode() for key in keys) or b"$^", b"", body)
        turn.headers["content-md5"] = turn.headers["content-md5"] if left == body else _md5(left)
        turn.serve(left)
        errors = "".join(f"<Error><Key>{key}</Key><Code>{code}</Code><Message>no</Message></Error>" for key in keys)
        turn.send(Reply(200, {}, f"<DeleteResult>{errors}</DeleteResult>".encode()))

    return behave


def _md5(data: bytes) -> str:
    import base64
    import hashlib

    return base64.b64encode(hashlib.md5(data).digest()).decode()


def test_what_could_not_be_deleted_comes_back_with_what_was(filled: Peer, client: Client) -> None:
    filled.play(Rule(DELETE, do=failing("AccessDenied", "d/02", "d/05")))
    with pytest.raises(
        ManyFailedError, match="2 of 7 objects could not be deleted; the first is s3://b/d/02"
    ) as caught:
        client.delete("s3://b/d/", recursive=True)
    error = caught.value
    assert error.succeeded == [f"s3://b/{key}" for key in KEYS if key not in ("d/02", "d/05")]
    assert {uri: type(one) for uri, one in error.failed.items()} == {
        "s3://b/d/02": s3dlio.AccessDeniedError, "s3://b/d/05": s3dlio.AccessDeniedError,
    }  # fmt: skip
    assert keys_of(client) == ["d/02", "d/05"]
    with pytest.raises(ExceptionGroup) as group:  # `except*` sees the classes
        raise error
    assert group.value.subgroup(s3dlio.AccessDeniedError) is not None


def test_a_temporary_failure_of_one_key_is_retried(filled: Peer, client: Client) -> None:
    filled.play(Rule(DELETE, attempt=1, do=failing("SlowDown", "d/03", "d/04")))
    assert client.delete("s3://b/d/", recursive=True) == 7
    assert keys_of(client) == []
    assert len(filled.requests(DELETE)) == 2


def test_a_503_of_a_batch_is_retried(filled: Peer, client: Client) -> None:
    filled.play(Rule(DELETE, attempt=1, do=Status(503, "SlowDown")))
    assert client.delete("s3://b/d/", recursive=True) == 7
    assert keys_of(client) == []


def test_a_store_without_batches_deletes_one_by_one(filled: Peer, client: Client) -> None:
    filled.play(Rule(DELETE, do=Status(501, "NotImplemented")))
    assert client.delete("s3://b/d/*") == 7
    assert len(filled.requests(DELETE_ONE)) == 7
    assert keys_of(client) == []


def test_missing_keys_in_a_result_are_success(filled: Peer, client: Client) -> None:
    filled.play(Rule(DELETE, do=failing("NoSuchKey", "d/00")))
    assert client.delete("s3://b/d/", recursive=True) == 7


def test_a_failure_of_a_key_that_was_not_to_be_deleted_is_an_error(filled: Peer, client: Client) -> None:
    filled.play(Rule(DELETE, do=failing("AccessDenied", "other")))
    with pytest.raises(s3dlio.S3Error, match="'other', which was not to be deleted") as caught:
        client.delete("s3://b/d/", recursive=True)
    assert caught.value.code == "MalformedResponse"


def test_a_batch_without_a_readable_result_is_never_taken_for_deleted(filled: Peer, client: Client) -> None:
    filled.play(Rule(DELETE, do=Page(b"<html>fine</html>")))
    with pytest.raises(s3dlio.S3dlioError):
        client.delete("s3://b/d/", recursive=True)
    assert keys_of(client) == KEYS


def test_no_look_up_precedes_the_deletion_of_one_object(filled: Peer, client: Client) -> None:
    assert client.delete("s3://b/d/00") == 1
    assert client.delete("s3://b/d/never-was") == 1
    assert [one.operation for one in filled.requests()] == [DELETE_ONE, DELETE_ONE]
    filled.play(Rule(DELETE_ONE, do=Status(404, "NoSuchBucket")))
    with pytest.raises(s3dlio.NotFoundError):
        client.delete("s3://b/d/01")


def test_an_interrupt_ends_a_deletion_and_its_requests(filled: Peer, client: Client) -> None:
    """Raised by the listing's consumer thread: the request in flight is cancelled, and nothing waits for the peer."""
    from behaviours import Stall

    filled.play(Rule(DELETE, do=Stall()), Rule(LIST, do=Serve()))
    ended = threading.Event()

    def interrupt() -> None:
        filled.wait_for(lambda: bool(filled.requests(DELETE)))
        import signal

        signal.raise_signal(signal.SIGINT)
        ended.set()

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        client.delete("s3://b/d/", recursive=True)
    helper.join()
    assert ended.is_set()


# ------------------------------------------------------------------------------------------------- versions

VERSIONS = "ListObjectVersions"


def versions_page(*keys: str, truncated: bool = False, marker: str = "", version: str = "") -> bytes:
    entries = "".join(
        f"<Version><Key>{key}</Key><VersionId>v{number}</VersionId><IsLatest>true</IsLatest><Size>1</Size></Version>"
        for number, key in enumerate(keys)
    )
    markers = f"<NextKeyMarker>{marker}</NextKeyMarker>" if marker else ""
    markers += f"<NextVersionIdMarker>{version}</NextVersionIdMarker>" if version else ""
    more = str(truncated).lower()
    return f"<ListVersionsResult><IsTruncated>{more}</IsTruncated>{markers}{entries}</ListVersionsResult>".encode()


BROKEN_VERSIONS = {
    "more follows, and no marker": ([versions_page("d/1", truncated=True)], "names no next page"),
    "the same marker again": ([versions_page("d/1", truncated=True, marker="d/1")] * 2, "was there before"),
    "another prefix": ([versions_page("e/1")], "does not begin with 'd/'"),
    "no key": ([b"<ListVersionsResult><Version><VersionId>v</VersionId></Version></ListVersionsResult>"], "lacks its"),
    "no version": ([b"<ListVersionsResult><Version><Key>d/1</Key></Version></ListVersionsResult>"], "VersionId"),
    "no size": (
        [b"<ListVersionsResult><Version><Key>d/1</Key><VersionId>v</VersionId></Version></ListVersionsResult>"], "size",
    ),
    "no listing": ([b"<html/>"], "expected ListVersionsResult"),
}  # fmt: skip


@pytest.mark.parametrize(("pages", "words"), BROKEN_VERSIONS.values(), ids=BROKEN_VERSIONS)
@pytest.mark.parametrize("way", ["list", "delete"])
def test_pages_of_versions_that_do_not_lead_on_are_an_error(
    peer: Peer, client: Client, pages: list[bytes], words: str, way: str
) -> None:
    peer.play(
        Rule(VERSIONS, do=lambda turn: turn.send(Reply(200, {}, pages[min(turn.seen.attempt, len(pages)) - 1]))),
        Rule(DELETE, do=Page(b"<DeleteResult/>")),
        Rule(DELETE_ONE, do=Status(204)),
    )
    with pytest.raises((s3dlio.S3Error, ManyFailedError)) as caught:
        list(client.list_versions("s3://b/d/")) if way == "list" else client.delete_all_versions("s3://b/d/")
    error = caught.value
    if isinstance(error, ManyFailedError):
        error = error.failed["s3://b/d/"]  # type: ignore[assignment]
    assert isinstance(error, s3dlio.S3Error)
    assert error.code == "MalformedResponse"
    assert re.search(words, str(error))
    assert len(peer.requests(VERSIONS)) <= 3


def test_versions_of_one_object_end_where_another_key_begins(peer: Peer, client: Client) -> None:
    pages = [versions_page("d", "d", "d.bak", truncated=True, marker="d.bak", version="v2"), versions_page("dx")]
    peer.play(Rule(VERSIONS, do=lambda turn: turn.send(Reply(200, {}, pages[turn.seen.attempt - 1]))))
    assert [one.version_id for one in client.list_versions("s3://b/d")] == ["v0", "v1"]
    assert len(peer.requests(VERSIONS)) == 1


# ------------------------------------------------------------------------------------------------- exists


@pytest.mark.parametrize("status", [400, 401, 403, 405, 409, 412, 500, 503])
def test_exists_is_false_for_a_404_alone(filled: Peer, client: Client, status: int) -> None:
    assert client.exists("s3://b/d/00")
    assert not client.exists("s3://b/d")
    filled.play(Rule("HeadObject", do=Status(status)))
    with pytest.raises(s3dlio.S3Error):
        client.exists("s3://b/d/00")
