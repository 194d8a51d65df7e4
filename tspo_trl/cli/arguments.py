"""Arguments that several subcommands share."""

import argparse
from dataclasses import fields

from ..search.arguments import RetrieverArguments


def add_retriever_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add an option for each field of [`~tspo_trl.search.arguments.RetrieverArguments`].

    Args:
        parser (`argparse.ArgumentParser`):
            Parser of the subcommand.
    """
    group = parser.add_argument_group("what to search")
    for field in fields(RetrieverArguments):
        flag = f"--{field.name.replace('_', '-')}"
        if field.type is bool:
            group.add_argument(flag, action="store_true", **field.metadata)
        else:
            # Not `nargs="+"`, which would take a query after the option for another URL.
            action = "append" if field.name == "retriever_url" else "store"
            group.add_argument(flag, action=action, default=field.default, **field.metadata)


def retriever_arguments(args: argparse.Namespace) -> RetrieverArguments:
    """Return the values of the options that [`add_retriever_arguments`] added."""
    return RetrieverArguments(**{field.name: getattr(args, field.name) for field in fields(RetrieverArguments)})


def add_evidence_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options that define a correct rollout and a gold answer in the evidence.

    Args:
        parser (`argparse.ArgumentParser`):
            Parser of the subcommand.
    """
    parser.add_argument(
        "--success-threshold",
        type=float,
        default=1.0,
        metavar="X",
        help="lowest success reward of a correct rollout (default: %(default)s)",
    )
    parser.add_argument(
        "--match",
        choices=("token", "substring"),
        default="token",
        help="how gold answers are matched against the evidence (default: %(default)s)",
    )
    parser.add_argument(
        "--match-boolean-answers", action="store_true", help="also match gold answers that are only yes or no"
    )
