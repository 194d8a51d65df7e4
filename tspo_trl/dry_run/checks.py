"""The checks of a dry run. Each adds its findings to a [`Report`]."""

import heapq
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_deepspeed_available
from datasets import Dataset
from transformers import AutoConfig, AutoTokenizer, IntervalStrategy, PretrainedConfig, PreTrainedTokenizerBase
from transformers.integrations.integration_utils import get_available_reporting_integrations
from transformers.utils import is_bitsandbytes_available
from trl import ModelConfig, get_peft_config
from trl.import_utils import is_vllm_available

from ..data.questions import load_questions
from ..protocols.base import SearchProtocol
from ..rollout.loop import RolloutLoop
from ..rollout.positions import max_positions
from ..rollout.prompts import encode_prompts, row_prompt
from ..rollout.state import RolloutLimits
from ..search.arguments import RetrieverArguments, open_retriever
from ..search.base import Retriever
from ..trainer.checkpoints import is_complete
from ..trainer.config import TSPOConfig
from ..trainer.records import gold_in_question
from ..trainer.validation import check_dataset, check_generation
from .batch import plan_batches
from .launch import DryRunArguments, Launch, deepspeed_strategy
from .memory import GIB, MemoryEstimate, ModelShape, Precision, cached_tokens, estimate_memory, model_shape
from .report import Report

MakeProtocol = Callable[[PreTrainedTokenizerBase, TSPOConfig], SearchProtocol]

