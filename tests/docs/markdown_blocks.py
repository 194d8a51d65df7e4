"""Reads the fenced code blocks of README.md, CONTRIBUTING.md and docs/.

A block that the tests cannot run has one of the `REASONS` in the line above its fence:

    <!-- not run: needs a GPU -->
"""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
REASONS = ("needs a GPU", "needs the network", "needs a cluster", "sets up the environment", "takes long")

_FENCE = re.compile(r" *(?P<fence>`{3,}|~{3,}) *(?P<language>[\w+-]*)")
_NOT_RUN = re.compile(r" *<!-- not run: (?P<reason>.*) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: language, code without indentation, line of the code, and the reason not to run it."""

    language: str
    code: str
    line: int
    reason: str | None = None


def pages():
    """Return all pages of the documentation."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def read_blocks(text):
    """Return the fenced blocks of a Markdown text, in order."""
    blocks = []
    lines = iter(enumerate(text.splitlines(), start=1))
    above = ""
    for number, line in lines:
        if fence := _FENCE.match(line):
            end = re.compile(rf" *{re.escape(fence['fence'])} *")
            code = []
            for _, inside in lines:
                if end.fullmatch(inside):
                    break
                code.append(inside)
            reason = _NOT_RUN.fullmatch(above)
            code = textwrap.dedent("\n".join(code) + "\n")
            blocks.append(Block(fence["language"], code, number + 1, reason and reason["reason"]))
        above = line
    return blocks


def runnable(blocks):
    """Return the commands and code without a reason not to run."""
    return [block for block in blocks if block.language in ("bash", "python") and block.reason is None]
