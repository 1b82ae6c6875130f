"""What `setup.py` refuses to build for, each with a sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).parent.parent.parent / "setup.py"


def setup_where(stated: str) -> subprocess.CompletedProcess[str]:
    """Runs it as far as its first decision on an interpreter that says this of itself."""
    program = f"import runpy, sys\n{stated}\nrunpy.run_path(sys.argv[1])"
    return subprocess.run([sys.executable, "-c", program, str(SETUP), "--name"], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        ("sys.maxsize = (1 << 31) - 1", "s3dlio needs a 64-bit Python"),
        ("sys.platform = 'win32'", "s3dlio needs POSIX sockets and mmap"),
    ],
)
def test_a_build_that_could_not_work_is_refused_before_it_begins(stated: str, sentence: str) -> None:
    refused = setup_where(f"sys.modules['Cython'] = sys.modules['setuptools'] = None; {stated}")
    assert refused.returncode == 1
    assert refused.stderr.startswith(sentence), refused.stderr
