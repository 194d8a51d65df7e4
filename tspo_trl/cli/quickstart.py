"""`tspo-trl quickstart`: train a small search agent from scratch."""

import argparse
from dataclasses import fields
from typing import Any, get_args


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the return value of `argparse.ArgumentParser.add_subparsers`."""
    from ..quickstart.settings import Method, QuickstartSettings

    parser = subparsers.add_parser(
        "quickstart",
        help="train a small search agent from scratch on a CPU in minutes",
        description="Build a small world and its index, warm-start a small policy on imperfect demonstrations, train "
        "it with TSPO, and report exact match on held-out questions before and after. Run it again to resume an "
        "interrupted run.",
    )
    parser.add_argument(
        "--output", default=None, metavar="DIR", help="folder of the run (default: runs/quickstart-METHOD-SEED)"
    )
    for field in fields(QuickstartSettings):
        kind: dict[str, Any] = (
            {"choices": get_args(Method)} if field.name == "method" else {"type": int, "metavar": "N"}
        )
        text = f"{field.metadata['help']} (default: %(default)s)"
        parser.add_argument(f"--{field.name.replace('_', '-')}", default=field.default, help=text, **kind)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the quickstart. Raises as [`~tspo_trl.quickstart.run.run_quickstart`]."""
    import warnings
    from pathlib import Path

    from rich.console import Console

    from ..quickstart.run import run_quickstart
    from ..quickstart.settings import QuickstartSettings

    # A newcomer can do nothing about deprecations inside TRL and transformers.
    warnings.filterwarnings("ignore", category=FutureWarning)
    settings = QuickstartSettings(**{field.name: getattr(args, field.name) for field in fields(QuickstartSettings)})
    output = Path(args.output or f"runs/quickstart-{settings.method}-{settings.seed}")
    run_quickstart(output, settings, Console())
