"""The places of a soak, each with a fresh bucket, a ledger and clients: the scripted peer, MinIO, and a MinIO behind a
proxy that frames answers otherwise and takes, weakens or garbles what their heads say.

All keep every version of an object, so that an audit knows what there was. They are looked into without the library and
without the proxy: the peer's model in memory, MinIO by boto3 and on its disk. A version id that the proxy has taken
makes no audit wrong, for what was closed without one is looked for among all versions.
"""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
import threading
from typing import Any

from authority import Authority
from chaos import Chaos
from content import connect
from ledger import Ledger, LeftUpload, StoredVersion
from model import Store
from peer import Peer, Rule
from proxy import Choose, Proxy
from servers import KEYS, REGION, Restartable


class Place:
    """A bucket somewhere: where scenarios happen. `settings` are a client's, in a form that a program can be given."""

    name: str
    bucket: str
    settings: dict[str, Any]
    ledger: Ledger

    def open(self) -> None:
        self.ledger = Ledger(self.bucket)
        self.client = connect(self.settings)

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def transcript(self, key: str) -> str:
        """What passed of the keys that hold `key`, where that is known."""
        return ""

    def close(self) -> None:
        self.client.close()


class PeerPlace(Place):
    """The scripted peer, plain or TLS, which does something wrong to every few requests."""

    name = "peer"
    bucket = "soak-peer"

    def __init__(self, chaos: Chaos, tls: Authority | None) -> None:
        self.store = Store(self.bucket, versioned=True)
        self.peer = Peer(self.store, tls=None if tls is None else tls.context)
        self.peer.play(Rule(do=chaos))
        self.settings = {"endpoint_url": self.peer.endpoint_url, "credentials": ["id", "secret"], "attempts": 12}
        if tls is not None:
            self.settings["ca_bundle"] = str(tls.bundle)
        self.open()

    def settle(self) -> None:
        self.peer.wait_until_quiet()

    def transcript(self, key: str) -> str:
        return "\n".join(str(one) for one in self.peer.requests() if key in one.key)

    def close(self) -> None:
        super().close()
        self.peer.close()

    def keys(self) -> list[str]:
        return list(self.store._objects[self.bucket])

    def versions(self, key: str) -> list[StoredVersion]:
        return [StoredVersion(one.version_id, one.data) for one in self.store.versions(self.bucket, key)]

    def uploads(self, keys: list[str]) -> list[LeftUpload]:
        left = [self.store.uploads[upload_id] for upload_id in self.store.orphans()]
        return [LeftUpload(one.key, one.upload_id, len(one.parts)) for one in left]


class MinioPlace(Place):
    """A MinIO of our own, with its data in memory, that is killed and started again now and then."""

    name = "minio"
    bucket = "soak-minio"

    def __init__(self, binary: str) -> None:
        import boto3
        from botocore.config import Config

        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self._folder = tempfile.mkdtemp(prefix="s3dlio-soak-", dir=memory)
        self._server = Restartable(binary, self._folder)
        self._restarting = threading.Lock()
        self.settings = {
            "endpoint_url": f"http://127.0.0.1:{self._server.port}",
            "credentials": list(KEYS),
            "attempts": 40,
        }
        self._boto3 = boto3.client(
            "s3",
            endpoint_url=self.settings["endpoint_url"],
            region_name=REGION,
            aws_access_key_id=KEYS[0],
            aws_secret_access_key=KEYS[1],
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 10}),
        )
        self._boto3.create_bucket(Bucket=self.bucket)
        self._boto3.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})
        self.open()

    def restart(self, pause: float) -> bool:
        """Kills the server and starts it `pause` seconds later; False where somebody else is doing that."""
        if not self._restarting.acquire(blocking=False):
            return False
        try:
            self._server.kill()
            threading.Event().wait(pause)
            self._server.start()
        finally:
            self._restarting.release()
        return True

    def settle(self) -> None:
        pass

    def close(self) -> None:
        super().close()
        self._boto3.close()
        self._server.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _listed(self) -> list[dict[str, Any]]:
        pages = self._boto3.get_paginator("list_object_versions").paginate(Bucket=self.bucket)
        return [one for page in pages for one in page.get("Versions", [])]

    def keys(self) -> list[str]:
        return sorted({one["Key"] for one in self._listed()})

    def versions(self, key: str) -> list[StoredVersion]:
        pages = self._boto3.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=key)
        named = [one["VersionId"] for page in pages for one in page.get("Versions", []) if one["Key"] == key]
        return [StoredVersion(version_id, self._read(key, version_id)) for version_id in named]

    def _read(self, key: str, version_id: str) -> bytes:
        from botocore.exceptions import ResponseStreamingError

        while True:
            try:
                found = self._boto3.get_object(Bucket=self.bucket, Key=key, VersionId=version_id)
                body: bytes = found["Body"].read()
                return body
            except ResponseStreamingError:  # the server was killed in the middle of it, which boto3 does not repeat
                continue

    def uploads(self, keys: list[str]) -> list[LeftUpload]:
        """By key, for MinIO lists others only until it is started again; and on its disk, where none can hide."""
        left = []
        for key in keys:
            found = self._boto3.list_multipart_uploads(Bucket=self.bucket, Prefix=key).get("Uploads", [])
            for one in found:
                named = {"Bucket": self.bucket, "Key": key, "UploadId": one["UploadId"]}
                left.append(LeftUpload(key, one["UploadId"], len(self._boto3.list_parts(**named).get("Parts", []))))
        on_disk = glob.glob(f"{self._folder}/.minio.sys/multipart/*/*/xl.meta")
        unlisted = [LeftUpload("?", path, 0) for path in on_disk[len(left) :]]
        return left + unlisted


class ProxiedPlace(MinioPlace):
    """Such a MinIO, which clients reach only through a proxy, plain or TLS, that passes its answers on oddly."""

    name = "proxied minio"
    bucket = "soak-proxied"

    def __init__(self, binary: str, detour: Choose, tls: Authority | None) -> None:
        super().__init__(binary)
        self.client.close()
        self.proxy = Proxy(self._server.port, detour, tls=None if tls is None else tls.context)
        self.settings["endpoint_url"] = self.proxy.endpoint_url
        if tls is not None:
            self.settings["ca_bundle"] = str(tls.bundle)
        self.open()

    def settle(self) -> None:
        self.proxy.wait_until_quiet()

    def transcript(self, key: str) -> str:
        return self.proxy.transcript(key)

    def close(self) -> None:
        super().close()
        self.proxy.close()
