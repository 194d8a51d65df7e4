"""The fenced code blocks of README.md, CONTRIBUTING.md and docs/, and why some of them are not run.

A block that cannot run here says so in the line above its fence, by one of a few reasons:

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
    """A fenced block: its language, its code without indentation, the line of the code, and why it is not run."""

    language: str
    code: str
    line: int
    reason: str | None = None


def pages():
    """All pages of the documentation."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def read_blocks(text):
    """The fenced blocks of a text in Markdown, in its order."""
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
    """Those blocks that are commands or code and do not say why they are not run."""
    return [block for block in blocks if block.language in ("bash", "python") and block.reason is None]
