"""`tspo-trl evaluate`: answer question sets with greedy rollouts, and write the report."""

import argparse
from dataclasses import MISSING, fields
from typing import Any, Literal, get_args, get_origin

from ..evaluation.arguments import AgentArguments
from .arguments import add_retriever_arguments, retriever_arguments

_FLAGS = {"search_top_k": "--top-k"}
_METAVARS = {"tokenizer": "MODEL", "chat_template_kwargs": "JSON", "base_url": "URL"}


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the return value of `argparse.ArgumentParser.add_subparsers`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="answer question sets with greedy rollouts, and write the table",
        description="Answer every question with one greedy rollout. Write exact match, F1, recall, searches and near "
        "misses of each dataset, with intervals. A second run with the same settings asks only unanswered questions. "
        "On several GPUs: accelerate launch -m tspo_trl.cli.main evaluate ...",
    )
    parser.add_argument(
        "--data", required=True, nargs="+", metavar="FILE", help="JSON lines or parquet of questions, one per dataset"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the evaluation")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N questions of each file")
    parser.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="rollouts that advance together (default: %(default)s)"
    )
    parser.add_argument(
        "--match",
        choices=("token", "substring"),
        default="token",
        help="rule for gold answers in evidence (default: %(default)s)",
    )
    _add_agent_arguments(parser.add_argument_group("policy and rollouts"))
    add_retriever_arguments(parser)
    parser.set_defaults(run=run)


def _add_agent_arguments(group: Any) -> None:
    """Add an option for each field of [`~tspo_trl.evaluation.arguments.AgentArguments`]."""
    for field in fields(AgentArguments):
        options: dict[str, Any] = {"help": field.metadata["help"], "metavar": _METAVARS.get(field.name)}
        if field.default is MISSING:
            options["required"] = True
        elif field.default is not None:
            options |= {"default": field.default, "help": f"{options['help']} (default: %(default)s)"}
        if get_origin(field.type) is Literal:
            options["choices"] = get_args(field.type)
        for kind in (int, float):
            if kind in (field.type, *get_args(field.type)):
                options |= {"type": kind, "metavar": "N"}
        if field.name == "chat_template_kwargs":
            options["type"] = _json_object
        if field.name == "backend":  # `--base-url` selects the backend "openai"
            options |= {
                "choices": ("transformers", "vllm"),
                "default": None,
                "help": "local backend (default: transformers)",
            }
        group.add_argument(_FLAGS.get(field.name) or f"--{field.name.replace('_', '-')}", dest=field.name, **options)


def _json_object(text: str) -> dict[str, Any]:
    import json

    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object")
    return value


def run(args: argparse.Namespace) -> int:
    """
    Evaluate and print the report.

    Args:
        args (`argparse.Namespace`):
            Parsed arguments.

    Returns:
        `int`: exit status, 1 if questions have no answer because a search or the endpoint failed.

    Raises:
        As [`~tspo_trl.evaluation.run.run_evaluation`] and [`~tspo_trl.evaluation.backends.open_agent`].
    """
    from pathlib import Path

    from rich.console import Console

    from ..evaluation.backends import open_agent
    from ..evaluation.folder import check_folder
    from ..evaluation.processes import process_state
    from ..evaluation.questions import load_question_files
    from ..evaluation.report import print_report
    from ..evaluation.run import check_evaluation, evaluation_settings, run_evaluation
    from ..search.arguments import check_arguments, open_retriever
    from ..search.identity import identity_of

    # All checks that need no model come first.
    backend = args.backend or ("openai" if args.base_url else "transformers")
    options = {field.name: getattr(args, field.name) for field in fields(AgentArguments)}
    agent_arguments = AgentArguments(**{**options, "backend": backend})
    check_arguments(retriever_arguments(args))
    questions = load_question_files(args.data, limit=args.limit)
    check_evaluation(questions, args.batch_size)
    retriever = open_retriever(retriever_arguments(args))
    retriever.search(questions["question"][:1], agent_arguments.search_top_k)  # raises if the search does not work
    output, is_main_process = Path(args.output), process_state().is_main_process
    settings = {**agent_arguments.settings, "retriever": identity_of(retriever).to_dict()}
    if is_main_process:
        check_folder(output, evaluation_settings(questions, settings, args.match), "evaluation")

    agent = open_agent(agent_arguments, retriever)
    report = run_evaluation(questions, agent, output, settings, batch_size=args.batch_size, match=args.match)
    if is_main_process:
        print_report(Console(), report)
        print(f"{output}/report.json, report.md, report.csv, trajectories/")
    return 1 if report["missing"] else 0
