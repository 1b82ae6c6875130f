"""Which keys ``--include`` and ``--exclude`` leave: of all patterns that match a key, the last one decides.

As in the AWS command line: everything is included at first, and ``*`` also matches ``/``. Patterns are compared with
what follows the root of the URI or folder, so that one filter means the same on both sides of a transfer.
Source: https://docs.aws.amazon.com/cli/latest/reference/s3/#use-of-exclude-and-include-filters
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence


class Filters:
    """The filters of a command, in the order given: pairs of whether it includes, and the pattern."""

    def __init__(self, given: Sequence[tuple[bool, str]] = ()) -> None:
        self._rules = [(includes, re.compile(fnmatch.translate(pattern))) for includes, pattern in given]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def takes(self, name: str) -> bool:
        """Whether a name, relative to the root, is left."""
        for includes, pattern in reversed(self._rules):
            if pattern.match(name):
                return includes
        return True


def root_of(uri: str) -> str:
    """The URI up to the ``/`` that relative names begin after: of a glob, the last one before its first ``*?[``."""
    scheme = len("s3://")
    special = re.search(r"[*?\[]", uri[scheme:])
    fixed = uri if special is None else uri[: scheme + special.start()]
    root = fixed[: fixed.rfind("/", scheme) + 1]
    return root or fixed + "/"  # of a bucket, all of it
