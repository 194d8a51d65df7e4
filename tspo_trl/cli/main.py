"""Entry point of the console script `tspo-trl`.

A subcommand is a module with two functions. `add_parser(subparsers)` describes its arguments. `run(args)` does the
work, imports what is heavy, and may return an exit status.
"""

import argparse
import sys
from collections.abc import Sequence

from .. import __version__
from ..evaluation.openai_client import EndpointError
from ..search import JavaNotFoundError, SearchError
from . import analyze, compare, data, doctor, evaluate, index, one_line, quickstart, search, serve, view

COMMANDS = (index, search, serve, data, evaluate, compare, analyze, view, doctor, quickstart)
_USER_ERRORS = (ValueError, OSError, ImportError, FloatingPointError, JavaNotFoundError, SearchError, EndpointError)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the console script. A user's mistake is printed as one line on standard error.

    Args:
        argv (sequence of `str`, *optional*):
            Arguments without the name of the program. Defaults to those of the process.

    Returns:
        `int`: the exit status. It is 2 after a user's mistake, 130 after Ctrl-C, and otherwise the return value of the
            subcommand or 0.
    """
    args = _parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except _USER_ERRORS as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tspo-trl", description="Train search agents with TSPO, turn-level search policy optimization, on TRL."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
