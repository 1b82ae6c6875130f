"""The soak would say so: objects that are dropped, changed or cut, uploads left behind, downloads of two versions."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ledger
import pytest
from behaviours import DropBeforeHead
from chaos import Chaos, Detour
from content import Content
from counts import Counts
from ledger import Records, Verdict
from oddities import GATEWAY, REPLACED, SURVIVABLE, UNUSABLE
from places import MinioPlace, PeerPlace, Place, ProxiedPlace
from proxy import Asked
from scenarios import WEIGHTS, Turn, read_some, upload_by_threads
from scripted import EXTENT, EXTENTS
from servers import SKIPPED, minio_binary
from soak import Soak

PART = 5 << 20
FIRST, SECOND = Content(1, PART + 17), Content(2, PART + 17)


@pytest.fixture(params=["peer"] if EXTENT is EXTENTS["quick"] else ["peer", "minio", "proxied"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A store with an object that was written, reported, and read, in two versions."""
    monkeypatch.setattr(ledger, "SETTLING", 0.5)
    made: Place
    if request.param == "peer":
        peer_place = PeerPlace(Chaos(0, Counts()), None)
        peer_place.peer.play()
        made = peer_place
    else:
        binary = minio_binary()
        if binary is None:
            if os.environ.get("S3DLIO_REQUIRE_MINIO") == "1":
                pytest.fail(SKIPPED)
            pytest.skip("MinIO was not found")
        made = MinioPlace(binary) if request.param == "minio" else ProxiedPlace(binary, lambda _: ["chunked"], None)
    for content in (FIRST, SECOND):
        write(made, "k", content)
        made.ledger.read("k", 0, None, made.client.get(made.uri("k")))
        made.ledger.read("k", 5, 1000, made.client.get_range(made.uri("k"), 5, 995))
    yield made
    made.close()


def write(place: Place, key: str, content: Content) -> None:
    place.ledger.begin(key, content)
    info = place.client.put_bytes(place.uri(key), content.data(), part_size=PART)
    place.ledger.close(key, content, info.version_id)


def numbers(verdict: Verdict) -> tuple[int, int, int, int]:
    return verdict.lost, verdict.orphaned, verdict.reported, verdict.mixed


def test_a_store_that_has_everything_is_clean(place: Any) -> None:
    verdict = place.ledger.audit(place)
    assert str(verdict) == "lost 0, orphaned 0 (reported 0), mixed 0"
    assert (verdict.clean, verdict.objects, verdict.bytes) == (True, 2, 2 * FIRST.size)


def test_an_object_that_is_gone_is_lost(place: Any) -> None:
    write(place, "gone", FIRST)
    if isinstance(place, PeerPlace):
        del place.store._objects[place.bucket]["gone"]
    else:
        version = next(one["VersionId"] for one in place._listed() if one["Key"] == "gone")
        place._boto3.delete_object(Bucket=place.bucket, Key="gone", VersionId=version)
    verdict = place.ledger.audit(place)
    assert numbers(verdict) == (1, 0, 0, 0)
    assert "gone" in verdict.findings[0]


def test_a_reported_version_that_only_a_later_one_resembles_is_lost(place: Any) -> None:
    """Its own version is what counts: that the object was written again makes nothing good."""
    place.ledger.close("k", FIRST, place.versions("k")[-1 if place.name == "peer" else 0].version_id)
    assert numbers(place.ledger.audit(place)) == (1, 0, 0, 0)


def test_what_was_closed_without_a_version_id_is_looked_for_among_all_versions(place: Any) -> None:
    place.ledger.close("k", FIRST, None)
    assert numbers(place.ledger.audit(place)) == (0, 0, 0, 0)
    place.ledger.close("k", Content(3, FIRST.size), None)
    assert numbers(place.ledger.audit(place)) == (1, 0, 0, 0)


def test_what_nobody_wrote_is_mixed_and_what_it_replaced_is_lost(place: Any) -> None:
    halves = FIRST.data()[:PART] + SECOND.data()[PART:]
    info = place.client.put_bytes(place.uri("k"), halves)
    place.ledger.close("k", FIRST, info.version_id)
    assert numbers(place.ledger.audit(place)) == (1, 0, 0, 1)


