"""Entry point of the console script `tspo-trl`.

A subcommand is a module with `add_parser(subparsers)`, which describes it, and `run(args)`, which does it, imports
what is heavy, and may return an exit status. A user's mistake ends in one line on standard error and exit status 2,
Ctrl-C in status 130.
"""

import argparse
import sys
from collections.abc import Sequence

from .. import __version__
from ..evaluation.openai_client import EndpointError
from ..search import JavaNotFoundError, SearchError
from . import analyze, compare, data, doctor, evaluate, index, quickstart, search, serve, view
from .errors import one_line

COMMANDS = (index, search, serve, data, evaluate, compare, analyze, view, doctor, quickstart)
_USER_ERRORS = (ValueError, OSError, ImportError, FloatingPointError, JavaNotFoundError, SearchError, EndpointError)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the console script.

    Args:
        argv (sequence of `str`, *optional*):
            Arguments without the program's name. Defaults to those of the process.

    Returns:
        `int`: the exit status: 0 or what the subcommand returned, 2 for a user's mistake, 130 after Ctrl-C.
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
