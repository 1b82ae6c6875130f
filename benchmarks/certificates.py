"""A certificate authority and a leaf for 127.0.0.1, made by openssl for one run. Used by `servers.py` only.

Two certificates, because Rust's TLS libraries refuse a leaf that is its own authority.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_AUTHORITY = """[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = benchmark authority
[extensions]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_LEAF = """basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""
_DAYS = "7"


def make(folder: Path) -> Path:
    """Writes `public.crt` and `private.key`, as MinIO expects them, and returns the authority's certificate.

    Raises RuntimeError without openssl, CalledProcessError if it fails.
    """
    openssl = shutil.which("openssl")
    if not openssl:
        raise RuntimeError("openssl was not found, and --stores minio-tls needs it for its certificates")
    folder.mkdir(parents=True)
    (folder / "authority.cnf").write_text(_AUTHORITY)
    (folder / "leaf.cnf").write_text(_LEAF)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority = [
        "-config",
        "authority.cnf",
        "-x509",
        "-days",
        _DAYS,
        "-keyout",
        "authority.key",
        "-out",
        "authority.crt",
    ]
    request = ["-subj", "/CN=127.0.0.1", "-keyout", "private.key", "-out", "leaf.csr"]
    signing = ["-in", "leaf.csr", "-CA", "authority.crt", "-CAkey", "authority.key", "-CAcreateserial"]
    signing += ["-days", _DAYS, "-extfile", "leaf.cnf", "-out", "public.crt"]
    for arguments in (["req", *key, *authority], ["req", *key, *request], ["x509", "-req", *signing]):
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)
    return folder / "authority.crt"
