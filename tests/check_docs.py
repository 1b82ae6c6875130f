"""Checks the documentation: every Python block runs, every relative link leads somewhere.

The blocks of one page run in order, in one namespace and in a process of their own, against the embedded server. The
environment names the endpoint and the keys, and the bucket is called ``bucket``. What cannot run is marked as text.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
SECONDS = 50
KEYS = {"AWS_ACCESS_KEY_ID": "docs", "AWS_SECRET_ACCESS_KEY": "docs", "AWS_REGION": "us-east-1"}


def blocks(page: Path) -> list[str]:
    """The Python blocks of a page, each behind as many empty lines as stand before it, so that tracebacks fit."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return ["\n" * text.count("\n", 0, match.start(1)) + match[1] for match in found]


def broken_links(page: Path) -> list[str]:
    links = re.findall(r"\]\(([^)#:]+)[^):]*\)", page.read_text(encoding="utf-8"))
    return [f"{page.relative_to(ROOT)}: {link} leads nowhere" for link in links if not (page.parent / link).exists()]


def run_blocks(page: Path) -> None:
    """In this process; what a block raises ends it."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        exec(compile(block, str(page), "exec"), namespace)


def failure(page: Path, environment: dict[str, str]) -> list[str]:
    """Runs the blocks in a process of their own; what went wrong there."""
    command = [sys.executable, "-W", "error", __file__, str(page)]
    try:
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return [f"{page.relative_to(ROOT)}: its blocks took longer than {SECONDS} s"]
    return [f"{page.relative_to(ROOT)}: {done.stderr.strip()}"] if done.returncode else []


def main() -> int:
    import boto3

    problems = [problem for page in PAGES for problem in broken_links(page)]
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "embedded_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        url = server.stdout.readline().strip()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3DLIO_"))}
        environment = {**kept, **KEYS, "AWS_ENDPOINT_URL_S3": url, "AWS_CONFIG_FILE": os.devnull}
        keys = {"aws_access_key_id": "docs", "aws_secret_access_key": "docs", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=url, **keys).create_bucket(Bucket="bucket")
        pages = [page for page in PAGES if blocks(page)]
        with ThreadPoolExecutor(2) as several:
            for found in several.map(lambda page: failure(page, environment), pages):
                problems += found
    finally:
        server.stdin.close()
        server.wait(20)
    count = sum(map(len, map(blocks, pages)))
    print("\n".join(problems) or f"{len(PAGES)} pages: links resolve, {count} blocks of {len(pages)} pages run")
    return 1 if problems or not count else 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run_blocks(Path(sys.argv[1]))
    else:
        sys.exit(main())
