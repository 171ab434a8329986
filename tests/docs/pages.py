"""Reading and running the code blocks of documentation pages."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
EXAMPLES = sorted((ROOT / "examples").glob("*/README.md"))
"""The page of each example; `test_examples.py` runs their commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block. `line` is where its text starts in the page, from 1."""

    language: str
    text: str
    line: int


def blocks(page: Path, language: str = "") -> list[Block]:
    """Return the fenced blocks of a page in order, of one language or all."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        line = text.count("\n", 0, match.start(2)) + 1
        found.append(Block(language=match[1], text=match[2], line=line))
    return [block for block in found if language in ("", block.language)]


def commands(block: Block) -> list[list[str]]:
    """Return the words of each command of a block, without comments."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def normal(text: str, folder: Path) -> str:
    """Return text without the test's folder, and with every number of four digits or more as `#`.

    Sizes in messages change whenever a kernel does; that they are sizes does not.
    """
    for place in {str(folder), str(folder.resolve()), folder.resolve().as_posix()}:
        text = text.replace(f"{place}/", "").replace(place, ".")
    return re.sub(r"\d[\d,]{3,}", "#", text)


def like(wanted: str) -> re.Pattern[str]:
    """Return the pattern of a quoted text in which `...` stands for anything."""
    return re.compile(".*?".join(map(re.escape, wanted.strip().split("..."))), re.DOTALL)
