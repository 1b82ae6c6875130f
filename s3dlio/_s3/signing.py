"""Signature Version 4 for S3, by botocore, with the canonical request built directly and the day's key kept.

It signs what it is given, logs nothing, and keeps no secret but derived keys. `attempts` and `series` call it.
botocore is imported with the first signature, because importing it is slow.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .credentials import Credentials
from .._runtime.forking import forks_wait

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
_KEPT_KEYS = 64


@functools.cache
def _signing_class() -> tuple[Any, Collection[str], str]:
    """botocore's S3 signer with derived keys kept, the headers it does not sign, and its format of an instant."""
    with forks_wait():
        from botocore.auth import SIGNED_HEADERS_BLACKLIST, SIGV4_TIMESTAMP, S3SigV4Auth

    class KeyCachingS3Auth(S3SigV4Auth):  # type: ignore[misc]
        def __init__(self, credentials: Any, region: str, keys: dict[tuple[str, ...], hmac.HMAC]) -> None:
            super().__init__(credentials, "s3", region)
            self._keys = keys

        def keyed(self, date: str) -> hmac.HMAC:
            """The HMAC under the derived key of one day (``YYYYMMDD``), to be copied for each signature.

            A copy takes 0.8 us where `hmac.digest` takes 1.4, and never gives up the GIL: `hmac.digest` does while it
            holds a lock of OpenSSL's, and a child forked at that moment waits for it for ever.
            """
            cached = (self.credentials.access_key, self.credentials.secret_key, date, self._region_name)
            keyed = self._keys.get(cached)
            if keyed is None:
                key = self._sign(f"AWS4{self.credentials.secret_key}".encode(), date)
                for step in (self._region_name, self._service_name, "aws4_request"):
                    key = self._sign(key, step)
                keyed = hmac.new(key, digestmod="sha256")
                if len(self._keys) >= _KEPT_KEYS:
                    self._keys.clear()
                self._keys[cached] = keyed
            return keyed

    return KeyCachingS3Auth, frozenset(SIGNED_HEADERS_BLACKLIST), SIGV4_TIMESTAMP


def _canonical_query(query_string: str) -> str:
    """The encoded pairs sorted by name, then value, each with its ``=``."""
    if not query_string:
        return ""
    pairs = sorted(pair.partition("=")[::2] for pair in query_string.split("&"))
    return "&".join(f"{name}={value}" for name, value in pairs)


class Signer:
    """Signs the requests of one client; any thread may call it.

    The derived key takes four HMACs and depends on credentials, day and region only; botocore derives it anew
    for every request, and parses URL and headers that this library has encoded itself. Both are left out here.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """

    @staticmethod
    def load() -> None:
        """Imports botocore's part of it; the first signature does so otherwise."""
        _signing_class()

    def __init__(self) -> None:
        self._keys: dict[tuple[str, ...], hmac.HMAC] = {}

    def sign(
        self,
        *,
        method: str,
        host: str,
        path: str,
        query_string: str,
        headers: Mapping[str, str],
        credentials: Credentials,
        region: str,
        now: datetime | None = None,
        payload_hash: str = UNSIGNED_PAYLOAD,
    ) -> dict[str, str]:
        """The headers to send, under lower-case names: those given, and the signature's.

        Args:
            method: ``GET``, ``PUT`` and so on.
            host: the Host header, with the port unless it is the scheme's default.
            path: percent-encoded, as it goes on the wire.
            query_string: percent-encoded, without ``?``.
            headers: what else is sent; all but those that proxies change are signed.
            credentials: frozen ones.
            region: region of the bucket.
            now: the instant to sign for, aware; None for the present.
            payload_hash: hexadecimal SHA-256 of the body, or ``UNSIGNED-PAYLOAD``.

        Returns:
            `headers` with ``host``, ``authorization``, ``x-amz-date``, ``x-amz-content-sha256`` and, for
            temporary credentials, ``x-amz-security-token``.
        """
        alike = self.alike(
            method=method, host=host, headers=headers, varying=(), credentials=credentials, region=region, now=now,
            payload_hash=payload_hash,
        )  # fmt: skip
        return {**alike.fixed, "authorization": alike.authorization(path, query_string)}

    def alike(
        self,
        *,
        method: str,
        host: str,
        headers: Mapping[str, str],
        varying: Sequence[str],
        credentials: Credentials,
        region: str,
        now: datetime | None = None,
        payload_hash: str = UNSIGNED_PAYLOAD,
    ) -> Alike:
        """Signs many requests that differ in path, query and the values of a few headers, all for one instant.

        Args:
            varying: lower-case names of headers whose values are told with each request; those in `headers` do not
                count. All are signed.
            method, host, headers, credentials, region, now, payload_hash: as for `sign`.
        """
        signing_class, not_signed, timestamp_format = _signing_class()
        instant = datetime.now(UTC) if now is None else now.astimezone(UTC)
        timestamp = instant.strftime(timestamp_format)
        fixed = {"host": host}
        fixed.update((name.lower(), value) for name, value in headers.items())
        fixed.pop("authorization", None)
        fixed["x-amz-date"] = timestamp
        fixed["x-amz-content-sha256"] = payload_hash
        if credentials.token:
            fixed["x-amz-security-token"] = credentials.token
        for name in varying:
            fixed.pop(name, None)
        names = sorted([name for name in fixed if name not in not_signed] + list(varying))
        signer = signing_class(credentials, region, self._keys)
        dated = SimpleNamespace(context={"timestamp": timestamp})
        signed = ";".join(names)
        values = ["%s" if name in varying else _literal(" ".join(fixed[name].split())) for name in names]
        lines = [f"{_literal(name)}:{value}" for name, value in zip(names, values, strict=True)]
        return Alike(
            fixed=fixed,
            order=tuple(varying.index(name) for name in names if name in varying),
            canonical="\n".join([method.upper(), "%s", "%s", *lines, "", _literal(signed), payload_hash]),
            string_to_sign=f"AWS4-HMAC-SHA256\n{timestamp}\n{signer.credential_scope(dated)}\n",
            credential=f"AWS4-HMAC-SHA256 Credential={signer.scope(dated)}, SignedHeaders={signed}, Signature=",
            keyed=signer.keyed(timestamp[:8]),
        )


def _literal(text: str) -> str:
    """For a format: no sign in it stands for a value."""
    return text.replace("%", "%%")


class Alike(NamedTuple):
    """What is the same in all requests of one kind that are signed for one instant.

    Attributes:
        fixed: their headers, under lower-case names, without those that vary and without ``authorization``.
        order: which of the varying values comes at which place of the canonical request.
        canonical: the canonical request, with places for path, query and values.
        string_to_sign: all of it but the canonical request's digest.
        credential: the ``authorization`` header up to the signature.
        keyed: the HMAC under the key derived for the day.
    """

    fixed: dict[str, str]
    order: tuple[int, ...]
    canonical: str
    string_to_sign: str
    credential: str
    keyed: hmac.HMAC

    def authorization(self, path: str, query_string: str, values: Sequence[str] = ()) -> str:
        """The ``authorization`` header of one of them.

        Args:
            path, query_string: percent-encoded, as for `Signer.sign`.
            values: of the varying headers, in the order in which they were named; blanks in them as they are sent.
        """
        varied = [" ".join(values[place].split()) for place in self.order]
        canonical = self.canonical % (path, _canonical_query(query_string), *varied)
        text = self.string_to_sign + hashlib.sha256(canonical.encode()).hexdigest()
        signature = self.keyed.copy()
        signature.update(text.encode())
        return self.credential + signature.hexdigest()
