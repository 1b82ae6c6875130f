"""Makes ``docs/reference/cli.md``: the help of each command, and a session against MinIO with what it really printed.

``python tests/support/cli_page.py`` starts a MinIO and writes the page; a test compares it with what is committed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from servers import KEYS, REGION, ROOT, Restartable, minio_binary
from shell import command

from s3dlio.cli.arguments import COMMANDS, build

PAGE = ROOT / "docs" / "reference" / "cli.md"
WIDTH = "100"
HEAD = """# The command `s3dlio`

This page is made by `make cli-page` from the command itself; [how to use it](../how-to/use-the-command.md) explains.
The session ran against MinIO; times, request ids and the like were replaced. A number in brackets is an exit code other
than 0.

## A session

"""
# The commands of the session, by their titles.
SESSION: dict[str, list[str]] = {
    "Buckets and streams": [
        "s3dlio mb s3://lake",
        "printf 'hello, lake' | s3dlio pipe s3://lake/greeting.txt --content-type text/plain --metadata made-by:me",
        "s3dlio cat s3://lake/greeting.txt --range 0-4 && echo",
        "s3dlio stat s3://lake/greeting.txt",
    ],
    "Files and folders": [
        "mkdir -p run/logs && seq 1000 > run/numbers.txt && seq 10 > run/logs/a.log && seq 20 > run/logs/b.log",
        "s3dlio cp -r run s3://lake/run/ --dry-run",
        "s3dlio cp -r run s3://lake/run/",
        "s3dlio cp s3://lake/run/logs/a.log - | tail -n 1",
        "s3dlio cp -r s3://lake/run/ copy --exclude '*.log'",
        "s3dlio cp -j 1 's3://lake/run/**.log' s3://lake/logs/ --json",
        "s3dlio sync run s3://lake/run/",
        "rm run/logs/b.log && s3dlio sync run s3://lake/run/ --delete",
    ],
    "What is there": [
        "s3dlio ls s3://lake",
        "s3dlio ls -r -1 s3://lake/run/",
        "s3dlio ls -r --json s3://lake/logs/",
        "s3dlio versions s3://lake/greeting.txt",
        "s3dlio du -h -d 1 s3://lake",
        "s3dlio ls s3://lake/ru",
        "s3dlio ls s3://lake/run",
        "s3dlio ls s3://no-such-lake",
        "s3dlio stat --json s3://lake/none",
    ],
    "Many commands": [
        "printf '%s\\n' 'mv s3://lake/greeting.txt s3://lake/moved.txt' 'cp s3://lake/none x' > commands",
        "s3dlio run -j 1 commands",
    ],
    "Deleting": [
        "s3dlio rm s3://lake/run",
        "s3dlio rm s3://lake/run/",
        "s3dlio rm -r s3://lake/run/ --exclude numbers.txt",
        "s3dlio rb s3://lake",
        "s3dlio rb --force s3://lake",
        "s3dlio uploads s3://lake --abort --older-than 7d",
    ],
    "Checks": [
        "s3dlio doctor s3://lake/scratch/ | grep -vE '^ok +(versions|certificates|machine|huge|open|copy)'",
        "s3dlio presign s3://lake/moved.txt --expires 15m",
        "s3dlio ls s3://lake --profile nobody",
        "s3dlio ls --frob",
        "s3dlio rb --force --yes s3://lake",
    ],
}
REPLACED = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2026-01-02T03:04:05Z"),
    (r"request id [0-9A-F]{16}", "request id 18A5C0FFEE18A5C0"),
    (r'("request_id": )"[0-9A-F]{16}"', r'\1"18A5C0FFEE18A5C0"'),
    (r"in \d+\.\d s", "in 0.1 s"),
    (r"in \d+ ms", "in 2 ms"),
    (r"within \d+ s of", "within 1 s of"),
    (r'"seconds": [\d.]+', '"seconds": 0.1'),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:9000"),
    (r"X-Amz-Date=\w+", "X-Amz-Date=20260102T030405Z"),
    (r"X-Amz-Signature=\w+", "X-Amz-Signature=..."),
    (r"%2F\d{8}%2F", "%2F20260102%2F"),
]


def page(session: str) -> str:
    """The whole page."""
    return HEAD + session + helps()


def helps() -> str:
    """The help of the program and of each command."""
    parts = ["## Help", _console([("s3dlio --help", build().format_help())])]
    for name, (_, summary, _) in COMMANDS.items():
        parts.append(f"### s3dlio {name}\n\nTo {summary}.")
        parts.append(_console([(f"s3dlio {name} --help", build().commands[name].format_help())]))
    return "\n\n".join(parts) + "\n"


def session(endpoint_url: str) -> str:
    """Runs the session; its commands and what they printed."""
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "bin").mkdir()
        called = " ".join(f"'{one}'" for one in command())
        (folder / "bin" / "s3dlio").write_text(f'#!/bin/sh\nexec {called} "$@"\n', encoding="utf-8")
        (folder / "bin" / "s3dlio").chmod(0o755)
        (folder / "work").mkdir()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3DLIO_"))},
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "COLUMNS": WIDTH, "AWS_ENDPOINT_URL": endpoint_url,
            "AWS_ACCESS_KEY_ID": KEYS[0], "AWS_SECRET_ACCESS_KEY": KEYS[1], "AWS_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }  # fmt: skip
        parts = []
        for title, commands in SESSION.items():
            shown = [(one, _printed(one, folder / "work", environment)) for one in commands]
            parts.append(f"### {title}\n\n{_console(shown)}\n\n")
        return "".join(parts)
    finally:
        shutil.rmtree(folder)


def _printed(line: str, folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
    )  # fmt: skip
    text = done.stdout + (f"[{done.returncode}]\n" if done.returncode else "")
    for pattern, replacement in REPLACED:
        text = re.sub(pattern, replacement, text)
    return text


def _console(shown: list[tuple[str, str]]) -> str:
    return "```text\n" + "".join(f"$ {line}\n{text}" for line, text in shown) + "```"


def main() -> int:
    binary = minio_binary()
    if binary is None:
        print("MinIO was not found: `make minio` builds it")
        return 1
    os.environ["COLUMNS"] = WIDTH
    folder = tempfile.mkdtemp()
    server = Restartable(binary, folder)
    try:
        PAGE.write_text(page(session(f"http://127.0.0.1:{server.port}")), encoding="utf-8")
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{PAGE.relative_to(ROOT)}: {len(COMMANDS)} commands")
    return 0


if __name__ == "__main__":
    sys.exit(main())
