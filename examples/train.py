"""Train a language model to search your own index, with your own questions.

    tspo-trl index --corpus corpus.jsonl --output indexes/mine
    accelerate launch examples/train.py \
        --model_name_or_path Qwen/Qwen2.5-0.5B-Instruct \
        --index indexes/mine \
        --train_file train.jsonl \
        --output_dir runs/mine

`train.jsonl` holds one `{"question": "...", "golden_answers": ["..."]}` a line. In place of `--index`,
`--retriever_url` asks a server, and `--dense`, `--encoder` and `--hybrid` search a dense index. Every field of
`TSPOConfig` and of TRL's `ModelConfig` is a flag; `--config recipe.yaml` reads them from a file.
"""

from dataclasses import dataclass, field

from trl import ModelConfig, TrlParser, get_peft_config, get_quantization_config

from tspo_trl import TSPOConfig, TSPOTrainer
from tspo_trl.data.questions import load_questions
from tspo_trl.rewards import exact_match_reward, f1_reward, format_reward
from tspo_trl.search.arguments import RetrieverArguments, open_retriever

REWARD_FUNCS = {"exact_match": exact_match_reward, "f1": f1_reward, "format": format_reward}


@dataclass
class ScriptArguments:
    """
    Arguments of this script.

    Args:
        train_file (`str`):
            JSON lines of `question` and `golden_answers`.
        eval_file (`str`, *optional*):
            The same, for evaluation.
        reward_funcs (`list[str]`, *optional*, defaults to `["exact_match"]`):
            Outcome rewards, of `"exact_match"`, `"f1"` and `"format"`.
    """

    train_file: str = field(metadata={"help": "JSON lines of `question` and `golden_answers`."})
    eval_file: str | None = field(default=None, metadata={"help": "The same, for evaluation."})
    reward_funcs: list[str] = field(
        default_factory=lambda: ["exact_match"],
        metadata={"help": "Outcome rewards.", "choices": list(REWARD_FUNCS)},
    )


def main(
    script_args: ScriptArguments,
    retriever_args: RetrieverArguments,
    training_args: TSPOConfig,
    model_args: ModelConfig,
) -> None:
    """Read the data, open the retriever, train, save."""
    train_dataset = load_questions(script_args.train_file)
    eval_dataset = load_questions(script_args.eval_file) if script_args.eval_file else None
    retriever = open_retriever(retriever_args)

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
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    trainer.save_model(training_args.output_dir)
    trainer.end()


if __name__ == "__main__":
    parser = TrlParser((ScriptArguments, RetrieverArguments, TSPOConfig, ModelConfig))
    main(*parser.parse_args_and_config())