# Prompts to encode, the longest by characters: enough to find the longest by tokens.
_MEASURED_PROMPTS = 1000
_MEMORY = "Memory of a GPU (an estimate)"


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
            Returns the processes of the run. An exception is a problem of the run.
        read_config (`Callable`):
            Returns the configuration for these processes. An exception is a problem of the run.
        make_protocol (`Callable`):
            Returns the search protocol, given the tokenizer and the configuration.
        train_file (`str`):
            Training questions, read by [`~tspo_trl.data.questions.load_questions`].
        eval_file (`str`, *optional*):
            Evaluation questions.
        retriever_args ([`~tspo_trl.search.arguments.RetrieverArguments`]):
            Arguments of the retriever.
        model_args ([`~trl.ModelConfig`]):
            The model and its adapters.
        dry_run_args ([`DryRunArguments`]):
            The machines that will train.

    Returns:
        [`Report`]
    """
    report = Report()
    launch = args = retriever = None
    datasets: dict[str, Dataset] = {}
    with report.section("Launch"):
        launch = read_launch()
        report.add("Launch", str(launch))
    if launch is not None:
        with report.section("Configuration"):
            args = read_config(launch)
            report.add("Configuration", _describe_config(args))
    if launch is not None and args is not None:
        with report.section("Launch"):
            if args.deepspeed is not None:  # it wins over the launcher
                launch = replace(launch, strategy=deepspeed_strategy(args.deepspeed))
                report.add("Launch", f"with `deepspeed`: {launch}")
        _check_config(report, args, model_args, eval_file)
    for name, path in (("train_dataset", train_file), ("eval_dataset", eval_file)):
        if path is not None:
            with report.section("Dataset"):
                datasets[name] = load_questions(path)
                _check_questions(report, datasets[name], name, path, args)
    with report.section("Retriever"):
        retriever = open_retriever(retriever_args)
        _try_retriever(report, retriever, datasets, args)
    if launch is not None and args is not None:
        if retriever is not None:
            with report.section("Configuration"):
                check_generation(args, retriever, True, {})
        if "train_dataset" in datasets:
            with report.section("Batches"):
                num_questions = len(datasets["train_dataset"])
                plan = plan_batches(args, num_questions)
                report.add("Batches", *plan.describe(args))
                plan.check(args, num_questions)
        config = None
        with report.section("Model"):
            if not model_args.model_name_or_path:
                raise ValueError("there is no model. Pass `model_name_or_path`.")
            config = AutoConfig.from_pretrained(model_args.model_name_or_path, revision=model_args.model_revision)
        if config is not None:
            longest = _check_context(report, args, config, make_protocol, model_args, datasets, retriever)
            with report.section("Memory"):
                shape = model_shape(config, get_peft_config(model_args))
                report.add("Model", _describe_model(shape, model_args))
                _check_memory(report, args, launch, model_args, dry_run_args, shape, longest)
    _warn_about_this_machine(report, args, launch, model_args)
    return report


def _describe_config(args: TSPOConfig) -> str:
    method = "TSPO" if args.tspo_enabled else "GRPO"
    turns = f"{args.max_turns} turns of {args.max_turn_length} tokens, {args.search_top_k} passages a search"
    return f"{method}: {turns}, {args.max_completion_length} tokens a rollout"


def _check_config(report: Report, args: TSPOConfig, model_args: ModelConfig, eval_file: str | None) -> None:
    """Check arguments that would otherwise end the run after it has loaded the model."""
    with report.section("Configuration"):
        path = Path(str(args.output_dir)).expanduser().absolute()
        existing = next(folder for folder in (path, *path.parents) if folder.exists())
        if not existing.is_dir():
            raise ValueError(f"`output_dir` is {args.output_dir!r}, but {existing} is a file. Choose another folder.")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise ValueError(
                f"`output_dir` is {args.output_dir!r}, but {existing} is not writable. Choose another folder."
            )
    checkpoint = args.resume_from_checkpoint
    with report.section("Configuration"):
        # "true" takes the last checkpoint in `output_dir`.
        if checkpoint and str(checkpoint).lower() != "true" and not is_complete(checkpoint):
            raise ValueError(
                f"`resume_from_checkpoint` is {checkpoint!r}, but no complete checkpoint is there. Leave it out."
            )
    with report.section("Configuration"):
        strategy = IntervalStrategy(args.eval_strategy)
        if strategy != IntervalStrategy.NO and eval_file is None:
            raise ValueError(f"`eval_strategy` is {strategy.value!r}, but there is no `eval_file`. Pass one.")
    with report.section("Configuration"):
        if (model_args.load_in_4bit or model_args.load_in_8bit) and not model_args.use_peft:
            raise ValueError(
                "a quantized model (`load_in_4bit`, `load_in_8bit`) cannot learn: train adapters (`use_peft`)."
            )
        if model_args.load_in_8bit and args.use_vllm and args.vllm_mode == "colocate":
            raise ValueError(
                "vLLM in colocate mode does not take `load_in_8bit`: use `load_in_4bit`, or a vLLM server."
            )


def _check_questions(report: Report, dataset: Dataset, name: str, path: str, args: TSPOConfig | None) -> None:
    check_dataset(dataset, name, needs_question=True, needs_golden_answers=True)
    report.add("Dataset", f"{path}: {len(dataset):,} questions, columns {', '.join(dataset.column_names)}")
    if args is not None:
        share = sum(gold_in_question(row, args) for row in dataset) / len(dataset)
        report.add("Dataset", f"{share:.1%} of its questions contain a gold answer (`skip_gold_in_question`)")


def _try_retriever(
    report: Report, retriever: Retriever, datasets: dict[str, Dataset], args: TSPOConfig | None
) -> None:
    query = next((dataset["question"][0] for dataset in datasets.values()), "capital of France")
    passages = retriever.search([query], args.search_top_k if args else 1)[0]
    if passages is None:
        raise ValueError(f"the search for {query!r} failed. The retriever's own messages say why.")
    found = f"first of {len(passages)}: {passages[0].title}" if passages else "nothing"
    report.add("Retriever", f"{type(retriever).__name__} answers", f"{query!r} finds {found}")


def _check_context(
    report: Report,
    args: TSPOConfig,
    config: PretrainedConfig,
    make_protocol: MakeProtocol,
    model_args: ModelConfig,
    datasets: dict[str, Dataset],
    retriever: Retriever | None,
) -> int:
    """Check that rollouts fit the contexts of the model and of vLLM. Return the tokens of the longest prompt."""
    longest = 0
    with report.section("Context"):
        tokenizer = _local_tokenizer(model_args)
        if tokenizer is None:
            report.warnings.append("The tokenizer is not on this machine: prompts were not measured.")
        else:
            protocol = make_protocol(tokenizer, args)
            kwargs = args.chat_template_kwargs
            longest = max((longest_prompt(tokenizer, rows, protocol, kwargs) for rows in datasets.values()), default=0)
            # The loop refuses a feedback budget that is too small for the tags.
            loop: Any = RolloutLoop
            loop(tokenizer, retriever, protocol, RolloutLimits.from_arguments(args))
    text = config.get_text_config()
    with report.section("Context"):
        needed, window = longest + args.max_completion_length, max_positions(config)
        lengths = (
            f"the longest prompt ({longest} tokens) and `max_completion_length` ({args.max_completion_length}) take "
            f"{needed} tokens"
        )
        if window is not None and needed > window:
            raise ValueError(f"{lengths}, but the model reads {window}. Lower `max_completion_length`.")
        if args.use_vllm and args.vllm_max_model_length is not None and needed > args.vllm_max_model_length:
            raise ValueError(f"{lengths}, but `vllm_max_model_length` is {args.vllm_max_model_length}. Raise it.")
        report.add(
            "Context",
            f"longest prompt {longest} + `max_completion_length` {args.max_completion_length} = {needed} "
            f"of {window or 'any number'}",
        )
    with report.section("Model"):
        heads, size = text.num_attention_heads, args.vllm_tensor_parallel_size
        if args.use_vllm and args.vllm_mode == "colocate" and heads % size:
            raise ValueError(f"`vllm_tensor_parallel_size={size}` does not divide {heads} attention heads. Lower it.")
    return longest


def _local_tokenizer(model_args: ModelConfig) -> PreTrainedTokenizerBase | None:
    name, revision = model_args.model_name_or_path, model_args.model_revision
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, local_files_only=True)
    except OSError:
        return None
    # Transformers makes a tokenizer without a vocabulary if a folder contains only a model's configuration.
    return tokenizer if tokenizer("question")["input_ids"] else None


def longest_prompt(
    tokenizer: PreTrainedTokenizerBase,
    rows: Iterable[Mapping[str, Any]],
    protocol: SearchProtocol,
    chat_template_kwargs: Any = None,
) -> int:
    """Return the tokens of the longest prompt, encoded as [`TSPOTrainer`] does, or 0 if there are no rows."""
    prompts = (row_prompt(row, tokenizer, protocol) for row in rows)
    longest = heapq.nlargest(_MEASURED_PROMPTS, prompts, key=lambda prompt: len(str(prompt)))
    if not longest:
        return 0
    return max(map(len, encode_prompts(longest, tokenizer, protocol, chat_template_kwargs)))


def _describe_model(shape: ModelShape, model_args: ModelConfig) -> str:
    learning = f", of which {shape.trainable / 1e6:.1f}M learn" if shape.has_adapters else ""
    return f"{model_args.model_name_or_path}: {shape.parameters / 1e9:.2f}B parameters{learning}"


def _check_memory(
    report: Report,
    args: TSPOConfig,
    launch: Launch,
    model_args: ModelConfig,
    dry_run_args: DryRunArguments,
    shape: ModelShape,
    longest: int,
) -> None:
    """Compare the estimate with the memory of a GPU, and vLLM's share with the cache of one rollout."""
    gpu_memory = _gpu_memory(dry_run_args)
    bits = 4 if model_args.load_in_4bit else 8 if model_args.load_in_8bit else None
    precision = Precision(4 if model_args.dtype == "float32" else 2, bits)
    colocated = args.use_vllm and args.vllm_mode == "colocate"
    share = args.vllm_gpu_memory_utilization * (gpu_memory or 0.0) if colocated else 0.0
    rollout = longest + args.max_completion_length
    rows = args.per_device_train_batch_size
    estimate = estimate_memory(
        shape,
        launch,
        precision,
        tokens=rows * rollout,
        checkpointing=args.gradient_checkpointing,
        has_reference=args.beta > 0,
        vllm=share,
        vllm_sleeps=args.vllm_enable_sleep_mode,
        generation_tokens=0 if args.use_vllm else rows * (args.steps_per_generation or 1) * rollout,
    )
    report.add(_MEMORY, *estimate.describe())
    if precision.dtype_bytes == 2 and not shape.has_adapters and launch.strategy in ("single", "ddp"):
        report.warnings.append(
            f"`dtype={model_args.dtype}` trains 16-bit weights, in which steps of `learning_rate={args.learning_rate}`"
            " get lost. Use `dtype=float32`, DeepSpeed or FSDP."
        )
    if gpu_memory is None:
        report.warnings.append("The GPU is not known: pass `dry_run_gpu_memory` to compare the estimate with it.")
        return
    report.add(_MEMORY, f"{estimate.peak / gpu_memory:.0%} of {gpu_memory / GIB:.0f} GiB")
    if share:
        tokens = cached_tokens(shape, share, args.vllm_tensor_parallel_size, precision)
        context = args.vllm_max_model_length or rollout
        if tokens < context:
            raise ValueError(
                f"vLLM's share ({share / GIB:.1f} GiB) leaves room for about {max(tokens, 0):,} cached tokens, fewer "
                f"than one rollout of {context:,}. Raise `vllm_gpu_memory_utilization`."
            )
        report.add(_MEMORY, f"vLLM can keep about {tokens:,} tokens in its cache")
    if estimate.peak > gpu_memory:
        raise ValueError(
            f"about {estimate.peak / GIB:.0f} GiB are needed, but a GPU has {gpu_memory / GIB:.0f}. "
            + _remedy(estimate)
        )
    if estimate.peak > 0.9 * gpu_memory:
        report.warnings.append("The estimate leaves less than a tenth of the GPU's memory free.")


