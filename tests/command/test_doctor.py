"""`s3dlio doctor` finds what is wrong, says where each setting came from, and shows no secret."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from behaviours import Clock, IgnoreRange, Status
from peer import Peer, Rule, Turn
from shell import Ended, s3dlio

Here = Callable[..., Ended]

KEY, SECRET, TOKEN = "AKIAEXAMPLEKEY7WXYZ", "secret-of-the-test", "token-of-the-test"


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    with Peer() as opened:
        for name, value in {
            "AWS_ENDPOINT_URL_S3": opened.endpoint_url, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_SESSION_TOKEN": TOKEN,
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        yield opened


def checks(ended: Ended) -> dict[str, dict[str, Any]]:
    """The checks by their names."""
    return {one["check"]: one for one in ended.objects[:-1]}


@pytest.mark.parametrize("way", ["embedded", "minio"])
def test_a_good_store_passes_every_check(request: pytest.FixtureRequest, way: str) -> None:
    store = request.getfixturevalue(way)
    ended = s3dlio("doctor", "--json", store.uri("below/"))
    found = checks(ended)
    assert {one["status"] for name, one in found.items() if name not in ("huge pages", "open files")} == {"ok"}
    assert {"resolves", "connects", "tls", "signed request", "clock", "list", "write", "machine"} < found.keys()
    for name in ("checksums", "ranges", "conditional writes"):
        assert found[name]["value"].startswith(("supported", "crc64nvme"))
    assert "Contents" not in store.boto3.list_objects_v2(Bucket=store.bucket)


def test_each_setting_has_its_source_and_no_secret_is_shown(
    here: Here, peer: Peer, tmp_path: Path, monkeypatch: Any
) -> None:
    config = tmp_path / "config"
    config.write_text("[profile lab]\nregion = eu-west-7\nmax_attempts = 4\ns3 =\n  addressing_style = path\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    ended = here("doctor", "--json", "s3://b")
    found = {name: (one["value"], one.get("source")) for name, one in checks(ended).items()}
    assert found["profile"] == ("lab", "AWS_PROFILE")
    assert found["endpoint"] == (peer.endpoint_url, "AWS_ENDPOINT_URL_S3")
    assert found["region"] == ("eu-west-7", "profile lab (AWS_PROFILE)")
    assert found["addressing"] == ("path", "profile lab (AWS_PROFILE)")
    assert found["attempts"] == ("4", "profile lab (AWS_PROFILE)")
    assert found["credentials"] == ("access key ...WXYZ, session token", "AWS_ACCESS_KEY_ID")
    verbose = here("doctor", "s3://b", "-vv")
    text = ended.out + verbose.out + verbose.err
    assert not [secret for secret in (KEY, SECRET, TOKEN) if secret in text]
    given = here("doctor", "--json", "s3://b", "--region", "r-1", "--max-attempts", "2", "--addressing-style", "path")
    sources = {name: one.get("source") for name, one in checks(given).items()}
    assert (sources["region"], sources["attempts"], sources["addressing"]) == ("argument",) * 3


def test_no_endpoint_is_told_to_be_amazon(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:word@127.0.0.1:9")  # nothing leaves this machine
    ended = here("doctor", "--json", "--no-sign-request", "--max-attempts", "1")
    endpoint = checks(ended)["endpoint"]
    assert (endpoint["value"], endpoint["source"]) == ("https://s3.us-east-1.amazonaws.com:443", "default")
    assert "this is Amazon S3" in endpoint["advice"]
    assert "word" not in ended.out
    assert ended.code == 255


@pytest.mark.parametrize(
    ("behaviour", "check", "status", "advice", "code"),
    [
        (Rule(do=Clock(3000)), "clock", "warning", "set this machine's clock", 2),
        (Rule(do=Status(403, "AccessDenied")), "signed request", "failed", "does not let them do this", 254),
        (Rule("HeadBucket", do=Status(404, "NoSuchBucket")), "signed request", "failed", "s3dlio mb makes one", 254),
        (Rule("ListObjectsV2", do=Status(403, "AccessDenied")), "list", "failed", "ask for a policy", 254),
        (Rule("PutObject", do=Status(403, "AccessDenied")), "write", "failed", "ask for a policy", 254),
        (Rule("GetObject", do=IgnoreRange()), "ranges", "warning", "leave range_optimization off", 2),
    ],
)
def test_what_is_wrong_is_found_with_what_to_do(
    here: Here, peer: Peer, behaviour: Rule, check: str, status: str, advice: str, code: int
) -> None:
    peer.play(behaviour)
    ended = here("doctor", "--json", "s3://b/below/", "--max-attempts", "2")
    found = checks(ended)[check]
    assert (found["status"], ended.code) == (status, code)
    assert advice in found["advice"]
    assert not peer.store.versions("b", "below/") or check == "write"
    line = next(one for one in here("doctor", "s3://b/below/", "--max-attempts", "2").lines if check in one)
    assert line.split()[0] == status


def ignores_conditions(turn: Turn) -> None:
    turn.send(turn.serve(without="if-none-match"))


def test_a_store_that_ignores_if_none_match_is_exposed(here: Here, peer: Peer) -> None:
    peer.play(Rule("PutObject", do=ignores_conditions))
    found = checks(here("doctor", "--json", "s3://b/p/"))["conditional writes"]
    assert (found["status"], "two writers both succeed" in found["advice"]) == ("warning", True)


def test_a_store_that_confirms_no_checksum_is_told(here: Here, peer: Peer) -> None:
    peer.store.reports_checksums = False
    assert checks(here("doctor", "--json", "s3://b/p/"))["checksums"]["status"] == "warning"


def test_a_port_without_a_store_is_told(here: Here, peer: Peer) -> None:
    ended = here("doctor", "--json", "--endpoint-url", "http://127.0.0.1:9", "--timeout", "5")
    found = checks(ended)
    assert (found["connects"]["status"], ended.code) == ("failed", 255)
    assert "that the store runs" in found["connects"]["advice"]
    assert "signed request" not in found
    assert "machine" in found


def test_tls_is_described_and_a_certificate_that_is_not_trusted_is_told(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority.make(tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with Peer(tls=authority.context) as peer:
        arguments = ("doctor", "--json", "s3://b", "--endpoint-url", peer.endpoint_url)
        good = checks(here(*arguments, "--ca-bundle", str(authority.bundle)))
        assert good["tls"]["value"].startswith("TLSv1.3")
        assert "certificate until" in good["tls"]["value"]
        bad = checks(here(*arguments))["connects"]
        assert "--ca-bundle" in bad["advice"]
        unsafe = checks(here(*arguments, "--no-verify-ssl"))
        assert unsafe["certificates"]["status"] == "warning"


def test_a_profile_that_is_not_there_is_told(here: Here, peer: Peer) -> None:
    ended = here("doctor", "--json", "--profile", "nobody")
    assert ended.code == 253
    assert [one["status"] for one in ended.objects if "nobody" in str(one.get("value"))]


def test_one_object_is_no_place_to_try(here: Here, peer: Peer) -> None:
    ended = here("doctor", "s3://b/key")
    assert (ended.code, "s3://b/key/ to try writing below it" in ended.err) == (252, True)
