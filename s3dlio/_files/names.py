"""The one place where a key becomes a path: below the target folder, or an error.

`relative_parts` is a pure function of the key. `Target` opens folder after folder by its descriptor and follows no
link, so that nothing outside the target is ever created, written or replaced, whatever its folders become meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator

from ..errors import UnsafePathError

# Of one part of a path, in bytes; what file systems allow.
LONGEST_NAME = 255
_DRIVE = re.compile(r"[A-Za-z]:")
# What files are called until they are whole.
TEMPORARY = ".s3dlio-"


def relative_parts(uri: str, name: str) -> list[str]:
    """The folders and the file that `name`, the rest of a key, stands for.

    Args:
        uri: of the object, for errors.

    Raises:
        UnsafePathError: no path below the target can stand for it.
    """
    parts = name.split("/")
    for part in parts:
        reason = _refusal(part)
        if reason is not None:
            raise UnsafePathError(
                f"{uri!r} is not stored: its name {name!r} {reason}; download it to a path of its own"
            )
    if _DRIVE.match(parts[0]):
        raise UnsafePathError(
            f"{uri!r} is not stored: its name {name!r} begins with a drive; download it to a path of its own"
        )
    return parts


def _refusal(part: str) -> str | None:
    if part in ("", ".", ".."):
        return f"has the part {part!r}, which no file can have"
    if "\0" in part:
        return "has a NUL character"
    if "\\" in part:
        return "has a backslash, which some systems take for a folder's end"
    try:
        length = len(part.encode("utf-8"))
    except UnicodeEncodeError:
        return "is not UTF-8"
    return f"has a part of more than {LONGEST_NAME} bytes" if length > LONGEST_NAME else None


class Target:
    """The folder that files are stored below.

    Args:
        path: of the folder, which may itself be a link; it is made when the first file is stored.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def path_of(self, parts: list[str]) -> str:
        """The path, for messages and results."""
        return os.path.join(self.path, *parts)

    @contextlib.contextmanager
    def folder(self, uri: str, parts: list[str]) -> Iterator[int]:
        """The descriptor of the folder of the file `parts`. Missing folders are made.

        Raises:
            UnsafePathError: something that is no folder is in its way, or a link.
        """
        try:
            os.makedirs(self.path, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, "the target is no folder", self.path) from None
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for depth, part in enumerate(parts[:-1], 1):
                descriptor = self._enter(descriptor, uri, parts, depth, part)
            yield descriptor
        finally:
            os.close(descriptor)

    def _enter(self, above: int, uri: str, parts: list[str], depth: int, part: str) -> int:
        """Opens a folder in the folder `above`, which is closed."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, dir_fd=above)
        try:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
        except OSError as error:
            way = self.path_of(parts[:depth])
            kind = "a link" if os.path.islink(way) else "no folder"
            raise UnsafePathError(f"{uri!r} is not stored at {self.path_of(parts)!r}: {way!r} is {kind}") from error
        os.close(above)
        return below

    def check_file(self, folder: int, uri: str, parts: list[str]) -> None:
        """Checks that no folder has the name of the file."""
        try:
            status = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(status.st_mode):
            raise is_a_folder(uri, self.path_of(parts))


def is_a_folder(uri: str, path: str) -> UnsafePathError:
    """The error of a file whose name a folder has."""
    return UnsafePathError(f"{uri!r} is not stored: {path!r} is a folder")


def temporary_name() -> str:
    """A name that no file has."""
    return TEMPORARY + secrets.token_hex(8)


class Claimed:
    """The paths that files of one call were stored at, where the file system does not tell ``a`` from ``A``."""

    def __init__(self) -> None:
        self._by: dict[str, str] = {}

    def claim(self, uri: str, parts: list[str]) -> None:
        """Raises UnsafePathError if a file whose name differs in its case only was stored before."""
        for depth in range(1, len(parts) + 1):
            exact = "/".join(parts[:depth])
            first = self._by.setdefault(exact.casefold(), exact)
            if first != exact:
                raise UnsafePathError(
                    f"{uri!r} is not stored: {first!r} was, and this file system takes both names for one"
                )


def ignores_case(folder: str) -> bool:
    """Whether a file of this folder is found under its name in other case."""
    name = TEMPORARY + "a" + secrets.token_hex(8)
    path = os.path.join(folder, name)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        return os.path.exists(os.path.join(folder, name.upper()))
    finally:
        os.unlink(path)
