"""MkDocs hook that replaces `<!-- help of every command -->` in a page by the `--help` of every subcommand."""

import io
import os
from contextlib import redirect_stdout, suppress
from typing import Any
from unittest.mock import patch

from tspo_trl.cli.main import COMMANDS, main

MARK = "<!-- help of every command -->"
SUBCOMMANDS = {"data": ("prepare", "verify")}


def help_text(*command: str) -> str:
    """
    Return the `--help` of a command.

    Args:
        *command (`str`):
            Subcommand and, if it has subcommands, one of them. Nothing for the console script itself.

    Returns:
        `str`
    """
    printed = io.StringIO()
    with patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1"}), redirect_stdout(printed), suppress(SystemExit):
        main([*command, "--help"])
    return printed.getvalue()


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Replace the mark in a page by one section per command."""
    if MARK not in markdown:
        return markdown
    sections = []
    for name in (module.__name__.rpartition(".")[2] for module in COMMANDS):
        sections.append(_section(2, name))
        sections += [_section(3, name, subcommand) for subcommand in SUBCOMMANDS.get(name, ())]
    return markdown.replace(MARK, "\n\n".join(sections))


def _section(level: int, *command: str) -> str:
    return f"{'#' * level} `tspo-trl {' '.join(command)}`\n\n```text\n{help_text(*command).rstrip()}\n```"
