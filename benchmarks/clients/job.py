"""What a contender's process is told: where to go and the settings that all contenders share. Sizes are bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Job:
    """The harness's case and store, as one value."""

    operation: str
    size: int
    count: int
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
        """From the harness's JSON, which holds more than this."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    @property
    def access_key(self) -> str | None:
        """Keys come by the environment: a command line is public on its machine."""
        return os.environ.get("AWS_ACCESS_KEY_ID")

    @property
    def secret_key(self) -> str | None:
        """As above."""
        return os.environ.get("AWS_SECRET_ACCESS_KEY")

    @property
    def session_token(self) -> str | None:
        """As above; None for keys that need none."""
        return os.environ.get("AWS_SESSION_TOKEN")

    @property
    def host(self) -> str:
        """The endpoint without its scheme."""
        return "s3.amazonaws.com" if self.endpoint is None else self.endpoint.partition("//")[2]

    @property
    def tls(self) -> bool:
        """Whether the endpoint speaks TLS."""
        return self.endpoint is None or self.endpoint.startswith("https:")

    def keys(self, base: str) -> list[str]:
        """The keys of one transfer, as the harness expands them."""
        return [base] if self.count == 1 else [f"{base}/{number}/size-{self.size}" for number in range(self.count)]

    def ranges(self) -> list[tuple[int, int]]:
        """Offset and length of each range of one object."""
        step = self.range_size or self.size
        return [(offset, min(step, self.size - offset)) for offset in range(0, self.size, step)]
