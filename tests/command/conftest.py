"""The command in this process, for tests of what it does; `shell` runs it as it is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from peer import Peer
from shell import Ended

from s3dlio.cli import main


@pytest.fixture
def here(capfdbinary: Any) -> Callable[..., Ended]:
    """Runs the command in this process, which is much faster than a process of its own."""

    def run(*arguments: str) -> Ended:
        code = main(arguments)
        out, err = capfdbinary.readouterr()
        return Ended(code, out.decode("utf-8", "surrogateescape"), err.decode("utf-8", "surrogateescape"))

    return run


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    """A scripted store that the environment names."""
    with Peer() as opened:
        for name, value in {
            "AWS_ENDPOINT_URL": opened.endpoint_url, "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        yield opened
