"""Data sets whose objects are loaded in a sliding window: `PyDataset` and `PyBytesAsyncDataLoader`.

They have the names and the calls of the original library, so that its scripts run here. `flow` fetches the objects.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ._memory.bytes_view import BytesView
from ._net.addresses import parse_uri
from ._s3.default import ClientLike, service_of
from ._transfer.batch import Gets
from ._transfer.flow import Flow
from ._values.checks import check_boolean, check_integer
from .awaiting import AsyncBatches
from .config import DownloadSettings
from .errors import ConfigurationError, OptionTypeError
from .listing import iter_objects
from .options import checks_names

# Options of the original that change nothing here, because there is nothing that they could change.
_WITHOUT_EFFECT = frozenset({"skip_head", "auto_tune", "num_workers", "max_threads", "part_size", "max_inflight_parts"})
_MOST_AHEAD = 1024


class PyDataset:
    """The objects of a data set, each identified by its index.

    Args:
        uri: what `iter_objects` takes: the data set is what it selects. It is listed once, here.
        opts: options of the loader may be given here too; they are checked and not used.
        client: a `Client`; None for the default one, built from the environment.

    Raises:
        UnsupportedUriError: the URI cannot be used.
        NotFoundError, S3Error, TransportError: as for `list`.

    Example:
        >>> infos = s3dlio.put_many([(f"s3://my-bucket/train/{number}", bytes([number])) for number in range(3)])
        >>> dataset = s3dlio.PyDataset("s3://my-bucket/train/")
        >>> len(dataset), dataset.keys()[0]
        (3, 'train/0')
    """

    @checks_names()
    def __init__(self, uri: str, opts: Mapping[str, Any] | None = None, *, client: ClientLike | None = None) -> None:
        _Options.of(opts)
        self._client = client
        found = [one.uri for page in iter_objects(uri, client=client).pages() for one in page.objects]
        self._keys = [parse_uri(one).key for one in found]
        self._uris = found

    @classmethod
    @checks_names()
    def from_uris(
        cls, uris: Sequence[str], opts: Mapping[str, Any] | None = None, *, client: ClientLike | None = None
    ) -> Self:
        """A data set of the objects with these URIs. Nothing is listed.

        Args:
            uris: ``s3://bucket/key`` each; at least one.
            opts: as for `PyDataset`.
            client: a `Client`; None for the default one, built from the environment.

        Raises:
            TypeError: `uris` is one str.
            ConfigurationError: there are none.
            UnsupportedUriError: one of them cannot be used.

        Example:
            >>> dataset = s3dlio.PyDataset.from_uris(["s3://my-bucket/a", "s3://my-bucket/b"])
            >>> len(dataset)
            2
        """
        if isinstance(uris, str):
            raise TypeError("uris is a str; give a sequence of URIs, for example [uri]")
        _Options.of(opts)
        dataset = cls.__new__(cls)
        dataset._client = client
        dataset._uris = list(uris)
        for uri in dataset._uris:
            parse_uri(uri)
        dataset._keys = list(dataset._uris)
        if not dataset._uris:
            raise ConfigurationError("uris is empty; a data set has at least one object")
        return dataset

    def __len__(self) -> int:
        return len(self._uris)

    def keys(self) -> list[str]:
        """The keys of the objects, or their URIs where the data set was made of URIs."""
        return list(self._keys)

    def uris(self) -> list[str]:
        """The URIs of the objects, in the order of `keys`."""
        return list(self._uris)


@dataclass(frozen=True)
class PyObjectItem:
    """One loaded object.

    Attributes:
        uri: ``s3://bucket/key``.
        data: its bytes, as a `BytesView`; ``np.frombuffer(item.data, dtype)`` copies nothing.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/item", b"hello")
        >>> dataset = s3dlio.PyDataset.from_uris(["s3://my-bucket/item"])
        >>> for item in s3dlio.PyBytesAsyncDataLoader(dataset).items():
        ...     print(item.uri, len(item), bytes(item))
        s3://my-bucket/item 5 b'hello'
    """

    uri: str
    data: BytesView

    @property
    def byte_count(self) -> int:
        """The size of the object in bytes; ``len(item)`` is the same."""
        return len(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return bytes(self.data)

    def memoryview(self) -> memoryview:
        """A read-only view of the bytes, without a copy."""
        return self.data.memoryview()


class PyBytesAsyncDataLoader:
    """Loads the objects of a data set ahead of their consumer.

    ``prefetch`` objects are in flight at once, and up to twice as many are in memory. They arrive in the order in which
    their downloads end. Each iteration begins anew.

    Args:
        dataset: a `PyDataset`.
        opts: a mapping with these options. Others are ignored with a warning.

            - ``prefetch``: objects in flight (1 to 1024; 32).
            - ``shuffle``: True for another order of the objects in each iteration (False).
            - ``seed``: an integer that makes the order of each iteration repeatable.
            - ``shard_rank``, ``shard_world_size``: load only every ``shard_world_size``-th object, from the
              ``shard_rank``-th on, of the order before it is shuffled (0 and 1).
            - ``skip_head`` and options for threads: without effect, as no HEAD is ever sent here.

    Raises:
        TypeError: `dataset` is not a `PyDataset`, or `opts` no mapping.
        ConfigurationError: an option is out of its range.

    Example:
        >>> infos = s3dlio.put_many([(f"s3://my-bucket/images/{number}", bytes(number)) for number in range(3)])
        >>> dataset = s3dlio.PyDataset("s3://my-bucket/images/")
        >>> items = s3dlio.PyBytesAsyncDataLoader(dataset, {"prefetch": 8}).items()
        >>> sorted((item.uri, len(item)) for item in items.collect_batch(3))
        [('s3://my-bucket/images/0', 0), ('s3://my-bucket/images/1', 1), ('s3://my-bucket/images/2', 2)]
        >>> items.collect_batch(3)
        []
    """

    def __init__(self, dataset: PyDataset, opts: Mapping[str, Any] | None = None) -> None:
        if not isinstance(dataset, PyDataset):
            raise TypeError(f"dataset={dataset!r} is not a PyDataset; make one with PyDataset.from_uris")
        self._dataset = dataset
        self._options = _Options.of(opts)
        self._order = random.Random(self._options.seed)

    def items(self) -> PyObjectItems:
        """Begins to load; iterates over `PyObjectItem`, or gives them in lists by ``collect_batch(n)``."""
        options = self._options
        uris = self._dataset._uris[options.shard_rank :: options.shard_world_size]
        if options.shuffle:
            self._order.shuffle(uris)
        return PyObjectItems(uris, options.prefetch, self._dataset._client)

    def __iter__(self) -> Iterator[BytesView]:
        """The bytes of the objects, each as a `BytesView`, in the order in which they arrive."""
        for item in self.items():
            yield item.data

    def __aiter__(self) -> AsyncIterator[BytesView]:
        """The same for asynchronous code: those that have arrived come without waiting."""
        items = self.items()
        return AsyncBatches(items._next_views, items._cancel)


class PyObjectItems(Iterator[PyObjectItem]):
    """The objects of one iteration of a `PyBytesAsyncDataLoader`; it makes them.

    Raises:
        ForkedError: a forked child uses the iterator of its parent.
        NotFoundError, ObjectChangedError, ChecksumMismatchError, S3Error, TransportError: as for `get`; the first
            failure ends the iteration, after the objects that arrived before it.

    Example:
        >>> infos = s3dlio.put_many([(f"s3://my-bucket/batch/{number}", bytes(number)) for number in range(5)])
        >>> items = s3dlio.PyBytesAsyncDataLoader(s3dlio.PyDataset("s3://my-bucket/batch/")).items()
        >>> while batch := items.collect_batch(2):
        ...     print(len(batch))
        2
        2
        1
    """

    def __init__(self, uris: list[str], prefetch: int, client: ClientLike | None) -> None:
        service = service_of(client)
        self._uris = uris
        settings = DownloadSettings.resolve(None, None, None, None)
        gets = Gets(service, [parse_uri(uri) for uri in uris], settings, service.verifies(None))
        self._flow = Flow(gets, prefetch, 2 * prefetch)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> PyObjectItem:
        batch = self.collect_batch(1)
        if not batch:
            raise StopIteration
        return batch[0]

    def collect_batch(self, n: int) -> list[PyObjectItem]:
        """Waits for the next `n` objects; fewer at the end of the data set, and an empty list after it."""
        wanted = check_integer("n", n, 1, 1 << 31, "objects")
        batch: list[PyObjectItem] = []
        while len(batch) < wanted:
            taken = self._flow.take(wanted - len(batch))
            if not taken:
                break
            batch += [PyObjectItem(self._uris[index], view) for index, view in taken]
        return batch

    def _next_views(self) -> list[BytesView] | None:
        """What has arrived, at least one object; None at the end."""
        taken = self._flow.take(_MOST_AHEAD)
        return [view for _, view in taken] or None

    def _cancel(self) -> None:
        """Ends what a thread waits for here."""
        self._flow.cancel()

    def close(self) -> None:
        """Ends the loading; there are no more objects."""
        self._flow.close()


@dataclass(frozen=True)
class _Options:
    """The options of a loader."""

    prefetch: int = 32
    shuffle: bool = False
    seed: int | None = None
    shard_rank: int = 0
    shard_world_size: int = 1

    def __post_init__(self) -> None:
        check_integer("prefetch", self.prefetch, 1, _MOST_AHEAD, "objects")
        check_boolean("shuffle", self.shuffle)
        if self.seed is not None:
            check_integer("seed", self.seed, 0, (1 << 64) - 1, "")
        check_integer("shard_world_size", self.shard_world_size, 1, 1 << 31, "shards")
        check_integer("shard_rank", self.shard_rank, 0, self.shard_world_size - 1, "")

    @classmethod
    def of(cls, opts: Mapping[str, Any] | None) -> _Options:
        if opts is None:
            return cls()
        if not isinstance(opts, Mapping):
            raise OptionTypeError(f"opts={opts!r} is not a mapping of option names to values")
        known = cls.__dataclass_fields__
        unknown = sorted(set(opts) - set(known) - _WITHOUT_EFFECT)
        if unknown:
            warnings.warn(
                f"options {unknown} are not known here and change nothing; known are {sorted(known)}", stacklevel=4
            )
        return cls(**{name: value for name, value in opts.items() if name in known})
