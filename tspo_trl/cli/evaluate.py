"""`tspo-trl evaluate`: answer question sets with greedy rollouts, and write the table."""

import argparse
from typing import Any

from .arguments import add_retriever_arguments, retriever_arguments

_BUDGETS = {
    "max-turns": (4, "turns in which the model may search"),
    "max-turn-length": (500, "tokens that the model may generate in a turn"),
    "max-feedback-length": (500, "tokens of a feedback"),
    "max-completion-length": (4096, "tokens of all turns and feedbacks of a rollout"),
}


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the return value of `argparse.ArgumentParser.add_subparsers`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="answer question sets with greedy rollouts, and write the table",
        description="Answer every question with one greedy rollout, and write exact match, F1, recall, searches and "
        "near misses of each dataset, with intervals. Run again with the same settings, it asks only what has no "
        "answer yet. On several GPUs: accelerate launch -m tspo_trl.cli.main evaluate ...",
    )
    parser.add_argument(
        "--data", required=True, nargs="+", metavar="FILE", help="questions: JSON lines or parquet, a file a dataset"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the evaluation")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N questions of each file")
    parser.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="rollouts that advance together (default: %(default)s)"
    )
    _add_policy_arguments(parser.add_argument_group("policy"))
    _add_rollout_arguments(parser.add_argument_group("rollouts"))
    add_retriever_arguments(parser)
    parser.set_defaults(run=run)


def _add_policy_arguments(group: Any) -> None:
    group.add_argument("--model", required=True, help="folder or hub name; with --base-url its name at the endpoint")
    group.add_argument("--revision", help="branch, tag or commit of the model on the hub")
    group.add_argument("--tokenizer", metavar="MODEL", help="folder or hub name (default: that of the model)")
    group.add_argument(
        "--backend", choices=("transformers", "vllm"), help="what generates here (default: transformers)"
    )
    group.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="of the weights (default: the checkpoint's)",
    )
    group.add_argument("--tensor-parallel-size", type=int, default=1, metavar="N", help="GPUs of one vLLM engine")
    group.add_argument(
        "--gpu-memory-utilization",
        type=float,
        default=0.9,
        metavar="SHARE",
        help="of a GPU's memory, which vLLM takes (default: %(default)s)",
    )
    group.add_argument(
        "--base-url", metavar="URL", help="ask an OpenAI-compatible endpoint instead; OPENAI_API_KEY is its key"
    )
    group.add_argument(
        "--api",
        choices=("completions", "chat"),
        default="completions",
        help="of the endpoint; chat, a message a turn, is for those that have no completions (default: %(default)s)",
    )
    group.add_argument(
        "--max-concurrency",
        type=int,
        default=32,
        metavar="N",
        help="requests to the endpoint at a time (default: %(default)s)",
    )


def _add_rollout_arguments(group: Any) -> None:
    group.add_argument(
        "--protocol",
        choices=("tags", "chat"),
        default="tags",
        help="Search-R1's tags, or tool calls in the model's chat template (default: %(default)s)",
    )
    group.add_argument(
        "--chat-template-kwargs",
        type=_json_object,
        metavar="JSON",
        help="variables of the chat template, such as '{\"enable_thinking\": false}'",
    )
    for name, (default, text) in _BUDGETS.items():
        group.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: %(default)s)")
    group.add_argument(
        "--max-context-length",
        type=int,
        metavar="N",
        help="tokens of prompt and rollout (default: the model's)",
    )
    group.add_argument("--top-k", type=int, default=3, metavar="N", help="passages per search (default: %(default)s)")
    group.add_argument(
        "--match",
        choices=("token", "substring"),
        default="token",
        help="how a gold answer is looked for in evidence (default: %(default)s)",
    )


def _json_object(text: str) -> dict[str, Any]:
    import json

    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return value


def run(args: argparse.Namespace) -> int:
    """
    Evaluate and print the table.

    Args:
        args (`argparse.Namespace`):
            As parsed.

    Returns:
        `int`: the exit status, 1 if questions have no answer because a search or the endpoint failed.

    Raises:
        As [`~tspo_trl.evaluation.run.run_evaluation`] and [`~tspo_trl.evaluation.arguments.open_agent`].
    """
    from pathlib import Path

    from rich.console import Console

    from ..evaluation.arguments import AgentArguments, open_agent
    from ..evaluation.folder import check_folder
    from ..evaluation.processes import process_state
    from ..evaluation.questions import load_question_files
    from ..evaluation.report import print_report
    from ..evaluation.run import check_evaluation, evaluation_settings, run_evaluation
    from ..search.arguments import check_arguments, open_retriever
    from ..search.identity import identity_of

    # All that can be told before a model loads.
    agent_arguments = AgentArguments(
        model=args.model,
        backend=args.backend or ("openai" if args.base_url else "transformers"),
        search_top_k=args.top_k,
        **{name: getattr(args, name) for name in _SAME_NAMES},
    )
    check_arguments(retriever_arguments(args))
    questions = load_question_files(args.data, limit=args.limit)
    check_evaluation(questions, args.batch_size)
    retriever = open_retriever(retriever_arguments(args))
    retriever.search(questions["question"][:1], args.top_k)  # raises where nothing can be searched
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


_SAME_NAMES = (
    *("revision", "tokenizer", "protocol", "dtype", "base_url", "api", "max_concurrency", "tensor_parallel_size"),
    *("gpu_memory_utilization", "chat_template_kwargs", "max_context_length"),
    *(name.replace("-", "_") for name in _BUDGETS),
)
