"""Writers in processes of their own: one that may be killed at any moment, and one that forks in the middle.

``programs.py write|fork SETTINGS URI NUMBER SIZE [CHILD_URI CHILD_NUMBER CHILD_SIZE]``. Each prints a line when it
starts and one for every object that `close()` reported; the library's warnings go to standard error.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading

from content import Content, connect

import s3dlio

PART = 5 << 20
STEP = 1 << 20


def report(uri: str, info: s3dlio.UploadInfo) -> None:
    """In one write, which no kill tears apart."""
    os.write(1, f"closed {uri} {info.version_id}\n".encode())


def feed(writer: s3dlio.MultipartUploadWriter, data: bytes, start: int, end: int) -> None:
    for offset in range(start, end, STEP):
        writer.write(data[offset : min(offset + STEP, end)])


def write(client: s3dlio.Client, uri: str, content: Content) -> None:
    """Goes on with the upload that an earlier process left, or begins one."""
    left = client.list_uploads(uri)
    if left:
        writer = client.resume(uri, left[0].upload_id, part_size=PART, max_in_flight=2)
    else:
        writer = client.writer(uri, part_size=PART, max_in_flight=2)
    os.write(1, f"started {writer.resume_offset}\n".encode())
    feed(writer, content.data(), writer.resume_offset, content.size)
    report(uri, writer.close())


def fork(client: s3dlio.Client, uri: str, content: Content, other: str, of_child: Content) -> None:
    """The child writes an object of its own with its parent's client, and cannot touch its parent's writer."""
    os.write(1, b"started 0\n")
    data = content.data()
    writer = client.writer(uri, part_size=PART, max_in_flight=3)
    feed(writer, data, 0, content.size // 2)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            try:
                writer.write(b"from the child")
            except s3dlio.ForkedError:
                with client.writer(other, part_size=PART) as own:
                    own.write(of_child.data())
                report(other, own.close())
                status = 0
        finally:
            os._exit(status)
    waiting = threading.Thread(target=feed, args=(writer, data, content.size // 2, content.size))
    waiting.start()
    waiting.join()
    report(uri, writer.close())
    _, ended = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(ended))


def main() -> None:
    program, settings, uri, number, size, *rest = sys.argv[1:]
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    client, content = connect(json.loads(settings)), Content(int(number), int(size))
    if program == "write":
        write(client, uri, content)
    else:
        fork(client, uri, content, rest[0], Content(int(rest[1]), int(rest[2])))


if __name__ == "__main__":
    main()
