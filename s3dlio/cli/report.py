"""What one command did: the only tally, which feeds the lines, the JSON, the summary and the exit code.

No command prints on its own. So an error that was shown is always counted, and one that was counted was shown.
"""

from __future__ import annotations

import threading
import time
from datetime import datetime
from typing import Any

from .console import Console
from .exits import Exit, exit_after, exit_of
from .text import human, stamp


class Report:
    """The tally of one command.

    Args:
        name: the command, for messages: ``ls``.
        transfers: it moves or deletes, so any failure makes its exit code 1.
        as_json: one JSON object a line.
        quiet: no line for what went well; errors stay.
        data_on_stdout: stdout carries an object's bytes, so that JSON goes to stderr.
        trace: tracebacks of errors too.
        line: of the file that the command comes from, where `run` runs it; nobody is asked anything then.
    """

    def __init__(
        self,
        console: Console,
        name: str,
        *,
        transfers: bool = False,
        as_json: bool = False,
        quiet: bool = False,
        data_on_stdout: bool = False,
        trace: bool = False,
        line: int | None = None,
    ) -> None:
        self.console = console
        self.name = name
        self.as_json = as_json
        self.quiet = quiet
        self._transfers = transfers
        self._data_on_stdout = data_on_stdout
        self._trace = trace
        self._where = "" if line is None else f" (line {line})"
        self._line = {} if line is None else {"line": line}
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._failures: list[Exit] = []
        self._warnings = 0
        self._nothing = False
        self.succeeded = 0
        self.bytes = 0

    @property
    def failed_count(self) -> int:
        """Failures so far."""
        return len(self._failures)

    def found(self, line: str, *, end: str = "\n", **fields: Any) -> None:
        """Shows a result, which is what the command was called for."""
        with self._lock:
            self.succeeded += 1
        if self.as_json:
            self._json(success=True, **fields)
        else:
            self.console.data(line, end)

    def did(self, line: str, *, size: int | None = None, **fields: Any) -> None:
        """Shows that something was done, as in ``delete: s3://bucket/key``."""
        with self._lock:
            self.succeeded += 1
            self.bytes += size or 0
        if self.as_json:
            self._json(success=True, **fields, **({} if size is None else {"size": size}))
        elif not self.quiet and not self._data_on_stdout:
            self.console.data(line)

    def failed(self, error: BaseException, **fields: Any) -> None:
        """Shows and counts an error; each of those that come together by itself."""
        import s3dlio

        if isinstance(error, s3dlio.ManyFailedError):
            for uri, one in error.failed.items():
                self.failed(one, **{**fields, "source": uri})
            return
        with self._lock:
            self._failures.append(exit_of(error))
        message = sentence(error)
        where = fields.get("source") or fields.get("uri") or ""
        if self.as_json:
            self._json(success=False, **fields, **_described(error), message=message)
        else:
            self._error(f"{where}: {message}" if where and where not in message else message)
        if self._trace:
            import traceback

            self.console.note("".join(traceback.format_exception(error)).rstrip())

    def checked(self, line: str, status: str, code: Exit | None = None, **fields: Any) -> None:
        """Shows and counts the outcome of a check: ok, warning, or failed with the exit code that it asks for."""
        with self._lock:
            self.succeeded += status == "ok"
            self._warnings += status == "warning"
            if status == "failed":
                self._failures.append(Exit.OTHER if code is None else code)
        if self.as_json:
            self._json(success=status != "failed", status=status, **fields)
        else:
            self.console.lines(line)

    def warned(self, message: str, **fields: Any) -> None:
        """Shows and counts something that was skipped."""
        with self._lock:
            self._warnings += 1
        if self.as_json:
            self._json(success=False, **fields, warning=message)
        else:
            self._error(f"warning: {message}")

    def kept(self, message: str, **fields: Any) -> None:
        """Shows that something was left as it is, because that is what was wanted."""
        if self.as_json:
            self._json(success=True, kept=True, **fields)
        else:
            self.note(message)

    def nothing_found(self, message: str, **fields: Any) -> None:
        """Shows that there is nothing of what was asked for, which is neither a refusal nor a failure."""
        self._nothing = True
        if self.as_json:
            self._json(success=False, **fields, error="NothingFound", message=message)
        else:
            self._error(message)

    def note(self, text: str) -> None:
        """Says something to the person; of commands that `run` runs, it says how all ended."""
        if not self.quiet and not self.as_json and not self._line:
            self.console.note(f"s3dlio {self.name}{self._where}: {text}")

    @property
    def code(self) -> Exit:
        """What the exit code is now."""
        if self._failures:
            return exit_after(self._failures, transfers=self._transfers)
        if self._nothing:
            return Exit.FAILED
        return Exit.WARNED if self._warnings else Exit.OK

    def finish(self, **totals: Any) -> Exit:
        """Shows the summary, in JSON always; returns the exit code."""
        code = self.code
        if self.as_json:
            self._json(
                summary=True, succeeded=self.succeeded, failed=len(self._failures), warnings=self._warnings,
                **({"bytes": self.bytes} if self._transfers else {}), **totals,
                seconds=round(time.monotonic() - self._begun, 3), exit_code=int(code),
            )  # fmt: skip
        return code

    def absorb(self, other: Report) -> None:
        """Adds the tally of a command that this one ran: it counts as one, which succeeded or failed."""
        code = other.code
        with self._lock:
            self.bytes += other.bytes
            self.succeeded += code in (Exit.OK, Exit.WARNED)
            self._warnings += other._warnings
            if code not in (Exit.OK, Exit.WARNED):
                self._failures.append(code)

    @property
    def asks(self) -> bool:
        """Whether there is a person who can answer a question about this command."""
        return self.console.asks and not self._line

    def summary(self, verb: str, *, dry_run: bool = False) -> None:
        """Says in one line how much was done, or would have been."""
        counted = (
            f"nothing was changed; without --dry-run: {self.succeeded} {verb}"
            if dry_run
            else f"{self.succeeded} {verb}"
        )
        if self.bytes:
            counted += f", {human(self.bytes)}"
        counted += f", {len(self._failures)} failed" if self._failures else ""
        counted += f", {self._warnings} skipped" if self._warnings else ""
        self.note(f"{counted}, in {time.monotonic() - self._begun:.1f} s")

    def _error(self, text: str) -> None:
        self.console.error(f"s3dlio {self.name}{self._where}", text)

    def _json(self, **fields: Any) -> None:
        import json

        line = json.dumps({"operation": self.name, **self._line, **fields}, default=_plain)
        if self._data_on_stdout:
            self.console.note(line)
        else:
            self.console.data(line)


def sentence(error: BaseException) -> str:
    """What an error says, in one line."""
    import s3dlio

    if isinstance(error, OSError) and not isinstance(error, s3dlio.S3dlioError) and error.strerror:
        where = "" if error.filename is None else f"{_path(error.filename)}: "
        return f"{where}{error.strerror}"
    return str(error) or type(error).__name__


def _path(name: Any) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)


def _described(error: BaseException) -> dict[str, Any]:
    fields: dict[str, Any] = {"error": type(error).__name__}
    for name in ("code", "status", "request_id"):
        value = getattr(error, name, None)
        if value is not None:
            fields[name] = value
    return fields


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return stamp(value)
    return dict(value) if hasattr(value, "items") else str(value)
