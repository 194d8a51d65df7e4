"""The checks of a dry run that look at the configuration alone, and at what this machine lacks for it."""

import os
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate.utils import is_deepspeed_available
from transformers import IntervalStrategy
from transformers.integrations.integration_utils import get_available_reporting_integrations
from transformers.utils import is_bitsandbytes_available
from trl import ModelConfig
from trl.import_utils import is_vllm_available

from ..trainer.checkpoints import is_complete
from ..trainer.config import TSPOConfig
from .launch import Launch
from .report import Report


def check_config(report: Report, args: TSPOConfig, model_args: ModelConfig, eval_file: str | None) -> None:
    """
    Check arguments that only together, or with what is on disk, would end a run after it has begun.

    Args:
        report ([`Report`]):
            Takes what is found.
        args ([`TSPOConfig`]):
            The configuration.
        model_args ([`~trl.ModelConfig`]):
            The model and its adapters.
        eval_file (`str`, *optional*):
            Questions to evaluate on.
    """
    for check in (
        lambda: _check_output_dir(args),
        lambda: _check_checkpoint(args),
        lambda: _check_evaluation(args, eval_file),
        lambda: _check_quantization(args, model_args),
    ):
        with report.section("Configuration"):
            check()


def _check_output_dir(args: TSPOConfig) -> None:
    path = Path(str(args.output_dir)).expanduser().absolute()
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    if not existing.is_dir():
        raise ValueError(f"`output_dir` is {args.output_dir!r}, but {existing} is a file. Choose another folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"`output_dir` is {args.output_dir!r}, but nothing can be written into {existing}.")


def _check_checkpoint(args: TSPOConfig) -> None:
    checkpoint = args.resume_from_checkpoint
    if not checkpoint or str(checkpoint).lower() == "true":  # then the last one in `output_dir` is taken
        return
    if not is_complete(checkpoint):
        raise ValueError(
            f"`resume_from_checkpoint` is {checkpoint!r}, but no complete checkpoint is there. Leave it out."
        )


def _check_evaluation(args: TSPOConfig, eval_file: str | None) -> None:
    strategy = IntervalStrategy(args.eval_strategy)
    if strategy != IntervalStrategy.NO and eval_file is None:
        raise ValueError(f"`eval_strategy` is {strategy.value!r}, but there is no `eval_file`. Pass one.")


def _check_quantization(args: TSPOConfig, model_args: ModelConfig) -> None:
    if (model_args.load_in_4bit or model_args.load_in_8bit) and not model_args.use_peft:
        raise ValueError(
            "a quantized model (`load_in_4bit`, `load_in_8bit`) cannot learn: train adapters (`use_peft`)."
        )
    if model_args.load_in_8bit and args.use_vllm and args.vllm_mode == "colocate":
        raise ValueError("vLLM in colocate mode does not take `load_in_8bit`: use `load_in_4bit`, or a vLLM server.")


def warn_about_this_machine(
    report: Report, args: TSPOConfig | None, launch: Launch | None, model_args: ModelConfig
) -> None:
    """
    Warn about what is missing here, and may be there on the machine that trains.

    Args:
        report ([`Report`]):
            Takes the warnings.
        args ([`TSPOConfig`], *optional*):
            The configuration, where it could be read.
        launch ([`Launch`], *optional*):
            Processes of the run, where they are known.
        model_args ([`~trl.ModelConfig`]):
            The model and its adapters.
    """
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