def test_an_object_that_ends_early_is_lost_and_mixed(place: Any) -> None:
    place.ledger.begin("cut", FIRST)
    info = place.client.put_bytes(place.uri("cut"), FIRST.data()[:-1])
    place.ledger.close("cut", FIRST, info.version_id)
    assert numbers(place.ledger.audit(place)) == (1, 0, 0, 1)


def test_an_object_that_nobody_began_is_mixed(place: Any) -> None:
    place.client.put_bytes(place.uri("stranger"), b"x")
    assert numbers(place.ledger.audit(place)) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("begin", "end", "data"),
    [
        (0, None, FIRST.data()[:PART] + SECOND.data()[PART:]),
        (0, None, FIRST.data()[:-1]),
        (0, None, FIRST.data() + b"x"),
        (5, 1000, FIRST.data()[6:1001]),
        (PART - 10, PART + 10, FIRST.data()[PART - 10 : PART] + SECOND.data()[PART : PART + 10]),
    ],
    ids=["two-versions", "short", "long", "shifted", "range-of-two"],
)
def test_a_download_that_is_of_no_whole_version_is_mixed(place: Any, begin: int, end: int | None, data: bytes) -> None:
    place.ledger.read("k", begin, end, data)
    assert numbers(place.ledger.audit(place)) == (0, 0, 0, 1)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("parts", [0, 1])
def test_an_upload_that_nobody_ended_is_an_orphan(place: Any, parts: int) -> None:
    leave_upload(place, parts)
    assert numbers(place.ledger.audit(place)) == (0, 1, 0, 0)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_only_an_upload_without_parts_that_a_warning_named_counts_as_reported(place: Any) -> None:
    leave_upload(place, 0)
    warning = "attempts at CreateMultipartUpload of {} that may have taken effect unseen: {}; as many uploads"
    place.ledger.note(warning.format(place.uri("another"), 1))
    place.ledger.note(warning.format("s3://another-bucket/left", 1))
    assert numbers(place.ledger.audit(place)) == (0, 1, 0, 0)
    place.ledger.note(warning.format(place.uri("left"), 1))
    assert numbers(place.ledger.audit(place)) == (0, 0, 1, 0)
    leave_upload(place, 0)
    assert numbers(place.ledger.audit(place)) == (0, 1, 1, 0)
    place.ledger.note(warning.format(place.uri("left"), 2))
    assert numbers(place.ledger.audit(place)) == (0, 0, 2, 0)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_reported_upload_with_a_part_is_an_orphan_all_the_same(place: Any) -> None:
    leave_upload(place, 1)
    place.ledger.note(f"CreateMultipartUpload of {place.uri('left')} that may have taken effect unseen: 1; as many")
    assert numbers(place.ledger.audit(place)) == (0, 1, 0, 0)


def leave_upload(place: Any, parts: int) -> None:
    place.ledger.begin("left", FIRST)
    writer = place.client.writer(place.uri("left"), part_size=PART, abort_on_drop=False)
    writer.write(FIRST.data()[: parts * PART])
    writer._state._ensure_created()
    if parts:
        writer.flush()
    writer._state._scope.cancel()


@pytest.mark.parametrize("place", ["minio"], indirect=True)
def test_uploads_that_minio_no_longer_lists_are_found_on_its_disk(place: Any) -> None:
    place._boto3.create_multipart_upload(Bucket=place.bucket, Key="never-begun-by-us")
    assert place.restart(0.0)
    assert numbers(place.ledger.audit(place)) == (0, 1, 0, 0)


def test_records_that_are_torn_missing_or_twice_there_are_not_whole() -> None:
    from stress import record

    records = [record(0, 0, 100), record(1, 0, 50), record(0, 1, 7)]
    whole = Records([2, 1])
    assert whole.holds(b"".join(records))
    assert whole.holds(records[1] + records[0] + records[2])
    for wrong in ([0, 1], [0, 2, 1], [0, 1, 2, 2]):
        assert whole.holds(b"".join(records[one] for one in wrong)) is (wrong == [0, 2, 1])
    assert not whole.holds(b"".join(records)[:-1])
    assert not whole.holds(records[0][:60] + records[1] + records[0][60:] + records[2])


