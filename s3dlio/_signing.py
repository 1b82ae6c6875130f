"""Signature Version 4 for S3, by botocore, with the canonical request built directly and the day's key kept.

It signs what it is given, logs nothing, and keeps no secret but derived keys. Only `_client` calls it.
botocore is imported with the first signature, because importing it is slow.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._credentials import Credentials

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
_KEPT_KEYS = 64


@functools.cache
def _signing_class() -> tuple[Any, Collection[str], str]:
    """botocore's S3 signer with derived keys kept, the headers it does not sign, and its format of an instant."""
    from botocore.auth import SIGNED_HEADERS_BLACKLIST, SIGV4_TIMESTAMP, S3SigV4Auth

    class KeyCachingS3Auth(S3SigV4Auth):  # type: ignore[misc]
        def __init__(self, credentials: Any, region: str, keys: dict[tuple[str, ...], bytes]) -> None:
            super().__init__(credentials, "s3", region)
            self._keys = keys

        def signature(self, string_to_sign: str, request: Any) -> str:
            date = request.context["timestamp"][0:8]
            cached = (self.credentials.access_key, self.credentials.secret_key, date, self._region_name)
            key = self._keys.get(cached)
            if key is None:
                key = self._sign(f"AWS4{self.credentials.secret_key}".encode(), date)
                for step in (self._region_name, self._service_name, "aws4_request"):
                    key = self._sign(key, step)
                if len(self._keys) >= _KEPT_KEYS:
                    self._keys.clear()
                self._keys[cached] = key
            signed: str = self._sign(key, string_to_sign, hex=True)
            return signed

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
        self._keys: dict[tuple[str, ...], bytes] = {}

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
        signing_class, not_signed, timestamp_format = _signing_class()
        instant = datetime.now(UTC) if now is None else now.astimezone(UTC)
        timestamp = instant.strftime(timestamp_format)
        sent = {"host": host}
        sent.update((name.lower(), value) for name, value in headers.items())
        sent.pop("authorization", None)
        sent["x-amz-date"] = timestamp
        sent["x-amz-content-sha256"] = payload_hash
        if credentials.token:
            sent["x-amz-security-token"] = credentials.token
        names = sorted(name for name in sent if name not in not_signed)
        lines = [method.upper(), path, _canonical_query(query_string)]
        lines += [f"{name}:{' '.join(sent[name].split())}" for name in names]
        lines += ["", ";".join(names), payload_hash]

        signer = signing_class(credentials, region, self._keys)
        request = SimpleNamespace(context={"timestamp": timestamp})
        signature = signer.signature(signer.string_to_sign(request, "\n".join(lines)), request)
        sent["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, "
            f"SignedHeaders={';'.join(names)}, Signature={signature}"
        )
        return sent
