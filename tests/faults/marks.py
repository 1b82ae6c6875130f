"""What the fault tests share by name: how often their clients try, and over which transports they run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import pytest

import s3dlio

ATTEMPTS = 4

Connect = Callable[..., s3dlio.Client]

over_both = pytest.mark.parametrize("peer", ["plain", "tls"], indirect=True)


def open_sockets() -> int:
    """How many sockets this process has."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # closed meanwhile
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return count
