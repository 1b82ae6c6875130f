"""The private parts of botocore and urllib3 that the package uses are there, and behave as it expects."""

from __future__ import annotations

import ast
import inspect
import queue
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import urllib3
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from botocore.credentials import RefreshableCredentials
from urllib3.connection import HTTPConnection, HTTPSConnection

import s3dlio
from s3dlio._net.idle_connections import IdleConnections

PACKAGE = Path(s3dlio.__file__).parent
# What `_net.connections` calls or overrides beyond urllib3's documented interface.
PRIVATE = {
    "_get_conn": urllib3.HTTPConnectionPool,
    "_put_conn": urllib3.HTTPConnectionPool,
    "_prepare_proxy": urllib3.HTTPSConnectionPool,
    "_new_conn": HTTPConnection,
    "_dns_host": HTTPConnection,
}


def private_names(module: str) -> set[str]:
    """Underscored names that a module takes from objects other than its own, or defines for a base class to call."""
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name)
    }
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            used |= {one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return {name for name in used if re.match(r"_[a-z]", name)} - own


def test_the_list_of_urllib3_s_private_names_is_complete() -> None:
    assert private_names("_net/connections.py") == set(PRIVATE) - {"_new_conn"}


@pytest.mark.parametrize("name", PRIVATE)
def test_urllib3_has_what_is_relied_on(name: str) -> None:
    of = PRIVATE[name]
    assert hasattr(of if name != "_dns_host" else of("127.0.0.1"), name)


def test_https_connections_of_urllib3_connect_by_the_method_that_is_overridden() -> None:
    for connection in (HTTPConnection, HTTPSConnection):
        assert "self._new_conn()" in inspect.getsource(connection.connect)


@pytest.mark.parametrize(
    ("pool_class", "name", "parameters"),
    [
        (urllib3.HTTPConnectionPool, "_get_conn", ["self", "timeout"]),
        (urllib3.HTTPConnectionPool, "_put_conn", ["self", "conn"]),
        (urllib3.HTTPSConnectionPool, "_prepare_proxy", ["self", "conn"]),
    ],
)
def test_urllib3_takes_the_arguments_that_are_given(pool_class: type, name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(pool_class, name)).parameters) == parameters


def test_a_pool_of_urllib3_takes_another_queue_and_gives_back_the_connection_put_last() -> None:
    class Pool(urllib3.HTTPConnectionPool):
        QueueCls = IdleConnections  # type: ignore[assignment]

    pool = Pool("127.0.0.1", 9, maxsize=2, block=True)
    assert isinstance(pool.pool, IdleConnections)
    first, second = pool._get_conn(timeout=0.001), pool._get_conn(timeout=0.001)
    with pytest.raises(urllib3.exceptions.EmptyPoolError):
        pool._get_conn(timeout=0.001)
    pool._put_conn(second)
    pool._put_conn(first)
    assert pool._get_conn(timeout=0.001) is first
    assert pool._get_conn(timeout=0.001) is second
    assert issubclass(urllib3.exceptions.EmptyPoolError, urllib3.exceptions.PoolError)
    assert pool.pool.qsize() == 0
    with pytest.raises(queue.Empty):
        pool.pool.get(block=False)


def test_urllib3_is_held_below_the_next_major_version() -> None:
    pyproject = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'"urllib3>=2\.[0-9]+,<3"', pyproject)


def test_credentials_use_two_private_names_of_botocore() -> None:
    assert private_names("_s3/credentials.py") == {"_mandatory_refresh_timeout", "_expiry_time"}
    end = datetime(2030, 1, 1, tzinfo=UTC)
    assert RefreshableCredentials("key", "secret", "token", end, lambda: {}, "test")._expiry_time == end
    assert RefreshableCredentials._mandatory_refresh_timeout > 0
    assert "refresh_in" in inspect.signature(RefreshableCredentials.refresh_needed).parameters
    assert "region" in BOTOCORE_DEFAUT_SESSION_VARIABLES
