"""A certificate authority and a TLS server on loopback that it vouches for."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Authority:
    """`context` is the server's; `bundle` the file with the authority that a client has to trust."""

    context: ssl.SSLContext
    bundle: Path

    @classmethod
    def make(cls, folder: Path) -> Authority:
        made = trustme.CA(key_type=trustme.KeyType.ECDSA)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.issue_cert("127.0.0.1", "localhost", key_type=trustme.KeyType.ECDSA).configure_cert(context)
        bundle = folder / "ca.pem"
        made.cert_pem.write_to_path(str(bundle))
        return cls(context, bundle)
