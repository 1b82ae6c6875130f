"""`stats`: what a client has done so far."""

from ._memory.pool import pool
from ._s3.default import ClientLike, service_of
from .options import checks_names
from .results import ClientStats


@checks_names()
def stats(*, client: ClientLike | None = None) -> ClientStats:
    """What a client has done so far, and what it holds. It makes no request.

    Args:
        client: a `Client`; None for the default one, built from the environment.

    Returns:
        A `ClientStats`. The default client begins anew when the environment names another store.

    Example:
        >>> before = s3dlio.stats().requests
        >>> info = s3dlio.put_bytes("s3://my-bucket/counted", b"content")
        >>> s3dlio.stats().requests - before
        1
    """
    service, memory = service_of(client), pool()
    return ClientStats(
        operations=service.observer.stats(),
        connections_opened=service.connections.opened,
        connections_in_use=service.connections.in_use,
        connections_idle=service.connections.idle,
        pool_in_use_bytes=memory.in_use_bytes,
        pool_idle_bytes=memory.idle_bytes,
    )
