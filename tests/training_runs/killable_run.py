"""A training run in its own process, which a test kills."""

from datasets import Dataset
from transformers import TrainerCallback

from tspo_trl import TSPOConfig, TSPOTrainer
from tspo_trl.search import BM25Retriever
from tspo_trl.trainer.checkpoints import last_complete_checkpoint

MAX_STEPS = 6
COUNTRIES = {"France": "Paris", "Germany": "Berlin", "Spain": "Madrid", "Italy": "Rome"}
QUESTIONS = Dataset.from_list(
    [
        {"question": f"What is the {word} of {country}?", "golden_answers": [capital]}
        for country, capital in COUNTRIES.items()
        for word in ("capital", "seat")
    ]
)


def length_reward(completions, **kwargs):
    """Reward all rollouts differently, so that every step changes the parameters."""
    return [len(text) / 1000 for text in completions]


class Announce(TrainerCallback):
    """Callback that announces the beginning of training through a pipe."""

    def __init__(self, pipe):
        self.pipe = pipe

    def on_train_begin(self, args, state, control, **kwargs):
        self.pipe.send("begun")


def train(output_dir, model, index, pipe):
    """Train for six steps, from the last complete checkpoint if there is one.

    A step has two of eight questions, an epoch has four steps, and every second step uses the rollouts of the step
    before. Every step ends with a checkpoint (two are kept), and every second one with an evaluation before that.
    """
    args = TSPOConfig(
        output_dir=str(output_dir),
        max_steps=MAX_STEPS,
        num_iterations=2,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=4,
        num_generations=4,
        max_turns=2,
        max_turn_length=24,
        max_feedback_length=60,
        max_completion_length=200,
        search_top_k=1,
        learning_rate=1e-3,
        logging_steps=1,
        save_steps=1,
        save_total_limit=2,
        eval_strategy="steps",
        eval_steps=2,
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    trainer = TSPOTrainer(
        model=str(model),
        reward_funcs=length_reward,
        args=args,
        train_dataset=QUESTIONS,
        eval_dataset=QUESTIONS.select(range(2)),
        retriever=BM25Retriever(index),
        callbacks=[Announce(pipe)],
    )
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(output_dir))
