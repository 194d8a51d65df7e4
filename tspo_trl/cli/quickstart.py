"""`tspo-trl quickstart`: train a small search agent from nothing, and see it get better."""

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the return value of `argparse.ArgumentParser.add_subparsers`."""
    from ..quickstart.settings import QuickstartSettings

    parser = subparsers.add_parser(
        "quickstart",
        help="train a small search agent from nothing, on a CPU, in minutes",
        description="Build a small world and its index, warm-start a small policy on imperfect demonstrations, train "
        "it with TSPO, and report exact match on held-out questions before and after. Run again, it goes on where it "
        "was left.",
    )
    defaults = QuickstartSettings()
    parser.add_argument(
        "--output", default=None, metavar="DIR", help="folder of the run (default: runs/quickstart-METHOD-SEED)"
    )
    parser.add_argument("--method", choices=("tspo", "grpo"), default=defaults.method, help="(default: %(default)s)")
    options = {
        "seed": "seed of everything random",
        "steps": "training steps",
        "warm-start-steps": "supervised steps before training",
        "groups": "questions per training step",
        "num-generations": "rollouts per question",
        "num-train-questions": "questions to train on",
        "num-test-questions": "held-out questions",
        "num-people": "people in the world",
        "num-places": "places in the world",
        "num-works": "works in the world",
    }
    for name, text in options.items():
        default = getattr(defaults, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: %(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """
    Run the quickstart.

    Args:
        args (`argparse.Namespace`):
            As parsed.

    Raises:
        As [`~tspo_trl.quickstart.run.run_quickstart`].
    """
    import warnings
    from dataclasses import fields
    from pathlib import Path

    from rich.console import Console

    from ..quickstart.run import run_quickstart
    from ..quickstart.settings import QuickstartSettings

    # Deprecations inside TRL and transformers are nothing that a newcomer could act on.
    warnings.filterwarnings("ignore", category=FutureWarning)
    settings = QuickstartSettings(**{field.name: getattr(args, field.name) for field in fields(QuickstartSettings)})
    output = Path(args.output or f"runs/quickstart-{settings.method}-{settings.seed}")
    run_quickstart(output, settings, Console())
