"""Evaluates a policy on the held-out questions with the trainer's rollouts."""

from pathlib import Path
from statistics import fmean
from typing import Any

from ..trainer.trainer import TSPOTrainer
from ..trajectory import read_json_lines


def evaluate(trainer: TSPOTrainer, stage: str) -> dict[str, float]:
    """
    Evaluate the policy with rollouts sampled as in training, and greedily.

    Args:
        trainer ([`TSPOTrainer`]):
            Trainer with an `eval_dataset`. It samples `num_generations_eval` rollouts per question.
        stage (`str`):
            `"before"` or `"after"`. The trajectories are written to `eval_before_step_*.jsonl` and so on.

    Returns:
        `dict[str, float]`: `exact_match`, `retrieval_rate` (share of rollouts with a gold answer in the evidence),
        `near_miss` and `greedy_exact_match`.
    """
    sampled = _rollouts(trainer, f"eval_{stage}", is_greedy=False)
    greedy = _rollouts(trainer, f"eval_{stage}_greedy", is_greedy=True)
    return {
        "exact_match": fmean(record["outcome"] for record in sampled),
        "retrieval_rate": fmean(record["first_occurrence"] is not None for record in sampled),
        "near_miss": fmean(not record["outcome"] and record["first_occurrence"] is not None for record in sampled),
        "greedy_exact_match": fmean(record["outcome"] for record in greedy),
    }


def _rollouts(trainer: TSPOTrainer, prefix: str, *, is_greedy: bool) -> list[dict[str, Any]]:
    trainer.args.greedy_evaluation = is_greedy
    trainer.evaluate(metric_key_prefix=prefix)
    name = f"{prefix}_step_{trainer.state.global_step:06d}.jsonl"
    return list(read_json_lines(Path(str(trainer.args.output_dir)) / "trajectories" / name))