# --------------------------------------------------------------------------------------------- the soak as a whole


@pytest.fixture
def soaked(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Soak, PeerPlace]]:
    """A soak that has run some scenarios against the peer, and was not audited yet."""
    monkeypatch.setattr(ledger, "SETTLING", 5.0)
    soak = Soak(11, None)
    places = soak.open(0)
    soak.act(places, 0, time.monotonic() + 60, scenarios=2)
    yield soak, places[0]  # type: ignore[misc]
    places[0].close()


@pytest.mark.timeout(240)
def test_a_soak_ends_with_what_the_store_says(
    soaked: tuple[Soak, PeerPlace], capsys: pytest.CaptureFixture[str]
) -> None:
    soak, place = soaked
    soak.counts.add("downloads", 0)
    turn = Turn(place, random.Random(1), soak.counts, "again")
    write(place, "again", FIRST)
    soak.counts.add("uploads")
    place.peer.play()
    read_some(turn, "again", 2)
    upload_by_threads(replace(turn, name="threads"))
    soak.audit([place])
    assert soak.report() == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("lost 0, orphaned 0 (reported ")

    stored = place.store._objects[place.bucket]
    stored["again"][0] = replace(stored["again"][0], data=b"damaged")
    del stored["threads"]
    soak.verdict = Verdict()
    soak.audit([place])
    assert soak.report() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("lost 2, orphaned 0 (reported ")
    # The damaged version itself, and two downloads that no version explains any more.
    assert lines[-1].endswith(", mixed 3")


def test_a_soak_in_which_nothing_happened_proves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert Soak(1, None).report() == 1
    assert "proves nothing" in capsys.readouterr().out


def test_a_scenario_that_ends_in_an_error_beyond_the_contract_ends_the_soak(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(turn: Turn) -> None:
        raise ZeroDivisionError("of the library, say")

    monkeypatch.setattr("soak.WEIGHTS", {broken: 1})
    soak = Soak(1, None)
    places = soak.open(0)
    try:
        soak.act(places, 0, time.monotonic() + 60)
    finally:
        places[0].close()
    assert soak.report() == 1
    assert any("of the library, say" in text for text in soak.broken)


def test_the_seed_alone_decides_what_goes_wrong() -> None:
    requests = [("UploadPart", f"key{n}", part, None, 1) for n in range(50) for part in range(1, 4)]
    first, again, other = ([repr(Chaos(seed, Counts()).choose(*request)) for request in requests] for seed in (5, 5, 6))
    assert first == again != other
    assert len(WEIGHTS) == len({scenario.__name__ for scenario in WEIGHTS})


def test_the_seed_alone_decides_what_happens_on_the_way() -> None:
    requests = [Asked("GET", "GetObject", "b", f"k{n}", None, offset, 1) for n in range(200) for offset in (None, 0, 9)]
    first, again, other = ([Detour(seed, Counts()).choose(one) for one in requests] for seed in (5, 5, 6))
    assert first == again != other
    chosen = {name for names in first for name in names}
    assert chosen == {*SURVIVABLE, *UNUSABLE, *GATEWAY}
    puts = [Detour(5, Counts()).choose(replace(one, method="PUT", operation="UploadPart")) for one in requests]
    assert {name for names in puts for name in names} == {*SURVIVABLE, *REPLACED}
    assert all(not {*names} & {*UNUSABLE} for names, one in zip(first, requests, strict=True) if one.offset is None)


def test_a_lost_create_is_among_what_goes_wrong() -> None:
    chosen = {repr(Chaos(1, Counts()).choose("CreateMultipartUpload", f"k{n}", None, None, 1)) for n in range(300)}
    assert any("LostResponse" in one for one in chosen)
    assert repr(DropBeforeHead()) in chosen
