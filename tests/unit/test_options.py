"""Options of the public face: their types, their names, and what is said about a wrong one."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

import pytest

import s3dlio
from s3dlio import Client, MultipartUploadConfig, MultipartUploadSink, MultipartUploadWriter, RetryPolicy, Timeouts
from s3dlio.config import CHECKSUM_ALGORITHMS, ClientSettings, DownloadSettings
from s3dlio.options import AddressingStyle, Checksum

URI = "s3://bucket/key"
ALL_FUNCTIONS = {name: one for name in s3dlio.__all__ if inspect.isfunction(one := getattr(s3dlio, name))}
FUNCTIONS = {name: one for name, one in ALL_FUNCTIONS.items() if not name.endswith("_async")}
TWINS = {name: one for name, one in ALL_FUNCTIONS.items() if name.endswith("_async")}
# Names of the original library: they act on the process, or its scripts call them as functions only.
ORIGINAL = {
    "configure_s3", "configure_tokio_threads", "get_many_stats", "init_logging", "list_full_uris", "list_keys", "mkdir",
    "mp_get",
}  # fmt: skip
# What a method of a client makes, where it is no function of the package.
MADE = {"writer": MultipartUploadWriter.from_uri, "resume": MultipartUploadWriter.resume, "sink": MultipartUploadSink}
METHODS = {name: one for name, one in vars(Client).items() if inspect.isfunction(one) and not name.startswith("_")}
METHODS.pop("close")
TWIN_METHODS = {name: METHODS.pop(name) for name in list(METHODS) if name.endswith("_async")}
# Of functions that make no request.
WITHOUT_TWIN = {"configure_s3", "configure_tokio_threads", "init_logging", "mp_get", "stats"}
CLIENT = Client(endpoint_url="http://127.0.0.1:9", credentials=("a", "b"), region="us-east-1")


def names(options: Any) -> set[str]:
    return set(typing.get_type_hints(options))


def fields(kind: Any) -> set[str]:
    return {one.name for one in dataclasses.fields(kind)}


def test_the_options_of_uploads_are_the_fields_of_their_configuration() -> None:
    assert typing.get_type_hints(s3dlio.UploadOptions) == typing.get_type_hints(MultipartUploadConfig)
    assert names(s3dlio.UploadOptions) - names(s3dlio.PutManyOptions) == {"max_in_flight"}
    assert not s3dlio.UploadOptions.__required_keys__


def test_the_options_of_downloads_are_the_fields_of_their_settings() -> None:
    assert names(s3dlio.GetOptions) == fields(DownloadSettings) | {"verify"}
    assert not s3dlio.GetOptions.__required_keys__


@pytest.mark.parametrize("kind", [MultipartUploadConfig, s3dlio.GetOptions, Timeouts, RetryPolicy, Client])
def test_every_option_is_documented(kind: Any) -> None:
    entries = re.findall(r"^ {4}([a-z_]+(?:, [a-z_]+)*): ", inspect.cleandoc(kind.__doc__), re.M)
    known = set(inspect.signature(kind).parameters) if kind is Client else names(kind)
    assert {name for entry in entries for name in entry.split(", ")} == known


def test_literals_list_what_is_accepted() -> None:
    assert set(typing.get_args(Checksum)) == set(CHECKSUM_ALGORITHMS)
    for style in typing.get_args(AddressingStyle):
        assert ClientSettings(addressing_style=style).addressing_style == style


@pytest.mark.parametrize("name", s3dlio.__all__)
def test_type_hints_can_be_resolved(name: str) -> None:
    public = getattr(s3dlio, name)
    typing.get_type_hints(public)
    if inspect.isclass(public):
        for member in vars(public).values():
            member = getattr(member, "__func__", getattr(member, "fget", member))
            if inspect.isfunction(member):
                typing.get_type_hints(member)


def test_the_signature_shows_every_option_with_its_default() -> None:
    shown = inspect.signature(s3dlio.put_bytes).parameters
    assert {name: shown[name].default for name in names(s3dlio.UploadOptions)} == dataclasses.asdict(
        MultipartUploadConfig()
    )
    assert names(s3dlio.GetOptions) < set(inspect.signature(s3dlio.get_many).parameters)


def test_a_client_has_every_function_and_the_package_all_that_a_client_has() -> None:
    assert METHODS.keys() == FUNCTIONS.keys() - ORIGINAL | MADE.keys()


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_a_client_has_the_signature_of_its_function(name: str) -> None:
    function = (FUNCTIONS | MADE)[name]
    expected = [p for p in inspect.signature(function).parameters.values() if p.name != "client"]
    assert list(inspect.signature(getattr(CLIENT, name)).parameters.values()) == expected
    assert METHODS[name].__doc__


def test_every_function_that_makes_requests_has_a_twin() -> None:
    assert TWINS.keys() == {f"{name}_async" for name in FUNCTIONS.keys() - WITHOUT_TWIN}
    assert TWIN_METHODS.keys() == {f"{name}_async" for name in METHODS.keys() - {"sink", "stats"}}


@pytest.mark.parametrize("name", TWINS | TWIN_METHODS)
def test_a_twin_has_the_signature_of_its_function(name: str) -> None:
    blocking = name.removesuffix("_async")
    if name in TWINS:
        assert inspect.signature(TWINS[name]).parameters == inspect.signature(FUNCTIONS[blocking]).parameters
        assert TWINS[name].__name__ == name
    if name in TWIN_METHODS:
        assert inspect.signature(TWIN_METHODS[name]).parameters == inspect.signature(METHODS[blocking]).parameters
        assert TWIN_METHODS[name].__doc__


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_tells_which_option_was_meant(name: str) -> None:
    call, arguments, option, meant = CALLS[name.removesuffix("_async")]

    async def begin() -> None:
        await TWINS[name](*arguments, **{option: 1})

    with pytest.raises(TypeError, match=rf"{call.__name__}.*\(\) has no option '{option}'; did you mean '{meant}'\?"):
        asyncio.run(begin())


CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str, str]] = {
    "get": (s3dlio.get, (URI,), "chunksize", "chunk_size"),
    "get_range": (s3dlio.get_range, (URI, 0), "lenght", "length"),
    "get_into": (s3dlio.get_into, (URI, bytearray(5)), "ofset", "offset"),
    "get_many": (s3dlio.get_many, ([URI],), "max_inflight", "max_in_flight"),
    "put_bytes": (s3dlio.put_bytes, (URI, b""), "part_sise", "part_size"),
    "put_many": (s3dlio.put_many, ([(URI, b"")],), "part_in_flight", "part_max_in_flight"),
    "stat": (s3dlio.stat, (URI,), "version", "version_id"),
    "exists": (s3dlio.exists, (URI,), "version", "version_id"),
    "list": (s3dlio.list, (URI,), "patern", "pattern"),
    "iter_objects": (s3dlio.iter_objects, (URI,), "startafter", "start_after"),
    "copy": (s3dlio.copy, (URI, URI), "version_id", "source_version_id"),
    "delete": (s3dlio.delete, (URI,), "recursiv", "recursive"),
    "presign": (s3dlio.presign, (URI,), "expire", "expires"),
    "list_versions": (s3dlio.list_versions, (URI,), "klient", "client"),
    "delete_all_versions": (s3dlio.delete_all_versions, (URI,), "klient", "client"),
    "create_bucket": (s3dlio.create_bucket, ("bucket",), "klient", "client"),
    "delete_bucket": (s3dlio.delete_bucket, ("bucket",), "klient", "client"),
    "list_buckets": (s3dlio.list_buckets, (), "klient", "client"),
    "upload": (s3dlio.upload, ("file", URI), "skip_exist", "skip_existing"),
    "download": (s3dlio.download, (URI, "file"), "preserve_time", "preserve_times"),
    "open": (s3dlio.open, (URI,), "versionid", "version_id"),
    "get_iter": (s3dlio.get_iter, (URI,), "chunksize", "chunk_size"),
    "stats": (s3dlio.stats, (), "klient", "client"),
    "sync": (s3dlio.sync, ("folder", URI), "max_deletes", "max_delete"),
    "configure_s3": (s3dlio.configure_s3, (), "endpoint", "endpoint_url"),
    "configure_tokio_threads": (s3dlio.configure_tokio_threads, (), "nn", "n"),
    "get_many_stats": (s3dlio.get_many_stats, ([URI],), "max_inflight", "max_in_flight"),
    "init_logging": (s3dlio.init_logging, (), "levle", "level"),
    "list_full_uris": (s3dlio.list_full_uris, (URI,), "klient", "client"),
    "list_keys": (s3dlio.list_keys, (URI,), "klient", "client"),
    "mkdir": (s3dlio.mkdir, (), "urj", "uri"),
    "mp_get": (s3dlio.mp_get, (URI,), "proc", "procs"),
    "list_uploads": (s3dlio.list_uploads, (URI,), "klient", "client"),
    "abort_uploads": (s3dlio.abort_uploads, (URI,), "older", "older_than"),
    "Client": (Client, (), "endpoint", "endpoint_url"),
    "MultipartUploadWriter": (MultipartUploadWriter, ("b", "k"), "meta_data", "metadata"),
    "from_uri": (MultipartUploadWriter.from_uri, (URI,), "tag", "tags"),
    "resume": (MultipartUploadWriter.resume, (URI, "id"), "partsize", "part_size"),
    "AsyncMultipartUploadWriter": (s3dlio.AsyncMultipartUploadWriter, ("b", "k"), "meta_data", "metadata"),
    "AsyncMultipartUploadWriter.from_uri": (s3dlio.AsyncMultipartUploadWriter.from_uri, (URI,), "tag", "tags"),
    "MultipartUploadSink": (MultipartUploadSink, ("b", "k"), "configuration", "config"),
    "MultipartUploadConfig": (MultipartUploadConfig, (), "check_sum", "checksum"),
    "Timeouts": (Timeouts, (), "first_bite", "first_byte"),
    "RetryPolicy": (RetryPolicy, (), "maxattempts", "max_attempts"),
    "Client.get": (CLIENT.get, (URI,), "verfy", "verify"),
    "Client.writer": (CLIENT.writer, (URI,), "abort_on_fail", "abort_on_failure"),
    "Client.stat": (CLIENT.stat, (URI,), "version", "version_id"),
}


@pytest.mark.parametrize(("call", "arguments", "option", "meant"), CALLS.values(), ids=CALLS)
def test_an_unknown_option_is_told_what_was_meant(
    call: Callable[..., Any], arguments: tuple[Any, ...], option: str, meant: str
) -> None:
    with pytest.raises(TypeError, match=rf"\(\) has no option '{option}'; did you mean '{meant}'\?"):
        call(*arguments, **{option: 1})


def test_an_option_like_no_other_is_told_which_there_are() -> None:
    with pytest.raises(TypeError, match=r"stat\(\) has no option 'x'; the options are client, uri, version_id"):
        s3dlio.stat(URI, x=1)  # type: ignore[call-arg]


def test_every_function_suggests_names() -> None:
    assert FUNCTIONS.keys() <= CALLS.keys()


WRONG_TYPES: dict[str, tuple[Callable[..., Any], Any, str]] = {
    "timeouts": (Client, 5, "Timeouts"),
    "retries": (Client, 3, "RetryPolicy"),
    "endpoint_url": (Client, 5, "str"),
    "region": (Client, b"us-east-1", "str"),
    "profile": (Client, ["p"], "str"),
    "ca_bundle": (Client, 1, "str"),
    "credentials": (Client, ["key", "secret"], "tuple"),
    "addressing_style": (Client, None, "'auto', 'path' or 'virtual'"),
    "verify": (Client, "no", "True or False"),
    "max_connections": (Client, 2.5, "whole number of connections"),
    "checksum_fallback": (Client, 1, "True or False"),
    "connect": (Timeouts, "5", "number of seconds"),
    "max_attempts": (RetryPolicy, 2.0, "whole number of attempts"),
    "base_delay": (RetryPolicy, None, "number of seconds"),
    "deadline": (RetryPolicy, "1", "number of seconds"),
    "quota": (RetryPolicy, "1", "whole number of tokens"),
    "hedge": (RetryPolicy, "0.5", "number from 0 to 1"),
    "part_size": (MultipartUploadConfig, 16e6, "whole number of bytes"),
    "max_in_flight": (MultipartUploadConfig, True, "whole number of parts"),
    "abort_on_drop": (MultipartUploadConfig, 1, "True or False"),
    "content_type": (MultipartUploadConfig, b"a/b", "str"),
    "metadata": (MultipartUploadConfig, "a=b", "mapping of str to str"),
    "tags": (MultipartUploadConfig, [("a", "b")], "mapping of str to str"),
    "if_none_match": (MultipartUploadConfig, True, "str"),
    "if_match": (MultipartUploadConfig, 5, "str"),
    "checksum": (MultipartUploadConfig, False, "crc64nvme, crc32c, crc32, sha256, or None"),
    "grow_part_size": (MultipartUploadConfig, "yes", "True or False"),
    "expected_size": (MultipartUploadConfig, 1e9, "whole number of bytes"),
    "range_optimization": (lambda **o: s3dlio.get(URI, **o), 1, "True or False"),
    "range_threshold": (lambda **o: s3dlio.get_many([URI], **o), "64", "whole number of bytes"),
    "range_concurrency": (lambda **o: s3dlio.get_range(URI, 0, **o), 4.0, "whole number of requests"),
    "chunk_size": (lambda **o: CLIENT.get(URI, **o), "1M", "whole number of bytes"),
    "part_max_in_flight": (lambda **o: s3dlio.put_many([(URI, b"")], **o), "4", "whole number of parts"),
    "older_than": (lambda **o: s3dlio.abort_uploads("s3://b", **o), "1 h", "number of seconds"),
}


@pytest.mark.parametrize(("option", "call", "value", "allowed"), [(name, *one) for name, one in WRONG_TYPES.items()])
def test_a_value_of_the_wrong_type_is_a_type_error_that_says_what_is_allowed(
    option: str, call: Callable[..., Any], value: Any, allowed: str
) -> None:
    with pytest.raises(s3dlio.ConfigurationError, match=re.escape(allowed)) as raised:
        call(**{option: value})
    assert isinstance(raised.value, TypeError)
    assert option in str(raised.value)
    if option != "credentials":  # never shown
        assert f"={value!r}" in str(raised.value)


@pytest.mark.parametrize("name", ["get", "put_bytes", "stat", "list_uploads", "list", "delete"])
def test_a_client_that_is_none_is_refused(name: str) -> None:
    arguments = (b"",) if name == "put_bytes" else ()
    with pytest.raises(TypeError, match="client='minio' is not a Client"):
        FUNCTIONS[name](URI, *arguments, client="minio")


@pytest.mark.parametrize("name", ["get", "put_bytes", "writer"])
def test_progress_that_cannot_be_called_is_refused_before_any_request(name: str) -> None:
    arguments = (b"",) if name == "put_bytes" else ()
    with pytest.raises(TypeError, match="progress='bar' is not callable"):
        METHODS[name](CLIENT, URI, *arguments, progress="bar")


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        ("", s3dlio.ConfigurationError, "version_id is empty"),
        (7, TypeError, "version_id=7 is not a str"),
        (b"v", TypeError, r"version_id=b'v' is not a str"),
    ],
)
def test_a_version_that_cannot_be_one_is_refused_before_a_request(
    value: Any, kind: type[Exception], words: str
) -> None:
    for function, arguments in (
        (CLIENT.get, ()),
        (CLIENT.get_range, (0, 1)),
        (CLIENT.get_into, (bytearray(1),)),
        (CLIENT.stat, ()),
    ):
        with pytest.raises(kind, match=words):
            function(URI, *arguments, version_id=value)
