"""The types of keyword options, and the check of their names.

`UploadOptions` and `GetOptions` let type checkers and editors know every option of a function that takes
``**options``. Values are checked in `config`; this module imports nothing of ours.
"""

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypedDict, TypeVar

if sys.version_info >= (3, 12):
    from collections.abc import Buffer as _Buffer
elif TYPE_CHECKING:
    from typing_extensions import Buffer as _Buffer
else:

    class _Buffer(Protocol):
        def __buffer__(self, flags: int, /) -> memoryview: ...


class _Array(Protocol):
    """A NumPy array: before Python 3.12 its stubs do not say that it is a buffer."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


Buffer = _Buffer | _Array
Checksum = Literal["crc64nvme", "crc32c", "crc32", "sha256"]
AddressingStyle = Literal["auto", "path", "virtual"]
Credentials = tuple[str, str] | tuple[str, str, str | None] | Literal["anonymous"]
OnError = Literal["raise", "return"]
Path = str | os.PathLike[str]


class PutManyOptions(TypedDict, total=False):
    """The options of `put_many`: the fields of `MultipartUploadConfig` except `max_in_flight`.

    Example:
        >>> options: s3dlio.PutManyOptions = {"content_type": "text/plain", "checksum": "crc32c"}
        >>> (info,) = s3dlio.put_many([("s3://my-bucket/a", b"text")], **options)
        >>> info.checksum_algorithm
        'crc32c'
    """

    part_size: int
    abort_on_drop: bool
    content_type: str | None
    metadata: Mapping[str, str] | None
    storage_class: str | None
    tags: Mapping[str, str] | None
    server_side_encryption: str | None
    sse_kms_key_id: str | None
    cache_control: str | None
    content_encoding: str | None
    content_disposition: str | None
    acl: str | None
    if_none_match: str | None
    if_match: str | None
    checksum: Checksum | None
    grow_part_size: bool
    expected_size: int | None
    abort_on_failure: bool


class UploadOptions(PutManyOptions, total=False):
    """The options of a writer and of `put_bytes`: those of `PutManyOptions`, and the number of parts in flight.
    `MultipartUploadConfig` says what each means and which value is the default.

    Example:
        >>> options: s3dlio.UploadOptions = {"part_size": 8 << 20, "max_in_flight": 4}
        >>> s3dlio.put_bytes("s3://my-bucket/key", b"content", **options).parts
        1
    """

    max_in_flight: int


class GetOptions(TypedDict, total=False):
    """The options of every download. None, like an option left out, means the environment's value.

    Attributes:
        verify: compare with the full-object checksum where the store reports one. None means True, unless
            ``AWS_RESPONSE_CHECKSUM_VALIDATION`` is ``when_required``. A part of an object is never compared.
        range_optimization: fetch large objects by parallel ranges; None follows ``S3DLIO_ENABLE_RANGE_OPTIMIZATION``.
        range_threshold: size in bytes from which ranges are used; None follows ``S3DLIO_RANGE_THRESHOLD_MB``.
        range_concurrency: ranges in flight (1 to 1024); None follows ``S3DLIO_RANGE_CONCURRENCY``.
        chunk_size: bytes of one range; None follows ``S3DLIO_CHUNK_SIZE``.

    Example:
        >>> info = s3dlio.put_bytes("s3://my-bucket/large", bytes(3 << 20))
        >>> options: s3dlio.GetOptions = {"range_optimization": True, "range_threshold": 1 << 20, "chunk_size": 1 << 20}
        >>> len(s3dlio.get("s3://my-bucket/large", **options))
        3145728
    """

    verify: bool | None
    range_optimization: bool | None
    range_threshold: int | None
    range_concurrency: int | None
    chunk_size: int | None


P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)


def checks_names(options: Any = None, defaults: Any = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function raise a TypeError for an unknown keyword; the error suggests the one that was meant.

    Args:
        options: the TypedDict of the function's ``**options``.
        defaults: a dataclass with their defaults; without it each is None.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = _expanded(inspect.signature(function), options, defaults)
        known = frozenset(signature.parameters) - {"self", "cls"}
        name = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]

        @functools.wraps(function)
        def checked(*args: P.args, **named: P.kwargs) -> R:
            if not known.issuperset(named):
                raise _unknown(name, next(one for one in named if one not in known), known)
            return function(*args, **named)

        checked.__signature__ = signature  # type: ignore[attr-defined]
        return checked

    return decorate


def checks_fields(kind: C) -> C:
    """The same for a dataclass: its constructor suggests the field that was meant."""
    kind.__init__ = checks_names()(kind.__init__)  # type: ignore[misc]
    return kind


def _expanded(signature: inspect.Signature, options: Any, defaults: Any) -> inspect.Signature:
    """The signature with each option in place of ``**options``, for `help` and for consoles that complete names."""
    if options is None:
        return signature
    parameters = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    for name, annotation in options.__annotations__.items():
        default = getattr(defaults, name, None)
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )
    return signature.replace(parameters=parameters)


def _unknown(function: str, name: str, known: frozenset[str]) -> TypeError:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"the options are {', '.join(sorted(known))}"
    return TypeError(f"{function}() has no option {name!r}; {hint}")
