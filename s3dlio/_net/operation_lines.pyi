from collections.abc import Callable

from .exchange import Exchange

def series_lines(
    exchange: Exchange,
    keys: list[str],
    sizes: list[int] | None,
    name: bytes,
    end: bytes,
    escaped: Callable[[str], str],
    wall: int,
    began: int,
) -> bytes: ...
