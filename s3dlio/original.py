"""Names of the original library that have no counterpart elsewhere in this package, so that its scripts run here.

Some act on the whole process: its log, and the environment from which the default client is made. `loading` and
`sharded` have the original's data loaders and `mp_get`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from ._net.addresses import format_uri, parse_uri
from ._s3.default import ClientLike, service_of
from ._s3.selection import select
from ._transfer.batch import Gets
from ._transfer.flow import Flow
from ._values.checks import check_integer
from ._values.environment import set_variables
from .config import ClientSettings, DownloadSettings
from .errors import ConfigurationError, OptionTypeError
from .listing import list as list_uris
from .options import checks_names

_LEVELS = {"trace": 10, "debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40}


@checks_names()
def init_logging(level: str) -> None:
    """Writes the log of this library to stderr, from a level on. A second call changes the level.

    Programs that configure `logging` need no call: the library logs to the logger ``"s3dlio"``.

    Args:
        level: ``"trace"`` or ``"debug"``, ``"info"``, ``"warn"``, or ``"error"``, in any case.

    Raises:
        ConfigurationError: there is no such level.

    Example:
        >>> s3dlio.init_logging("warn")
    """
    if not isinstance(level, str):
        raise OptionTypeError(f"level={level!r} is not a str")
    number = _LEVELS.get(level.lower())
    if number is None:
        raise ConfigurationError(f"level={level!r}: expected one of {', '.join(_LEVELS)}")
    log = logging.getLogger("s3dlio")
    log.setLevel(number)
    if not any(isinstance(one, _ToStderr) for one in log.handlers):
        handler = _ToStderr()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        log.addHandler(handler)


class _ToStderr(logging.Handler):
    """Writes to what `sys.stderr` is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


@checks_names()
def configure_s3(endpoint_url: str | None = None, region: str | None = None, ca_bundle: str | None = None) -> None:
    """Sets the store that the default client talks to, in this process and those that it starts.

    It sets ``AWS_ENDPOINT_URL_S3``, ``AWS_REGION`` and ``AWS_CA_BUNDLE``. The next call of the default client uses the
    new values; writers that are open keep theirs. A `Client` holds settings without changing the environment.

    Args:
        endpoint_url: ``https://host[:port]``; None to leave it as it is.
        region: region to sign for; None to leave it as it is.
        ca_bundle: PEM file or directory with the authorities to trust; None to leave it as it is.

    Raises:
        ConfigurationError: a value cannot be used; then nothing is changed.

    Example:
        >>> s3dlio.configure_s3(region="us-east-1")
    """
    ClientSettings(endpoint_url=endpoint_url, region=region, ca_bundle=ca_bundle)
    set_variables({"AWS_ENDPOINT_URL_S3": endpoint_url, "AWS_REGION": region, "AWS_CA_BUNDLE": ca_bundle})


@checks_names()
def list_full_uris(uri: str, *, client: ClientLike | None = None) -> list[str]:
    """Lists one level below a URI; the same as ``list(uri)``.

    Args:
        uri: as for `list`.
        client: a `Client`; None for the default one, built from the environment.

    Raises:
        UnsupportedUriError, ConfigurationError, NotFoundError, S3Error, TransportError: as for `list`.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/d/a", b"first")
        >>> s3dlio.list_full_uris("s3://my-bucket/d/")
        ['s3://my-bucket/d/a']
    """
    return list_uris(uri, client=client)


@checks_names()
def list_keys(uri: str, *, client: ClientLike | None = None) -> list[str]:
    """Lists one level below a URI, as names relative to it.

    Args:
        uri: as for `list`.
        client: a `Client`; None for the default one, built from the environment.

    Returns:
        For ``s3://bucket/prefix/`` the keys without ``prefix/``; for a glob or one object the whole keys.

    Raises:
        UnsupportedUriError, ConfigurationError, NotFoundError, S3Error, TransportError: as for `list`.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/d/a", b"first")
        >>> s3dlio.list_keys("s3://my-bucket/d/")
        ['a']
    """
    selection = select(uri)
    below = "" if selection.glob or not uri.endswith("/") else selection.prefix
    start = len(format_uri(selection.bucket, below))
    return [name for one in list_uris(uri, client=client) if (name := one[start:])]


@checks_names()
def get_many_stats(
    uris: Sequence[str], max_in_flight: int = 64, *, client: ClientLike | None = None
) -> tuple[int, int]:
    """Fetches many objects and drops their bytes: a measure of a store, in the memory of `max_in_flight` objects.

    Args:
        uris: ``s3://bucket/key`` each; all are checked before any request.
        max_in_flight: objects being fetched at once (1 to 1024).
        client: a `Client`; None for the default one, built from the environment.

    Returns:
        How many objects there were, and how many bytes they have together.

    Raises:
        TypeError: `uris` is one str.
        NotFoundError, ObjectChangedError, ChecksumMismatchError, S3Error, TransportError: as for `get`, for any.

    Example:
        >>> infos = s3dlio.put_many([("s3://my-bucket/a", b"first"), ("s3://my-bucket/b", b"second")])
        >>> s3dlio.get_many_stats(["s3://my-bucket/a", "s3://my-bucket/b"])
        (2, 11)
    """
    if isinstance(uris, str):
        raise TypeError("uris is a str; give a sequence of URIs, for example [uri]")
    limit = check_integer("max_in_flight", max_in_flight, 1, 1024, "objects")
    locations = [parse_uri(uri) for uri in uris]
    service = service_of(client)
    settings = DownloadSettings.resolve(None, None, None, None)
    flow = Flow(Gets(service, locations, settings, service.verifies(None)), limit, 2 * limit)
    objects = total = 0
    while taken := flow.take(limit):
        objects += len(taken)
        total += sum(len(view) for _, view in taken)
        taken.clear()
    return objects, total


@checks_names()
def mkdir(uri: str) -> None:
    """Checks a URI and does nothing else: a prefix exists as soon as there is an object below it.

    Args:
        uri: ``s3://bucket/prefix/``.

    Raises:
        UnsupportedUriError: the URI cannot be used.

    Example:
        >>> s3dlio.mkdir("s3://my-bucket/new/")
    """
    select(uri)


@checks_names()
def configure_tokio_threads(n: int = 0) -> None:
    """Checks its argument and does nothing else: the threads here start on demand, and their number needs no setting.

    Args:
        n: threads, from 0.

    Raises:
        ConfigurationError: it is no such number.

    Example:
        >>> s3dlio.configure_tokio_threads(8)
    """
    check_integer("n", n, 0, 1 << 16, "threads")
