"""What the fault tests share by name: how often their clients try, and over which transports they run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import s3dlio

ATTEMPTS = 4

Connect = Callable[..., s3dlio.Client]

over_both = pytest.mark.parametrize("peer", ["plain", "tls"], indirect=True)
