"""Batches of a run: its questions, rollouts and optimizer steps."""

import math
from dataclasses import dataclass

from ..trainer.config import TSPOConfig


@dataclass(frozen=True)
class BatchPlan:
    """
    Numbers of questions, rollouts and steps of a run.

    Args:
        num_processes (`int`):
            Number of processes.
        group_size (`int`):
            Rollouts of a question.
        completions_per_generation (`int`):
            Rollouts that all processes together make at once.
        completions_per_step (`int`):
            Rollouts that one optimizer step learns from.
        steps_per_generation (`int`):
            Optimizer steps on the rollouts of one generation. All but the first are off-policy.
        steps_per_epoch (`int`):
            Optimizer steps in which every question is asked once; 0 if one generation needs more questions.
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
        """Questions asked at once."""
        return self.completions_per_generation // self.group_size

    @property
    def questions_per_step(self) -> float:
        """Rollouts of an optimizer step in questions. It need not be whole, because TRL shuffles rollouts."""
        return self.completions_per_step / self.group_size

    @property
    def generations(self) -> int:
        """Number of times that rollouts are made."""
        return math.ceil(self.steps / self.steps_per_generation)

    @property
    def rollouts(self) -> int:
        """Rollouts of the run."""
        return self.generations * self.completions_per_generation

    @property
    def epochs(self) -> float:
        """Number of times that every question is asked."""
        return self.steps / self.steps_per_epoch if self.steps_per_epoch else math.nan

    def describe(self, args: TSPOConfig) -> list[str]:
        """Return the lines of the report."""
        return [
            f"a generation makes {self.completions_per_generation:,} rollouts: {self.questions_per_generation:,} "
            f"questions times {self.group_size} (`per_device_train_batch_size` {args.per_device_train_batch_size} x "
            f"{self.num_processes} processes x `steps_per_generation` {args.steps_per_generation})",
            f"an optimizer step learns from {self.completions_per_step:,} rollouts, {self.questions_per_step:g} "
            f"questions' worth; there are {self.steps_per_generation} steps per generation",
            f"{self.steps:,} optimizer steps are {self.generations:,} generations, {self.rollouts:,} rollouts and "
            f"{self.epochs:.2f} epochs of {self.steps_per_epoch:,} steps",
        ]

    def check(self, args: TSPOConfig, num_questions: int) -> None:
        """Raise a `ValueError` if there are too few questions or vLLM's GPUs do not divide the processes."""
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"`train_file` has {num_questions:,} questions, but one generation asks "
                f"{self.questions_per_generation:,}. Lower `per_device_train_batch_size` or `steps_per_generation`, "
                "or add questions."
            )
        size = args.vllm_tensor_parallel_size
        if args.use_vllm and args.vllm_mode == "colocate" and self.num_processes % size:
            raise ValueError(
                f"`vllm_tensor_parallel_size={size}` does not divide {self.num_processes} processes. Choose one that "
                "does."
            )


def plan_batches(args: TSPOConfig, num_questions: int) -> BatchPlan:
    """
    Compute the batches of a run as TRL does.

    Args:
        args ([`TSPOConfig`]):
            Configuration, made by [`planned_config`] if the run has more than one process.
        num_questions (`int`):
            Number of rows of the training set.

    Returns:
        [`BatchPlan`]

    Raises:
        ValueError: A generation ends in the middle of an optimizer step.
    """
    completions, batches, group_size = args.generation_batch_size, args.steps_per_generation, args.num_generations
    # `__post_init__` has set them.
    assert completions is not None
    assert batches is not None
    assert group_size is not None
    batches *= args.num_iterations  # of each process on the rollouts of one generation
    accumulation = args.gradient_accumulation_steps
    if batches % accumulation:
        raise ValueError(
            f"`steps_per_generation={args.steps_per_generation}` times `num_iterations={args.num_iterations}` is "
            f"{batches}, not a multiple of `gradient_accumulation_steps={accumulation}`: an optimizer step would mix "
            "two generations. Change one of them."
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
