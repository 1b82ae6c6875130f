"""Which names take part in a sync. Functions of names relative to the two roots; the same for both sides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from .._s3.selection import compile_glob
from ..errors import ConfigurationError, OptionTypeError

Kind = Literal["exclude", "include"]


class Filters(NamedTuple):
    """Globs, of which the last one that matches a name decides; a name that none matches takes part."""

    rules: tuple[tuple[bool, re.Pattern[str], bool], ...]

    def allow(self, name: str) -> bool:
        """Whether a name takes part."""
        base = name.rpartition("/")[2]
        for included, pattern, whole in reversed(self.rules):
            if pattern.fullmatch(name if whole else base) is not None:
                return included
        return True

    @classmethod
    def of(
        cls, exclude: str | Sequence[str], include: str | Sequence[str], filters: Sequence[tuple[Kind, str]]
    ) -> Filters:
        """All that is excluded, then what is included nevertheless, then `filters` in their order.

        Raises:
            ConfigurationError: a glob cannot be used, or an `include` that changes nothing.
        """
        globs = [("exclude", one) for one in _globs("exclude", exclude)]
        globs += [("include", one) for one in _globs("include", include)]
        if include and not exclude:
            raise ConfigurationError("include without exclude changes nothing; add exclude='*' to choose only these")
        if isinstance(filters, str):
            raise OptionTypeError(f"filters={filters!r} is a str; give pairs such as ('exclude', '*.tmp')")
        for one in filters:
            if not isinstance(one, tuple | list) or len(one) != 2 or one[0] not in ("exclude", "include"):
                raise ConfigurationError(f"filters has {one!r}; give pairs such as ('exclude', '*.tmp')")
            globs += [(one[0], glob) for glob in _globs("filters", one[1])]
        return cls(tuple(_rule(kind, glob) for kind, glob in globs))


def _globs(name: str, value: str | Iterable[str]) -> list[str]:
    globs = [value] if isinstance(value, str) else list(value)
    if not all(isinstance(one, str) for one in globs):
        raise OptionTypeError(f"{name}={value!r} is neither a glob nor a sequence of globs")
    return [one for one in globs if one]


def _rule(kind: str, glob: str) -> tuple[bool, re.Pattern[str], bool]:
    """Whether it includes; its pattern; and whether that is for whole names.

    A glob without ``/`` is for the last part of a name, wherever it lies; ``folder/`` for all below it.
    """
    try:
        pattern = compile_glob(glob + "**" if glob.endswith("/") else glob)
    except ValueError as error:
        raise ConfigurationError(f"{kind}={glob!r} is no glob: {error}") from None
    return kind == "include", pattern, "/" in glob or "**" in glob
