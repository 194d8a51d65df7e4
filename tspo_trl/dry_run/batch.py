"""The arithmetic of batches: questions, rollouts and optimizer steps of a run."""

import math
from dataclasses import dataclass

from ..trainer.config import TSPOConfig


@dataclass(frozen=True)
class BatchPlan:
    """
    What a run does with its questions. TRL counts batches in completions; so do these numbers, unless they say else.

    Args:
        num_processes (`int`):
            Number of processes.
        group_size (`int`):
            Rollouts of a question.
        completions_per_generation (`int`):
            Rollouts that are made at once, by all processes together.
        completions_per_step (`int`):
            Rollouts that one optimizer step learns from.
        steps_per_generation (`int`):
            Optimizer steps between one generation and the next. The later ones are off-policy.
        steps_per_epoch (`int`):
            Optimizer steps until every question was asked; 0 where there are too few questions for one generation.
        steps (`int`):
            Optimizer steps of the run.
    """

    num_processes: int
    group_size: int
    completions_per_generation: int
    completions_per_step: int
    steps_per_generation: int
    steps_per_epoch: int
    steps: int

    @property
    def questions_per_generation(self) -> int:
        """Questions that are asked at once."""
        return self.completions_per_generation // self.group_size

    @property
    def questions_per_step(self) -> float:
        """Questions' worth of rollouts in an optimizer step. It need not be whole: TRL shuffles rollouts."""
        return self.completions_per_step / self.group_size

    @property
    def generations(self) -> int:
        """Times that rollouts are made."""
        return math.ceil(self.steps / self.steps_per_generation)

    @property
    def rollouts(self) -> int:
        """Rollouts of the run."""
        return self.generations * self.completions_per_generation

    @property
    def epochs(self) -> float:
        """Times that every question is asked."""
        return self.steps / self.steps_per_epoch if self.steps_per_epoch else math.nan


def plan_batches(args: TSPOConfig, num_questions: int) -> BatchPlan:
    """
    Work out a run's batches as TRL does.

    Args:
        args ([`TSPOConfig`]):
            The configuration, see [`planned_config`] for one of more than one process.
        num_questions (`int`):
            Rows of the training set.

    Returns:
        [`BatchPlan`]

    Raises:
        ValueError: Rollouts are made anew in the middle of an optimizer step.
    """
    completions, batches, group_size = args.generation_batch_size, args.steps_per_generation, args.num_generations
    if completions is None or batches is None or group_size is None:
        raise ValueError("The configuration was not completed: its `__post_init__` did not run.")
    batches *= args.num_iterations  # between one generation and the next, of each process
    accumulation = args.gradient_accumulation_steps
    if batches % accumulation:
        raise ValueError(
            f"`steps_per_generation={args.steps_per_generation}` times `num_iterations={args.num_iterations}` is "
            f"{batches}, no multiple of `gradient_accumulation_steps={accumulation}`: an optimizer step would mix two "
            "generations. Change one of them."
        )
    generations = num_questions // (completions // group_size)
    steps_per_epoch = generations * batches // accumulation
    return BatchPlan(
        num_processes=args.world_size,
        group_size=group_size,
        completions_per_generation=completions,
        completions_per_step=args.per_device_train_batch_size * args.world_size * accumulation,
        steps_per_generation=batches // accumulation,
        steps_per_epoch=steps_per_epoch,
        steps=args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * steps_per_epoch),
    )
