"""What [`TSPOTrainer.evaluate`] adds to TRL's: greedy decoding, and scores over questions instead of batches."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from accelerate.utils import gather_object
from trl import GRPOTrainer

from ..trajectory import Trajectory
from .metrics import mean_scores, score_rollout


@contextmanager
def greedy_evaluation(trainer: GRPOTrainer) -> Iterator[None]:
    """
    Have a trainer evaluate with one rollout of the most probable tokens for each question.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            The trainer, initialised; either backend.
    """
    own: Any = trainer
    if own.use_vllm:
        # What stands there wins over the trainer's own temperature.
        sampler, name = own.vllm_generation, "generation_kwargs"
        greedy: Any = {**sampler.generation_kwargs, "temperature": 0.0}
    else:
        sampler, name, greedy = own.generation_config, "do_sample", False
    kept = own.num_generations_eval, getattr(sampler, name)
    own.num_generations_eval = 1
    setattr(sampler, name, greedy)
    try:
        yield
    finally:
        own.num_generations_eval = kept[0]
        setattr(sampler, name, kept[1])


class EvaluationScores:
    """The scores of one evaluation, of all processes, batch by batch."""

    def __init__(self) -> None:
        self._scores: list[tuple[str | None, dict[str, float] | None]] = []

    def add(
        self, trajectories: Sequence[Trajectory], rows: Sequence[Mapping[str, Any]], first_hits: Sequence[int]
    ) -> None:
        """
        Score this process's part of a batch; a collective operation.

        Args:
            trajectories (sequence of [`~tspo_trl.trajectory.Trajectory`]):
                The rollouts.
            rows (sequence of mappings):
                The dataset row that each answers, with `golden_answers`.
            first_hits (sequence of `int`):
                Zero-based turn of the first occurrence, -1 for never.
        """
        own = [
            (row.get("data_source"), None)
            if trajectory.end_reason == "search_failed"
            else (
                row.get("data_source"),
                score_rollout(trajectory, row["golden_answers"], None if first_hit < 0 else first_hit),
            )
            for trajectory, row, first_hit in zip(trajectories, rows, first_hits, strict=True)
        ]
        self._scores += gather_object(own)

    def means(self, num_rollouts: int | None, prefix: str) -> dict[str, float]:
        """
        The mean scores, see [`~tspo_trl.trainer.metrics.mean_scores`].

        Args:
            num_rollouts (`int`, *optional*):
                Rollouts of the evaluation, where that is known: what is beyond them was repeated to fill up the
                processes' last batches.
            prefix (`str`):
                Prefix of the names, such as `"eval"`.

        Returns:
            `dict[str, float]`: empty where nothing was added.
        """
        counted = self._scores[:num_rollouts]
        if not counted:
            return {}
        means = mean_scores([scores for _, scores in counted], [source for source, _ in counted])
        return {f"{prefix}_{name}": value for name, value in means.items()}
