"""The environments of the contenders: ours is the one that runs the harness, the original has one of its own.

That one is created once, by venv and pip, below .cache, with one pinned version; nothing of it is ever on our own path.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ORIGINAL_VERSION = "0.10.0"


@dataclass(frozen=True)
class Contender:
    """One library with one way to set it up. `root` is where its `s3dlio` has to come from."""

    name: str
    label: str
    python: Path
    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    writer_options: dict[str, Any] = field(default_factory=dict)
    puts_only: bool = False


def _installed_version(python: Path) -> str | None:
    if not python.exists():
        return None
    program = "import importlib.metadata as m; print(m.version('s3dlio'))"
    answer = subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else None


def original_python() -> Path:
    """The interpreter of the original's environment, which is created if it is not there. Raises CalledProcessError."""
    home = ROOT / ".cache" / "peers" / f"s3dlio-{ORIGINAL_VERSION}"
    python = home / "bin" / "python"
    if _installed_version(python) != ORIGINAL_VERSION:
        print(f"creating {home.relative_to(ROOT)}", file=sys.stderr)
        venv.create(home, clear=True, with_pip=True)
        pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, f"s3dlio=={ORIGINAL_VERSION}", "numpy"], check=True)
    return python


def contenders() -> list[Contender]:
    """Ours and the original as they come, then both without any integrity check of uploads."""
    python = original_python()
    home = python.parent.parent
    our_path = {"PYTHONPATH": str(ROOT)}
    return [
        Contender("ours", "this library", Path(sys.executable), ROOT / "s3dlio", our_path),
        Contender("original", f"s3dlio {ORIGINAL_VERSION}", python, home),
        # By default the original signs each payload's SHA-256, and ours sends its CRC64NVME and never signs it. With
        # this variable the original sends neither, so what compares with it is ours without a checksum.
        Contender(
            "original-unsigned",
            f"s3dlio {ORIGINAL_VERSION}, S3DLIO_UNSIGNED_PAYLOAD=1",
            python,
            home,
            {"S3DLIO_UNSIGNED_PAYLOAD": "1"},
            puts_only=True,
        ),
        Contender(
            "ours-unchecked",
            "this library, checksum=None",
            Path(sys.executable),
            ROOT / "s3dlio",
            our_path,
            {"checksum": None},
            puts_only=True,
        ),
    ]
