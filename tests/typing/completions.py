"""Asks pyright's language server, as an editor does, which names it offers inside each call of the public face.

``python tests/typing/completions.py`` fails where an option is not offered. It talks the Language Server Protocol
(https://microsoft.github.io/language-server-protocol/) over the server's standard streams.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import s3dlio

ROOT = Path(__file__).parent.parent.parent
# A call up to its first keyword, and what it calls.
CALLS: dict[str, Any] = {
    'get("u", ': s3dlio.get,
    'get_range("u", offset, ': s3dlio.get_range,
    'get_into("u", bytearray(), ': s3dlio.get_into,
    "get_many(uris, ": s3dlio.get_many,
    'put_bytes("u", b"", ': s3dlio.put_bytes,
    "put_many(items, ": s3dlio.put_many,
    'stat("u", ': s3dlio.stat,
    'list_uploads("u", ': s3dlio.list_uploads,
    'abort_uploads("u", ': s3dlio.abort_uploads,
    'MultipartUploadWriter("b", "k", ': s3dlio.MultipartUploadWriter,
    'MultipartUploadWriter.from_uri("u", ': s3dlio.MultipartUploadWriter.from_uri,
    'MultipartUploadWriter.resume("u", "i", ': s3dlio.MultipartUploadWriter.resume,
    'MultipartUploadSink("b", "k", ': s3dlio.MultipartUploadSink,
    "MultipartUploadConfig(": s3dlio.MultipartUploadConfig,
    "Timeouts(": s3dlio.Timeouts,
    "RetryPolicy(": s3dlio.RetryPolicy,
    "Client(": s3dlio.Client,
    'Client().get("u", ': s3dlio.Client().get,
    "Client().get_many(uris, ": s3dlio.Client().get_many,
    "Client().put_many(items, ": s3dlio.Client().put_many,
    'Client().writer("u", ': s3dlio.Client().writer,
}


class Server:
    """A language server as a child process."""

    def __init__(self) -> None:
        command = [str(Path(sys.executable).parent / "pyright-langserver"), "--stdio"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._asked = 0

    def ask(self, method: str, **params: Any) -> Any:
        self._asked += 1
        self._send({"id": self._asked, "method": method, "params": params})
        while True:
            message = self._receive()
            if "method" not in message and message.get("id") == self._asked:
                return message["result"]
            if "method" in message and "id" in message:  # it asks for settings, which all have defaults
                self._send({"id": message["id"], "result": [{} for _ in message["params"].get("items", [])] or None})

    def tell(self, method: str, **params: Any) -> None:
        self._send({"method": method, "params": params})

    def end(self) -> None:
        self.ask("shutdown")
        self.tell("exit")
        self._process.wait(20)

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._process.stdin.flush()

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        length = 0
        while line := self._process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if not length:
            raise RuntimeError("the language server ended")
        return json.loads(self._process.stdout.read(length))


def missing(server: Server) -> list[str]:
    """The options that are not offered, each with its call."""
    # Not a list or a number in the call itself: right behind one, pyright offers no names.
    given = "uris: list[str] = []; items: list[tuple[str, bytes]] = []; offset = 0"
    lines = [f"import s3dlio; {given}", *(f"s3dlio.{call})" for call in CALLS)]
    place = (ROOT / "tests" / "typing" / "typed_by_hand.py").as_uri()
    document = {"uri": place, "languageId": "python", "version": 1, "text": "\n".join(lines)}
    server.tell("textDocument/didOpen", textDocument=document)
    found: list[str] = []
    for number, (call, called) in enumerate(CALLS.items(), 1):
        position = {"line": number, "character": len(lines[number]) - 1}
        offered = server.ask("textDocument/completion", textDocument={"uri": place}, position=position)
        labels = {item["label"] for item in offered["items"]}
        for name, one in inspect.signature(called).parameters.items():
            if one.kind is inspect.Parameter.KEYWORD_ONLY and f"{name}=" not in labels:
                found.append(f"{call}{name}=")
    return found


if __name__ == "__main__":
    server = Server()
    folders = [{"uri": ROOT.as_uri(), "name": "s3dlio"}]
    server.ask("initialize", processId=None, rootUri=ROOT.as_uri(), workspaceFolders=folders, capabilities={})
    server.tell("initialized")
    lacking = missing(server)
    server.end()
    print("\n".join(lacking) or f"every option of {len(CALLS)} calls is offered")
    sys.exit(bool(lacking))
