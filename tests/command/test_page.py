"""The page of the command is what the command says and does."""

from __future__ import annotations

import sys

import cli_page
import pytest
from shell import only_full

from s3dlio.cli.arguments import COMMANDS

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 12), reason="argparse of later versions prints help otherwise")


def test_the_help_on_the_page_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", cli_page.WIDTH)
    assert cli_page.PAGE.read_text(encoding="utf-8").endswith(cli_page.helps()), "run `make cli-page`"


@only_full
def test_the_session_on_the_page_is_what_happens(minio_server: str) -> None:
    text = cli_page.PAGE.read_text(encoding="utf-8").removeprefix(cli_page.HEAD)
    assert text[: text.index("## Help")] == cli_page.session(minio_server), "run `make cli-page`"


def test_the_session_uses_nearly_every_command() -> None:
    lines = [line for lines in cli_page.SESSION.values() for line in lines]
    used = {name for name in COMMANDS if any(f"s3dlio {name} " in line for line in lines)}
    assert set(COMMANDS) - used <= {"bench", "completion", "mv"}
