"""Train a language model to search your own index, with your own questions.

    tspo-trl index --corpus corpus.jsonl --output indexes/mine
    accelerate launch examples/train.py \
        --model_name_or_path Qwen/Qwen2.5-0.5B-Instruct \
        --index indexes/mine \
        --train_file train.jsonl \
        --output_dir runs/mine

Each line of `train.jsonl` is `{"question": "...", "golden_answers": ["..."]}`. Instead of `--index`, use
`--retriever_url` to search through a server, or `--dense`, `--encoder` and `--hybrid` to search a dense index. Every
field of `TSPOConfig` and of TRL's `ModelConfig` is a flag. `--config recipe.yaml` reads flags from a file; see
`recipes/`.

    python examples/train.py --config examples/recipes/qwen2.5-3b-base.yaml --dry_run

checks configuration, index, data, batches and memory, reports all errors, and loads no model.
"""

import os
import sys
from dataclasses import dataclass, field
from typing import Literal

import torch
from datasets import Dataset
from transformers import AutoTokenizer, EarlyStoppingCallback, PreTrainedTokenizerBase, TrainerCallback
from trl import ModelConfig, TrlParser, get_peft_config, get_quantization_config

from tspo_trl import ChatToolProtocol, SearchProtocol, TagProtocol, TSPOConfig, TSPOTrainer
from tspo_trl.data import load_questions
from tspo_trl.dry_run import (
    DryRunArguments,
    Launch,
    Report,
    check_run,
    leave_other_processes,
    planned_config,
    planned_launch,
)
from tspo_trl.rewards import exact_match_reward, f1_reward, format_reward
from tspo_trl.search.arguments import RetrieverArguments, open_retriever
from tspo_trl.trainer.callbacks import CollapseAlarm
from tspo_trl.trainer.checkpoints import last_complete_checkpoint
from tspo_trl.trainer.scores import SCORES, mean_scores

REWARD_FUNCS = {"exact_match": exact_match_reward, "f1": f1_reward, "format": format_reward}


@dataclass
class ScriptArguments:
    """
    Arguments of this script.

    Args:
        train_file (`str`):
            JSON lines of `question` and `golden_answers`.
        eval_file (`str`, *optional*):
            Evaluation questions in the same format.
        reward_funcs (`list[str]`, *optional*, defaults to `["exact_match"]`):
            Outcome rewards among `"exact_match"`, `"f1"` and `"format"`.
        protocol (`str`, *optional*, defaults to `"tags"`):
            Format of queries and feedback: `"tags"` (Search-R1's) or `"chat"` (tool calls in the model's chat
            template).
        early_stopping_patience (`int`, *optional*):
            Number of evaluations in a row without a better `metric_for_best_model` after which training stops.
        stop_on_collapse (`bool`, *optional*, defaults to `False`):
            If `True`, training stops when [`~tspo_trl.trainer.callbacks.CollapseAlarm`] detects a collapse. By default
            it only warns.
    """

    train_file: str = field(metadata={"help": "JSON lines of `question` and `golden_answers`."})
    eval_file: str | None = field(default=None, metadata={"help": "Evaluation questions in the same format."})
    reward_funcs: list[str] = field(
        default_factory=lambda: ["exact_match"],
        metadata={"help": "Outcome rewards.", "choices": list(REWARD_FUNCS)},
    )
    protocol: Literal["tags", "chat"] = field(
        default="tags", metadata={"help": "`tags` (Search-R1's) or `chat` (tool calls in the model's chat template)."}
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "Stop after this many evaluations in a row without a better `metric_for_best_model`."},
    )
    stop_on_collapse: bool = field(
        default=False, metadata={"help": "Stop when the policy collapses. By default, only warn."}
    )

    def __post_init__(self) -> None:
        if self.protocol not in ("tags", "chat"):
            raise ValueError(f"`protocol` is {self.protocol!r}. Choose 'tags' or 'chat'.")
        unknown = set(self.reward_funcs) - set(REWARD_FUNCS)  # `choices` does not check values from a file
        if unknown:
            raise ValueError(f"`reward_funcs` contains {sorted(unknown)}. Choose among {sorted(REWARD_FUNCS)}.")
        if self.early_stopping_patience is not None and self.early_stopping_patience < 1:
            raise ValueError(f"`early_stopping_patience` must be at least 1, got {self.early_stopping_patience}.")


ARGUMENTS = (ScriptArguments, RetrieverArguments, DryRunArguments, ModelConfig)


def make_protocol(name: str, tokenizer: PreTrainedTokenizerBase, training_args: TSPOConfig) -> SearchProtocol:
    """The protocol with this name."""
    if name == "tags":
        return TagProtocol()
    return ChatToolProtocol(tokenizer, chat_template_kwargs=training_args.chat_template_kwargs)


def make_callbacks(script_args: ScriptArguments) -> list[TrainerCallback]:
    """The collapse alarm and, if requested, early stopping."""
    callbacks: list[TrainerCallback] = [CollapseAlarm(stop=script_args.stop_on_collapse)]
    if script_args.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(script_args.early_stopping_patience))
    return callbacks


