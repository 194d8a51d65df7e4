"""The checks of a dry run that look at the model: its tokenizer and its context."""

import heapq
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from datasets import Dataset
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase
from trl import ModelConfig, get_peft_config

from ..protocols.base import SearchProtocol
from ..rollout.loop import RolloutLoop
from ..rollout.prompts import encode_prompts, row_prompt
from ..rollout.state import RolloutLimits
from ..search.base import Retriever
from ..trainer.config import TSPOConfig
from .arguments import DryRunArguments
from .launch import Launch
from .memory_checks import check_memory
from .model_shape import ModelShape, model_shape
from .report import Report

MakeProtocol = Callable[[PreTrainedTokenizerBase, TSPOConfig], SearchProtocol]

# Prompts that are encoded, the longest by characters: enough to find the longest by tokens.
_MEASURED_PROMPTS = 1000


def check_model(
    report: Report,
    args: TSPOConfig,
    launch: Launch,
    make_protocol: MakeProtocol,
    model_args: ModelConfig,
    dry_run_args: DryRunArguments,
    datasets: dict[str, Dataset],
    retriever: Retriever | None,
) -> None:
    """
    Check that the model is there and that rollouts fit its context, vLLM's and a GPU's memory.

    Args:
        report ([`Report`]):
            Takes what is found.
        args ([`TSPOConfig`]):
            The configuration.
        launch ([`Launch`]):
            Processes of the run.
        make_protocol (`Callable`):
            Makes the protocol that model and search speak, given tokenizer and configuration.
        model_args ([`~trl.ModelConfig`]):
            The model and its adapters.
        dry_run_args ([`DryRunArguments`]):
            The machine that the run is planned for.
        datasets (`dict`):
            The datasets that could be read, by the names of the trainer's arguments.
        retriever ([`~tspo_trl.search.Retriever`], *optional*):
            What is to be searched, where it could be opened.
    """
    config = None
    with report.section("Model"):
        if not model_args.model_name_or_path:
            raise ValueError("there is no model. Pass `model_name_or_path`.")
        config = AutoConfig.from_pretrained(model_args.model_name_or_path, revision=model_args.model_revision)
    if config is None:
        return
    longest = 0
    with report.section("Context"):
        tokenizer = _local_tokenizer(model_args)
        if tokenizer is None:
            report.warnings.append("The tokenizer is not on this machine: prompts were not measured.")
        else:
            protocol = make_protocol(tokenizer, args)
            lengths = [
                longest_prompt(tokenizer, one, protocol, args.chat_template_kwargs) for one in datasets.values()
            ]
            longest = max(lengths, default=0)
            _check_feedback_budget(tokenizer, args, retriever, protocol)
    with report.section("Context"):
        report.add("Context", *_check_context(args, config, longest))
    with report.section("Model"):
        _check_tensor_parallel_size(args, config)
    with report.section("Memory"):
        shape = model_shape(config, get_peft_config(model_args))
        report.add("Model", _describe_model(shape, model_args))
        check_memory(report, args, launch, model_args, dry_run_args, shape, longest)


def _local_tokenizer(model_args: ModelConfig) -> PreTrainedTokenizerBase | None:
    name, revision = model_args.model_name_or_path, model_args.model_revision
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, local_files_only=True)
    except OSError:
        return None
    # Where a folder has a model's configuration only, Transformers makes a tokenizer without a vocabulary.
    return tokenizer if tokenizer("question")["input_ids"] else None


def longest_prompt(
    tokenizer: PreTrainedTokenizerBase,
    rows: Iterable[Mapping[str, Any]],
    protocol: SearchProtocol,
    chat_template_kwargs: Any = None,
) -> int:
    """
    Tokens of the longest prompt, as [`TSPOTrainer`] would encode it.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The model's tokenizer.
        rows (iterable of mappings):
            The rows of a dataset, with `prompt` or `question`; the longest by characters are encoded.
        protocol ([`~tspo_trl.protocols.base.SearchProtocol`]):
            Writes the prompts.
        chat_template_kwargs (`dict`, *optional*):
            Further variables of the chat template.

    Returns:
        `int`: 0 where there is no row.
    """
    prompts = (row_prompt(row, tokenizer, protocol) for row in rows)
    longest = heapq.nlargest(_MEASURED_PROMPTS, prompts, key=lambda prompt: len(str(prompt)))
    if not longest:
        return 0
    return max(map(len, encode_prompts(longest, tokenizer, protocol, chat_template_kwargs)))


def _check_feedback_budget(tokenizer: Any, args: TSPOConfig, retriever: Any, protocol: SearchProtocol) -> None:
    """The turn loop itself refuses a budget that cannot hold its tags."""
    RolloutLoop(tokenizer, retriever, protocol, RolloutLimits.from_arguments(args))


def _check_context(args: TSPOConfig, config: PretrainedConfig, longest: int) -> list[str]:
    needed = longest + args.max_completion_length
    window = config.get_text_config().max_position_embeddings
    if needed > window:
        raise ValueError(
            f"the longest prompt ({longest} tokens) and `max_completion_length` ({args.max_completion_length}) take "
            f"{needed} tokens, but the model reads {window}. Lower `max_completion_length`."
        )
    if args.use_vllm and args.vllm_max_model_length is not None and needed > args.vllm_max_model_length:
        raise ValueError(
            f"the longest prompt ({longest} tokens) and `max_completion_length` ({args.max_completion_length}) take "
            f"{needed} tokens, but `vllm_max_model_length` is {args.vllm_max_model_length}. Raise it."
        )
    return [f"longest prompt {longest} + `max_completion_length` {args.max_completion_length} = {needed} of {window}"]


def _check_tensor_parallel_size(args: TSPOConfig, config: PretrainedConfig) -> None:
    """vLLM gives each GPU the same number of attention heads."""
    heads, size = config.get_text_config().num_attention_heads, args.vllm_tensor_parallel_size
    if args.use_vllm and args.vllm_mode == "colocate" and heads % size:
        raise ValueError(f"`vllm_tensor_parallel_size={size}` does not divide {heads} attention heads. Lower it.")


def _describe_model(shape: ModelShape, model_args: ModelConfig) -> str:
    learning = f", of which {shape.trainable / 1e6:.1f}M learn" if shape.has_adapters else ""
    return f"{model_args.model_name_or_path}: {shape.parameters / 1e9:.2f}B parameters{learning}"
