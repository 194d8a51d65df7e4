"""Three TSPO steps with an evaluation after the second, with logged completions. Run with or without torchrun.

python tests/training_runs/tables_run.py '{"model": ..., "index": ..., "settings": {"output_dir": ...}}'
"""

import json
import sys

from datasets import Dataset
from transformers import AutoTokenizer

from tspo_trl import TSPOConfig, TSPOTrainer
from tspo_trl.protocols.chat import ChatToolProtocol
from tspo_trl.rewards import exact_match_reward
from tspo_trl.search import BM25Retriever

TRAIN = {
    "What is the capital of France?": ["Paris"],
    "What is the capital of Italy?": ["Rome", "Roma"],
    "Which city lies on the Seine?": ["Paris"],
    "Which city lies on the Tiber?": ["Rome", "Roma"],
    "What does the Seine cross?": ["Paris"],
    "What does the Tiber cross?": ["Rome", "Roma"],
}
EVAL = {"What is the capital of Spain?": ["Madrid"], "Which river is in Italy?": ["Tiber"]}
STEPS = 3
BATCH_SIZE = 8  # of all processes together


def rows(questions):
    """A dataset of questions and their gold answers."""
    return Dataset.from_list([{"question": name, "golden_answers": golds} for name, golds in questions.items()])


def length_reward(completions, log_extra, **kwargs):
    """Log a new column, and one with the name of a TSPO column."""
    lengths = [float(len(completion)) for completion in completions]
    log_extra("length", lengths)
    log_extra("kind", ["long" if length > 100 else "short" for length in lengths])
    return [0.0] * len(lengths)


def main(model, index, settings, calls_tools=False):
    """Train, with or without tool calls of the chat template."""
    args = TSPOConfig(
        max_steps=STEPS,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=2,
        num_generations=4,
        num_generations_eval=1,
        learning_rate=1e-5,
        max_turns=2,
        max_turn_length=90 if calls_tools else 24,
        max_feedback_length=200 if calls_tools else 60,
        max_completion_length=700 if calls_tools else 200,
        search_top_k=1,
        log_completions=True,
        run_name="tables",
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        **settings,
    )
    trainer = TSPOTrainer(
        model=model,
        reward_funcs=[exact_match_reward, length_reward],
        args=args,
        train_dataset=rows(TRAIN),
        eval_dataset=rows(EVAL),
        retriever=BM25Retriever(index),
        protocol=ChatToolProtocol(AutoTokenizer.from_pretrained(model)) if calls_tools else None,
    )
    trainer.train()


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
