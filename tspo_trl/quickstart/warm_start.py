"""Warm-starts a policy with supervised training on demonstrations.

In the first part the policy learns from correct demonstrations to search, read and copy. In the second, shorter part
it learns bad habits from demonstrations that are mostly wrong. The resulting policy can do each step of a correct
rollout, but seldom does them all. Most of its rollouts are wrong, and many are near misses.
"""

import random
import tempfile
from collections.abc import Mapping
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from ..data.demonstrations import demonstrate, encode_demonstrations
from ..data.searchworld import SearchWorld
from ..data.tokenizer import searchworld_tokenizer
from ..search.base import Retriever
from .policy import make_policy

RIGHT = {"right": 1.0}
BAD_HABITS = {"right": 0.02, "stops_early": 0.5, "misreads": 0.05, "searches_on": 0.35, "wanders": 0.08}
"""Share of each habit in the second part."""

_BATCH_SIZE = 32


def warm_start(
    world: SearchWorld, retriever: Retriever, output: Path, *, seed: int = 0, steps: int = 400, top_k: int = 2
) -> None:
    """
    Make a policy and train it on demonstrations of the world's training questions.

    Args:
        world ([`SearchWorld`]):
            World of the questions.
        retriever ([`~tspo_trl.search.Retriever`]):
            Search engine of the world's corpus.
        output (`Path`):
            Folder for the policy and its tokenizer.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the weights and of the demonstrations.
        steps (`int`, *optional*, defaults to `400`):
            Training steps of 32 demonstrations. Three fifths of the steps use correct demonstrations.
        top_k (`int`, *optional*, defaults to `2`):
            Passages per search.
    """
    tokenizer = searchworld_tokenizer()
    model = make_policy(tokenizer, seed=seed)
    generator = random.Random(seed)
    habit_steps = 2 * steps // 5
    parts = ((RIGHT, steps - habit_steps, 3e-3), (BAD_HABITS, habit_steps, 1e-3))
    for habits, part_steps, learning_rate in parts:
        if part_steps:
            imitate(
                model,
                tokenizer,
                world,
                retriever,
                habits,
                generator,
                steps=part_steps,
                learning_rate=learning_rate,
                seed=seed,
                top_k=top_k,
            )
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


def imitate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    world: SearchWorld,
    retriever: Retriever,
    habits: Mapping[str, float],
    generator: random.Random,
    *,
    steps: int,
    learning_rate: float,
    seed: int = 0,
    top_k: int = 2,
    max_turns: int = 4,
) -> None:
    """
    Train a policy in place on demonstrations with certain habits.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Policy to train.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of [`~tspo_trl.data.searchworld_tokenizer`].
        world ([`SearchWorld`]):
            World of the questions.
        retriever ([`~tspo_trl.search.Retriever`]):
            Search engine of the world's corpus.
        habits (`Mapping[str, float]`):
            Share of each habit, see [`~tspo_trl.data.demonstrations.HABITS`].
        generator (`random.Random`):
            Source of random choices of questions, habits and names.
        steps (`int`):
            Training steps of 32 demonstrations.
        learning_rate (`float`):
            Maximum learning rate.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the training.
        top_k (`int`, *optional*, defaults to `2`):
            Passages per search.
        max_turns (`int`, *optional*, defaults to `4`):
            Turns in which a demonstration may search.
    """
    demonstrations = [
        demonstrate(world, generator.choice(world.train_questions), habit, generator, max_turns=max_turns)
        for habit in generator.choices(list(habits), list(habits.values()), k=steps * _BATCH_SIZE)
    ]
    examples = encode_demonstrations(demonstrations, tokenizer, retriever, top_k=top_k, generator=generator)
    with tempfile.TemporaryDirectory() as nothing_to_keep:
        args = _sft_config(nothing_to_keep, learning_rate, seed)
        SFTTrainer(model, args, train_dataset=Dataset.from_list(examples), processing_class=tokenizer).train()


def _sft_config(output_dir: str, learning_rate: float, seed: int) -> SFTConfig:
    return SFTConfig(
        output_dir=output_dir,
        per_device_train_batch_size=_BATCH_SIZE,
        num_train_epochs=1,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=20,
        adam_beta2=0.95,
        weight_decay=0.0,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        seed=seed,
    )
