"""`tspo-trl compare`: the difference between two evaluations on the same questions, and whether it is noise."""

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the return value of `argparse.ArgumentParser.add_subparsers`."""
    parser = subparsers.add_parser(
        "compare",
        help="compare two evaluations on the same questions",
        description="Differences B - A of every score, question by question, with bootstrap intervals and p-values.",
    )
    parser.add_argument("a", metavar="A", help="folder of an evaluation or a trajectory file: the baseline")
    parser.add_argument("b", metavar="B", help="folder or trajectory file to compare with A")
    parser.add_argument(
        "--allow-missing", action="store_true", help="compare only the common questions, if they differ"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """
    Compare and print.

    Args:
        args (`argparse.Namespace`):
            Parsed arguments.

    Raises:
        As [`~tspo_trl.evaluation.compare.compare`].
    """
    import json

    from rich.console import Console

    from ..evaluation.compare import compare, print_comparison

    comparison = compare(args.a, args.b, allow_missing=args.allow_missing)
    if args.json:
        print(json.dumps(comparison, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print_comparison(Console(), comparison)
