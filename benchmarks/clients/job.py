"""The input of a contender's process: the store and the settings that all contenders share. Sizes are bytes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any


def object_sizes(size: int, count: int, mix: Sequence[Sequence[int]]) -> list[int]:
    """Sizes of the objects of one transfer: `count` of `size`, or those of `mix`, (size, count) each, evenly spread."""
    if not mix:
        return [size] * count
    places = [((number + 0.5) / many, one) for one, many in mix for number in range(many)]
    return [one for _, one in sorted(places)]


def object_keys(base: str, sizes: Sequence[int]) -> list[str]:
    """The keys of a transfer's objects: `base` itself for one, and names below it for many."""
    if len(sizes) == 1:
        return [base]
    return [f"{base}/{number}/size-{size}" for number, size in enumerate(sizes)]


@dataclass(frozen=True)
class Job:
    """The harness's case and store, as one value."""

    operation: str
    size: int
    count: int
    mix: Sequence[Sequence[int]]
    piece: int
    part_size: int
    range_size: int | None
    in_flight: int
    warmups: int
    repeats: int
    loaded: bool
    endpoint: str | None
    bucket: str
    region: str
    ca: str | None
    writer_options: dict[str, Any]
    spawned: float

    @classmethod
    def of(cls, values: dict[str, Any]) -> Job:
        """Reads the harness's JSON, which has more fields than this."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    @property
    def access_key(self) -> str | None:
        """The access key, from the environment: a command line is public on its machine."""
        return os.environ.get("AWS_ACCESS_KEY_ID")

    @property
    def secret_key(self) -> str | None:
        """As above."""
        return os.environ.get("AWS_SECRET_ACCESS_KEY")

    @property
    def session_token(self) -> str | None:
        """As above; None for keys without a token."""
        return os.environ.get("AWS_SESSION_TOKEN")

    @property
    def host(self) -> str:
        """The endpoint without its scheme."""
        return "s3.amazonaws.com" if self.endpoint is None else self.endpoint.partition("//")[2]

    @property
    def tls(self) -> bool:
        """Whether the endpoint speaks TLS."""
        return self.endpoint is None or self.endpoint.startswith("https:")

    @property
    def sizes(self) -> list[int]:
        """Sizes of the objects of one transfer."""
        return object_sizes(self.size, self.count, self.mix)

    def keys(self, base: str) -> list[str]:
        """The keys of one transfer."""
        return object_keys(base, self.sizes)

    def ranges(self) -> list[tuple[int, int]]:
        """Offset and length of each range of one object."""
        step = self.range_size or self.size
        return [(offset, min(step, self.size - offset)) for offset in range(0, self.size, step)]
