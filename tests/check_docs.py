"""Checks the documentation: every Python block compiles, every relative link leads somewhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def problems(page: Path) -> list[str]:
    text, found = page.read_text(encoding="utf-8"), []
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        try:
            compile(block, str(page), "exec")
        except SyntaxError as error:
            found.append(f"{page.relative_to(ROOT)}: {error}")
    for link in re.findall(r"\]\(([^)#:]+)[^):]*\)", text):
        if not (page.parent / link).exists():
            found.append(f"{page.relative_to(ROOT)}: {link} leads nowhere")
    return found


if __name__ == "__main__":
    broken = [problem for page in PAGES for problem in problems(page)]
    print("\n".join(broken) or f"{len(PAGES)} pages: blocks compile, links resolve")
    sys.exit(bool(broken))
