"""`tspo-trl analyze`: count near misses, first occurrences and learning signal in trajectory files."""

import argparse
import json
from pathlib import Path
from typing import Any

from .arguments import add_evidence_arguments


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the return value of `argparse.ArgumentParser.add_subparsers`."""
    parser = subparsers.add_parser(
        "analyze",
        help="count near misses, first occurrences and learning signal in trajectory files",
        description="Analyze trajectory files of a training run or an evaluation, or JSON lines of the form "
        '{"question", "golden_answers", "prediction", "em", "turns": [{"text", "feedback"}]}.',
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="trajectory file, or the folder of a run")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--plots", metavar="DIR", help="folder for plots as PNG files")
    parser.add_argument("--overwrite", action="store_true", help="replace plots that exist in DIR")
    add_evidence_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """
    Analyze the files, print the result and draw the plots. Raises as [`~tspo_trl.analysis.analyze`].

    Raises:
        `FileExistsError`: If a plot exists and may not be replaced.
        `ValueError`: If one option does not go with another.
    """
    from rich.console import Console

    from ..analysis import analyze
    from ..analysis.report import print_report

    if args.overwrite and args.plots is None:
        raise ValueError("--overwrite needs --plots. Add --plots or remove --overwrite.")
    if args.plots is not None:
        from ..analysis.plots import check_folder, save_plots

        check_folder(Path(args.plots), overwrite=args.overwrite)
    analysis = analyze(
        args.files,
        success_threshold=args.success_threshold,
        match=args.match,
        match_boolean_answers=args.match_boolean_answers,
    )
    plots = [] if args.plots is None else save_plots(analysis, Path(args.plots))
    if args.json:
        print(json.dumps(analysis, indent=2, allow_nan=False))
        return
    print_report(Console(markup=False, highlight=False, emoji=False), analysis)
    for path in plots:
        print(f"Wrote {path}")
