"""The checks of a dry run. Each is a function that adds what it found to a [`Report`]."""

from collections.abc import Callable
from dataclasses import replace

from datasets import Dataset
from trl import ModelConfig

from ..data.questions import load_questions
from ..search.arguments import RetrieverArguments, open_retriever
from ..search.base import Retriever
from ..trainer.config import TSPOConfig
from ..trainer.records import gold_in_question
from ..trainer.validation import check_dataset, check_generation
from .arguments import DryRunArguments
from .batch import BatchPlan, plan_batches
from .config_checks import check_config, warn_about_this_machine
from .launch import Launch, deepspeed_strategy
from .model_checks import MakeProtocol, check_model
from .report import Report


def check_run(
    read_launch: Callable[[], Launch],
    read_config: Callable[[Launch], TSPOConfig],
    make_protocol: MakeProtocol,
    *,
    train_file: str,
    eval_file: str | None,
    retriever_args: RetrieverArguments,
    model_args: ModelConfig,
    dry_run_args: DryRunArguments,
) -> Report:
    """
    Check everything that a run needs, without loading a model.

    Args:
        read_launch (`Callable`):
            Says on how many processes the run is to be; what it raises is a problem of the run.
        read_config (`Callable`):
            Makes the configuration for so many processes; what it raises is a problem, too.
        make_protocol (`Callable`):
            Makes the protocol that model and search speak, given tokenizer and configuration.
        train_file (`str`):
            Questions to train on, as [`~tspo_trl.data.questions.load_questions`] reads them.
        eval_file (`str`, *optional*):
            Questions to evaluate on.
        retriever_args ([`~tspo_trl.search.arguments.RetrieverArguments`]):
            What is to be searched.
        model_args ([`~trl.ModelConfig`]):
            The model and its adapters.
        dry_run_args ([`DryRunArguments`]):
            The machine that the run is planned for.

    Returns:
        [`Report`]
    """
    report = Report()
    launch = args = retriever = None
    datasets: dict[str, Dataset] = {}
    with report.section("Launch"):
        launch = read_launch()
        report.add("Launch", _describe_launch(launch))
    if launch is not None:
        with report.section("Configuration"):
            args = read_config(launch)
            report.add("Configuration", *_describe_config(args))
    if launch is not None and args is not None:
        with report.section("Launch"):
            launch = _with_deepspeed(report, args, launch)
        check_config(report, args, model_args, eval_file)
    for name, path in (("train_dataset", train_file), ("eval_dataset", eval_file)):
        if path is not None:
            with report.section("Dataset"):
                datasets[name] = load_questions(path)
                report.add("Dataset", *_describe_dataset(datasets[name], name, path, args))
    with report.section("Retriever"):
        retriever = open_retriever(retriever_args)
        report.add("Retriever", *_try_retriever(retriever, datasets, args))
    if launch is not None and args is not None:
        if retriever is not None:
            with report.section("Configuration"):
                check_generation(args, retriever, True, {})
        if "train_dataset" in datasets:
            with report.section("Batches"):
                plan = plan_batches(args, len(datasets["train_dataset"]))
                report.add("Batches", *_describe_batches(plan, args))
                _check_batches(plan, args, len(datasets["train_dataset"]))
        check_model(report, args, launch, make_protocol, model_args, dry_run_args, datasets, retriever)
    warn_about_this_machine(report, args, launch, model_args)
    return report


def _describe_launch(launch: Launch) -> str:
    processes = "1 process" if launch.num_processes == 1 else f"{launch.num_processes} processes"
    return f"{processes}, {launch.strategy}"


def _with_deepspeed(report: Report, args: TSPOConfig, launch: Launch) -> Launch:
    """The configuration's own `deepspeed` wins over the launcher."""
    if args.deepspeed is None:
        return launch
    launch = replace(launch, strategy=deepspeed_strategy(args.deepspeed))
    report.add("Launch", f"with `deepspeed`: {_describe_launch(launch)}")
    return launch


def _describe_config(args: TSPOConfig) -> list[str]:
    method = "TSPO" if args.tspo_enabled else "GRPO"
    turns = f"{args.max_turns} turns of {args.max_turn_length} tokens, {args.search_top_k} passages a search"
    return [f"{method}: {turns}, {args.max_completion_length} tokens a rollout"]


def _describe_dataset(dataset: Dataset, name: str, path: str, args: TSPOConfig | None) -> list[str]:
    check_dataset(dataset, name, needs_question=True, needs_golden_answers=True)
    lines = [f"{path}: {len(dataset):,} questions, columns {', '.join(dataset.column_names)}"]
    if args is not None:
        share = sum(gold_in_question(row, args) for row in dataset) / len(dataset)
        lines.append(f"{share:.1%} of its questions hold a gold answer themselves (`skip_gold_in_question`)")
    return lines


def _try_retriever(retriever: Retriever, datasets: dict[str, Dataset], args: TSPOConfig | None) -> list[str]:
    """Search the first question."""
    query = next((dataset["question"][0] for dataset in datasets.values()), "capital of France")
    passages = retriever.search([query], args.search_top_k if args else 1)[0]
    if passages is None:
        raise ValueError(f"the search for {query!r} failed. Look at the retriever's own messages.")
    found = f"first of {len(passages)}: {passages[0].title}" if passages else "nothing"
    return [f"{type(retriever).__name__} answers", f"{query!r} finds {found}"]


def _describe_batches(plan: BatchPlan, args: TSPOConfig) -> list[str]:
    return [
        f"a generation makes {plan.completions_per_generation:,} rollouts: {plan.questions_per_generation:,} "
        f"questions times {plan.group_size} (`per_device_train_batch_size` {args.per_device_train_batch_size} x "
        f"{plan.num_processes} processes x `steps_per_generation` {args.steps_per_generation})",
        f"an optimizer step learns from {plan.completions_per_step:,} rollouts, {plan.questions_per_step:g} "
        f"questions' worth; there are {plan.steps_per_generation} steps per generation",
        f"{plan.steps:,} optimizer steps are {plan.generations:,} generations, {plan.rollouts:,} rollouts and "
        f"{plan.epochs:.2f} epochs of {plan.steps_per_epoch:,} steps",
    ]


def _check_batches(plan: BatchPlan, args: TSPOConfig, num_questions: int) -> None:
    if plan.steps_per_epoch == 0:
        raise ValueError(
            f"`train_file` has {num_questions:,} questions, but one generation asks {plan.questions_per_generation:,}"
            ". Lower `per_device_train_batch_size` or `steps_per_generation`, or give more questions."
        )
    if args.use_vllm and args.vllm_mode == "colocate" and plan.num_processes % args.vllm_tensor_parallel_size:
        raise ValueError(
            f"`vllm_tensor_parallel_size={args.vllm_tensor_parallel_size}` does not divide {plan.num_processes} "
            "processes. Choose one that does."
        )
