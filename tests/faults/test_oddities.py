"""The proxy passes requests on as they are and every byte of a body, whatever it does to heads and framings."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Iterator

import pytest
from authority import Authority
from behaviours import EarlyResponse, ResetRequest, ShortBody
from oddities import FRAMINGS, ODDITIES, REPLACED
from peer import Peer, Rule
from proxy import Asked, Proxy

BODY = bytes(range(256)) * 5000
Ask = Callable[..., http.client.HTTPResponse]
# http.client takes a 103 for the answer itself.
READABLE = [name for name in ODDITIES if name != "interim-103" and name not in REPLACED]


@pytest.fixture
def proxy(peer: Peer, request: pytest.FixtureRequest, authority: Authority) -> Iterator[Proxy]:
    """Before a plain peer; TLS on its clients' side where it says so."""
    with Proxy(port_of(peer), tls=authority.context if getattr(request, "param", None) == "tls" else None) as opened:
        peer.store.put("b", "k", BODY)
        yield opened


def port_of(peer: Peer) -> int:
    return int(peer.endpoint_url.rpartition(":")[2])


@pytest.fixture
def ask(proxy: Proxy, authority: Authority) -> Iterator[Ask]:
    """Sends a request over one connection, which is opened anew where it has been closed."""
    scheme, _, place = proxy.endpoint_url.partition("://")
    if scheme == "https":
        context = ssl.create_default_context(cafile=str(authority.bundle))
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(place, timeout=20, context=context)
    else:
        connection = http.client.HTTPConnection(place, timeout=20)

    def send(method: str, target: str = "/b/k", **options: object) -> http.client.HTTPResponse:
        connection.request(method, target, **options)  # type: ignore[arg-type]
        return connection.getresponse()

    yield send
    connection.close()


over_tls_too = pytest.mark.parametrize("proxy", ["plain", "tls"], indirect=True)


@over_tls_too
@pytest.mark.parametrize("name", [name for name in FRAMINGS if name in READABLE])
def test_every_byte_passes_in_every_framing(proxy: Proxy, ask: Ask, name: str) -> None:
    for names, headers, expected in [
        ([name], {}, BODY),
        ([], {}, BODY),
        ([name], {"Range": "bytes=100-149"}, BODY[100:150]),
        ([name, "no-etag"], {}, BODY),
    ]:
        proxy.choose = lambda _, names=names: names  # type: ignore[misc]
        answer = ask("GET", headers=headers)
        assert answer.read() == expected
        framed = answer.getheader("Transfer-Encoding", "") + (answer.getheader("Content-Length") or "")
        if "chunk" in name:
            assert framed == ("chunked" if names else str(len(BODY)))
        assert (answer.getheader("ETag") is None) == ("no-etag" in names)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", [name for name in READABLE if name != "cut"])
def test_no_oddity_changes_what_a_body_holds(proxy: Proxy, ask: Ask, name: str, method: str) -> None:
    proxy.choose = lambda _: [name]
    for _ in range(2):
        answer = ask(method, headers={"Range": "bytes=5-9"})
        assert answer.status == (206 if method == "GET" else 200)
        assert answer.read() == (BODY[5:10] if method == "GET" else b"")


def test_a_cut_body_ends_a_byte_early(proxy: Proxy, ask: Ask) -> None:
    proxy.choose = lambda _: ["cut"]
    assert ask("GET").read() == BODY[:-1]


@pytest.mark.parametrize("name", [name for name in REPLACED if name != "lost"])
def test_a_page_stands_in_place_of_an_answer_that_has_had_its_effect(
    proxy: Proxy, ask: Ask, peer: Peer, name: str
) -> None:
    proxy.choose = lambda asked: [name] if asked.operation == "PutObject" else []
    answer = ask("PUT", "/b/new", body=b"data")
    assert (answer.status, answer.getheader("ETag")) == (int(name.partition("-")[2] if "gate" in name else 200), None)
    assert (b"<html>" in answer.read()) == (name in ("gateway-502", "html-200"))
    assert ask("GET", "/b/new").read() == b"data"


def test_a_lost_answer_ends_the_connection(proxy: Proxy, ask: Ask, peer: Peer) -> None:
    proxy.choose = lambda asked: ["lost"] if asked.operation == "PutObject" else []
    with pytest.raises(http.client.RemoteDisconnected):
        ask("PUT", "/b/new", body=b"data")
    assert ask("GET", "/b/new").read() == b"data"


def test_requests_pass_as_they_are(proxy: Proxy, ask: Ask, peer: Peer) -> None:
    answer = ask("PUT", "/b/new?partNumber=1&uploadId=none", body=BODY, headers={"X-Amz-Date": "x", "Host": "a:1"})
    assert answer.status == 404
    answer.read()
    (seen,) = peer.requests("UploadPart", 1)
    assert (seen.received, seen.headers["host"], seen.headers["x-amz-date"]) == (len(BODY), "a:1", "x")
    asked = Asked("PUT", "UploadPart", "b", "new", 1, None, 1)
    assert proxy.transcript("new") == f"{asked}: 404"


def test_an_answer_before_the_end_of_a_request_passes_at_once(proxy: Proxy, ask: Ask, peer: Peer) -> None:
    peer.play(Rule(operation="PutObject", do=EarlyResponse(403, "AccessDenied", after=100)))
    answer = ask("PUT", body=bytes(8 << 20))
    assert (answer.status, answer.getheader("Connection")) == (403, "close")


def test_a_store_that_ends_without_an_answer_is_answered_for(proxy: Proxy, ask: Ask, peer: Peer) -> None:
    peer.play(Rule(attempt=1, do=ResetRequest()))
    answer = ask("GET")
    assert (answer.status, answer.getheader("Content-Type")) == (502, "text/html")
    answer.read()
    assert ask("GET").read() == BODY


def test_a_store_that_is_not_there_is_answered_for(peer: Peer, proxy: Proxy, ask: Ask) -> None:
    peer.close()
    answer = ask("PUT", body=BODY)
    assert answer.status == 502
    assert b"Bad Gateway" in answer.read()


@pytest.mark.parametrize("name", ["chunked", "until-close", "interim-100"])
def test_a_body_that_the_store_cuts_is_never_whole_for_the_client(
    proxy: Proxy, ask: Ask, peer: Peer, name: str
) -> None:
    proxy.choose = lambda _: [name]
    peer.play(Rule(do=ShortBody()))
    with pytest.raises((OSError, http.client.HTTPException)):
        ask("GET").read()
    proxy.wait_until_quiet()
