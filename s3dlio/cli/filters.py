"""The names that ``--include`` and ``--exclude`` are compared with: what follows the root of a URI or folder.

The rules are those of the library's `sync`: of all globs that match a name, the last one decides.
"""

from __future__ import annotations

import re


def root_of(uri: str) -> str:
    """The URI up to the ``/`` that relative names begin after: of a glob, the last one before its first ``*?[``."""
    scheme = len("s3://")
    special = re.search(r"[*?\[]", uri[scheme:])
    fixed = uri if special is None else uri[: scheme + special.start()]
    root = fixed[: fixed.rfind("/", scheme) + 1]
    return root or fixed + "/"  # of a bucket, all of it