def check_selection(script_args: ScriptArguments, training_args: TSPOConfig, eval_dataset: Dataset | None) -> None:
    """Check early that evaluations will log `metric_for_best_model`: transformers checks only at the first one."""
    metric = training_args.metric_for_best_model
    if script_args.early_stopping_patience is not None:
        needed = {"eval_file": script_args.eval_file, "metric_for_best_model": metric}
        missing = [name for name, value in needed.items() if value is None]
        if training_args.eval_strategy == "no":
            missing.append("eval_strategy")
        if missing:
            raise ValueError(
                f"`early_stopping_patience` is {script_args.early_stopping_patience}, but without "
                f"`{'`, `'.join(missing)}` nothing is compared. Pass for example `--eval_file dev.jsonl "
                "--eval_strategy steps --eval_steps 100 --metric_for_best_model exact_match`."
            )
    if metric is not None and eval_dataset is not None:
        sources = eval_dataset.unique("data_source")
        names = list(mean_scores([dict.fromkeys(SCORES, 0.0)] * len(sources), sources))
        if metric.removeprefix("eval_") not in names:
            raise ValueError(f"`metric_for_best_model` is {metric!r}. Choose among {names}.")


def checkpoint_to_resume(training_args: TSPOConfig) -> str | None:
    """With `--resume_from_checkpoint true`, the last complete checkpoint, or `None` if there is none."""
    checkpoint = training_args.resume_from_checkpoint
    if str(checkpoint).lower() == "true":  # the command line passes a string
        return last_complete_checkpoint(training_args.output_dir)
    return checkpoint


def main(
    script_args: ScriptArguments,
    retriever_args: RetrieverArguments,
    model_args: ModelConfig,
    training_args: TSPOConfig,
) -> None:
    """Read the data, open the retriever, train, save."""
    train_dataset = load_questions(script_args.train_file)
    eval_dataset = load_questions(script_args.eval_file) if script_args.eval_file else None
    check_selection(script_args, training_args, eval_dataset)
    retriever = open_retriever(retriever_args)
    tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path, revision=model_args.model_revision)

    if script_args.early_stopping_patience is not None:
        training_args.restore_callback_states_from_checkpoint = True  # continue the count of evaluations
    training_args.model_init_kwargs = {
        "revision": model_args.model_revision,
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype,
        **(training_args.model_init_kwargs or {}),
    }
    trainer = TSPOTrainer(
        model=model_args.model_name_or_path,
        reward_funcs=[REWARD_FUNCS[name] for name in script_args.reward_funcs],
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        retriever=retriever,
        protocol=make_protocol(script_args.protocol, tokenizer, training_args),
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
        callbacks=make_callbacks(script_args),
    )
    trainer.train(resume_from_checkpoint=checkpoint_to_resume(training_args))
    trainer.save_model(training_args.output_dir)
    trainer.end()


def dry_run(
    script_args: ScriptArguments,
    retriever_args: RetrieverArguments,
    dry_run_args: DryRunArguments,
    model_args: ModelConfig,
) -> int:
    """Check the run on the planned machines without a model. Returns the exit code."""
    if int(os.environ.get("RANK", "0")) > 0:
        return 0  # only the first process reports

    def read_config(launch: Launch) -> TSPOConfig:
        leave_other_processes()  # the configuration would otherwise wait for them
        # Without a GPU the configuration refuses bf16, even if the machine that trains has one.
        flags = sys.argv[1:] if torch.cuda.is_available() else [*sys.argv[1:], "--use_cpu"]
        parser = TrlParser((*ARGUMENTS, planned_config(launch.num_processes)))
        training_args = parser.parse_args_and_config(flags)[-1]
        is_selected = training_args.metric_for_best_model and script_args.eval_file
        eval_dataset = load_questions(script_args.eval_file) if is_selected else None
        check_selection(script_args, training_args, eval_dataset)
        return training_args

    report = check_run(
        lambda: planned_launch(dry_run_args),
        read_config,
        lambda tokenizer, training_args: make_protocol(script_args.protocol, tokenizer, training_args),
        train_file=script_args.train_file,
        eval_file=script_args.eval_file,
        retriever_args=retriever_args,
        model_args=model_args,
        dry_run_args=dry_run_args,
    )
    print(report)
    return report.exit_code


def read_all_but_config() -> list:
    """All arguments except the configuration, which depends on the number of processes."""
    if {"-h", "--help"} & set(sys.argv):
        TrlParser((*ARGUMENTS, TSPOConfig)).parse_args_and_config()  # prints the help and exits
    report = Report()
    with report.section("Arguments"):
        return TrlParser(ARGUMENTS).parse_args_and_config(return_remaining_strings=True)[:-1]
    print(report, file=sys.stdout if "--dry_run" in sys.argv else sys.stderr)
    sys.exit(report.exit_code)


if __name__ == "__main__":
    some_args = read_all_but_config()
    if some_args[2].dry_run:
        sys.exit(dry_run(*some_args))
    script_args, retriever_args, _, model_args, training_args = TrlParser(
        (*ARGUMENTS, TSPOConfig)
    ).parse_args_and_config()
    main(script_args, retriever_args, model_args, training_args)
