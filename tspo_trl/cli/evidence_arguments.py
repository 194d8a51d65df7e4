"""Arguments of the subcommands that look at recorded trajectories: what counts as correct and as evidence."""

import argparse


def add_evidence_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add `--success-threshold`, `--match` and `--match-boolean-answers`.

    Args:
        parser (`argparse.ArgumentParser`):
            Parser of the subcommand.
    """
    parser.add_argument(
        "--success-threshold",
        type=float,
        default=1.0,
        metavar="X",
        help="least outcome of a correct rollout (default: 1.0)",
    )
    parser.add_argument(
        "--match",
        choices=("token", "substring"),
        default="token",
        help="how a gold answer is looked for in the evidence (default: token)",
    )
    parser.add_argument(
        "--match-boolean-answers", action="store_true", help="let gold answers that are only yes or no match, too"
    )
