"""Settings: bounds, refusals that name the remedy, and the reference page."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES

from s3dlio import ConfigurationError, MultipartUploadConfig
from s3dlio._transfer.ranges import AUTOMATIC
from s3dlio._values.environment import _CLIENT_VARIABLES, VARIABLES, pool_idle_limit
from s3dlio.config import ClientSettings, DownloadSettings, RetryPolicy, Timeouts

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "reference" / "environment-variables.md").read_text(encoding="utf-8")


def test_the_four_variables_have_the_documented_defaults() -> None:
    assert DownloadSettings.resolve() == DownloadSettings(False, 64 << 20, None, None)


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda v: v.name)
def test_the_reference_page_says_what_config_enforces(variable: Any) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{variable.name}` |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [f"`{variable.name}`", *variable[1:]]


def test_the_reference_page_names_no_variable_that_is_not_read() -> None:
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \|", PAGE.partition("Automatic chunk")[0], re.MULTILINE)
    assert rows == [variable.name for variable in VARIABLES]


def test_the_reference_page_tells_of_every_variable_that_botocore_or_a_client_knows() -> None:
    known = set(_CLIENT_VARIABLES)
    for _, names, _, _ in BOTOCORE_DEFAUT_SESSION_VARIABLES.values():
        known.update([names] if isinstance(names, str) else names or [])
    assert len(known) > 50
    told = set(re.findall(r"\b[A-Z0-9_]+\b", PAGE))
    assert {name for name in known if name.upper() not in told} == set()


def test_one_module_reads_variables() -> None:
    package = ROOT / "s3dlio"
    # The command asks what its terminal can show.
    readers = {package / "_values" / "environment.py", package / "cli" / "console.py"}
    for path in package.rglob("*.py"):
        if path not in readers:
            assert not re.search(r"os\.environ|getenv", path.read_text(encoding="utf-8")), path.name


def test_the_reference_page_shows_the_automatic_table() -> None:
    for row in AUTOMATIC:
        below = "any size" if row.below is None else f"{row.below >> 20} MiB"
        assert f"| {below} | {row.chunk >> 20} MiB | {row.concurrency} |" in PAGE


BAD = [
    ("S3DLIO_ENABLE_RANGE_OPTIMIZATION", "maybe"),
    ("S3DLIO_RANGE_THRESHOLD_MB", "-1"),
    ("S3DLIO_RANGE_THRESHOLD_MB", "64MB"),
    ("S3DLIO_RANGE_CONCURRENCY", "0"),
    ("S3DLIO_RANGE_CONCURRENCY", "1025"),
    ("S3DLIO_CHUNK_SIZE", "1000"),
    ("S3DLIO_CHUNK_SIZE", "1e6"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_variable_is_named_with_value_and_range(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    bounds = next(v.bounds for v in VARIABLES if v.name == name)
    with pytest.raises(ConfigurationError, match=re.escape(f"{name}={value!r}")) as caught:
        DownloadSettings.resolve()
    assert bounds in str(caught.value)


def test_a_bad_idle_limit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3DLIO_POOL_IDLE_MB", "lots")
    with pytest.raises(ConfigurationError, match="S3DLIO_POOL_IDLE_MB='lots'"):
        pool_idle_limit()
    monkeypatch.setenv("S3DLIO_POOL_IDLE_MB", "3")
    assert pool_idle_limit() == 3 << 20


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_booleans_are_read_in_every_usual_form(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3DLIO_ENABLE_RANGE_OPTIMIZATION", value)
    assert DownloadSettings.resolve().range_optimization


def test_keywords_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3DLIO_ENABLE_RANGE_OPTIMIZATION", "1")
    monkeypatch.setenv("S3DLIO_CHUNK_SIZE", "65536")
    assert DownloadSettings.resolve(False, 5, 6, 1 << 20) == DownloadSettings(False, 5, 6, 1 << 20)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"part_size": 5 * 2**20 - 1}, "part_size=5242879"),
        ({"part_size": 5 * 2**30 + 1}, "part_size"),
        ({"part_size": float("nan")}, "part_size=nan"),
        ({"part_size": 16e6}, "part_size"),
        ({"part_size": True}, "part_size=True"),
        ({"max_in_flight": 0}, "max_in_flight=0"),
        ({"max_in_flight": 1025}, "max_in_flight=1025"),
        ({"content_type": "a\r\nb"}, "content_type"),
        ({"content_type": "a\x00"}, "content_type"),
        ({"cache_control": 5}, "cache_control=5"),
        ({"metadata": {"a": "b\nc"}}, "metadata"),
        ({"metadata": {"a b": "c"}}, "metadata key 'a b'"),
        ({"metadata": {"a": "ü"}}, "ASCII"),
        ({"metadata": {"a": "x" * 3000}}, "2048"),
        ({"metadata": "a=b"}, "mapping"),
        ({"tags": {str(n): "" for n in range(11)}}, "10"),
        ({"if_none_match": "etag"}, "if_none_match"),
        ({"if_match": '"'}, "if_match"),
        ({"if_match": "a", "if_none_match": "*"}, "exclude"),
        ({"checksum": "md5"}, "checksum='md5'"),
        ({"expected_size": -1}, "expected_size=-1"),
        ({"grow_part_size": 1}, "grow_part_size=1"),
    ],
)
def test_a_bad_upload_setting_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(named)):
        MultipartUploadConfig(**options)


def test_an_expected_size_raises_the_part_size_at_once() -> None:
    config = MultipartUploadConfig(expected_size=5 << 40)
    assert config.part_size * 10_000 >= 5 << 40
    assert MultipartUploadConfig(expected_size=1 << 30).part_size == 16 << 20


def test_if_match_takes_both_forms() -> None:
    assert MultipartUploadConfig(if_match='"abc"').if_match == MultipartUploadConfig(if_match="abc").if_match == "abc"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Timeouts(connect=0),
        lambda: Timeouts(idle=float("inf")),
        lambda: Timeouts(send="5"),  # type: ignore[arg-type]
        lambda: RetryPolicy(max_attempts=0),
        lambda: RetryPolicy(base_delay=-1),
        lambda: ClientSettings(addressing_style="host"),
        lambda: ClientSettings(credentials="me:secret"),
        lambda: ClientSettings(verify="ca.pem"),  # type: ignore[arg-type]
        lambda: ClientSettings(region="a\nb"),
        lambda: ClientSettings(max_connections=0),
    ],
)
def test_a_bad_client_setting_is_refused(make: Any) -> None:
    with pytest.raises(ConfigurationError):
        make()


def test_no_secret_is_in_a_repr() -> None:
    assert "hush" not in repr(ClientSettings(credentials=("id", "hush", "hush-token")))
    with pytest.raises(ConfigurationError) as caught:
        ClientSettings(credentials=("hush",))
    assert "hush" not in str(caught.value)


def test_the_environment_of_the_tests_is_plain() -> None:
    assert not [name for name in os.environ if name.startswith("S3DLIO_RANGE")]
