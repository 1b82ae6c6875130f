import enum
from collections.abc import Sequence
from typing import Any

class Outcome(enum.IntEnum):
    PENDING = 0
    COMPLETE = 1
    HEAD_READY = 2
    UNUSUAL = 3
    CLOSED_BEFORE_RESPONSE = 4
    CLOSED_IN_RESPONSE = 5
    SEND_ERROR = 6
    RECEIVE_ERROR = 7
    SEND_TIMEOUT = 8
    FIRST_BYTE_TIMEOUT = 9
    IDLE_TIMEOUT = 10
    CANCELLED = 11
    HEAD_TOO_LARGE = 12
    GARBAGE = 13
    EARLY_SUCCESS = 14
    OUT_OF_STEP = 15

def head_field(head: bytes, name: bytes) -> str | None: ...
def reset_connection(fd: int) -> bool: ...
def scan_head(data: Any) -> tuple[int, int, int, bool, bool]: ...

class Exchange:
    def __init__(
        self,
        sock: Any,
        head: bytes,
        body: Sequence[Any],
        *,
        into: Any = None,
        followed_by: Sequence[tuple[bytes, Sequence[Any]]] | None = None,
        reused: bool = False,
        previous_head: bytes | None = None,
        no_body: bool = False,
        pause_at_head: bool = False,
        send_timeout: float | None = None,
        first_byte_timeout: float | None = None,
        idle_timeout: float | None = None,
    ) -> None: ...
    @property
    def outcome(self) -> Outcome: ...
    @property
    def status(self) -> int: ...
    @property
    def head_bytes(self) -> bytes: ...
    @property
    def content_length(self) -> int: ...
    @property
    def body_bytes(self) -> bytes: ...
    @property
    def body_received(self) -> int: ...
    @property
    def answered(self) -> int: ...
    @property
    def answers(self) -> list[tuple[int, bytes, int, int]]: ...
    @property
    def sent(self) -> int: ...
    @property
    def request_sent(self) -> bool: ...
    @property
    def early(self) -> bool: ...
    @property
    def leftover(self) -> bytes: ...
    @property
    def reusable(self) -> bool: ...
    @property
    def last_head(self) -> bytes: ...
    @property
    def submittable(self) -> bool: ...
    @property
    def error(self) -> OSError | None: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def continue_into(self, into: Any, *, cut: bool = False) -> None: ...
    def cancel(self) -> None: ...
