"""What a soak has done so far, counted from many threads."""

from __future__ import annotations

import threading
from collections import Counter


class Counts:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: Counter[str] = Counter()

    def add(self, name: str, more: int = 1) -> None:
        with self._lock:
            self._counted[name] += more

    def __getitem__(self, name: str) -> int:
        with self._lock:
            return self._counted[name]

    def lines(self) -> list[str]:
        """One line each, in alphabetical order."""
        with self._lock:
            return [f"{name}: {number:,}" for name, number in sorted(self._counted.items())]