def _gpu_memory(dry_run_args: DryRunArguments) -> float | None:
    if dry_run_args.dry_run_gpu_memory is not None:
        return dry_run_args.dry_run_gpu_memory * GIB
    return float(torch.cuda.get_device_properties(0).total_memory) if torch.cuda.is_available() else None


def _remedy(estimate: MemoryEstimate) -> str:
    if estimate.generation > estimate.learning:
        return (
            f"All rollouts of a generation are made at once and keep {estimate.generation / GIB:.0f} GiB of keys and "
            "values. Generate with vLLM (`use_vllm`), or lower `steps_per_generation`."
        )
    return (
        "Lower `per_device_train_batch_size` (and raise `gradient_accumulation_steps` and `steps_per_generation`) or "
        "`vllm_gpu_memory_utilization`, share more (ZeRO-3, FSDP), or train adapters (`use_peft`)."
    )


def _warn_about_this_machine(
    report: Report, args: TSPOConfig | None, launch: Launch | None, model_args: ModelConfig
) -> None:
    """Warn about what this machine lacks. The machine that trains may have it."""
    if not torch.cuda.is_available():
        report.warnings.append("This machine has no GPU: the configuration was checked as for a CPU.")
    needed = {
        "vllm": args is not None and args.use_vllm and not is_vllm_available(),
        "deepspeed": launch is not None and launch.is_deepspeed and not is_deepspeed_available(),
        "bitsandbytes": (model_args.load_in_4bit or model_args.load_in_8bit) and not is_bitsandbytes_available(),
        "flash-attn": model_args.attn_implementation == "flash_attention_2" and find_spec("flash_attn") is None,
    }
    loggers = args.report_to if args is not None and args.report_to else []
    needed |= {name: name not in get_available_reporting_integrations() for name in loggers}
    report.warnings += [
        f"{name} is needed and not installed here: pip install {name}" for name, missing in needed.items() if missing
    ]
