"""Evaluation of a policy on the held-out questions, with the trainer's own rollouts."""

from contextlib import contextmanager
from typing import Any

from ..trainer import TSPOTrainer


def evaluate(trainer: TSPOTrainer, stage: str) -> dict[str, float]:
    """
    Exact match and retrieval on the evaluation questions, sampled as in training and greedily.

    Args:
        trainer ([`TSPOTrainer`]):
            With an `eval_dataset`, and `num_generations_eval` sampled rollouts a question.
        stage (`str`):
            `"before"` or `"after"`: the trajectories go to `eval_before_step_*.jsonl` and so on.

    Returns:
        `dict[str, float]`: `exact_match`, `retrieval_rate` (share of rollouts whose evidence holds a gold answer),
        `near_miss` and `greedy_exact_match`.
    """
    sampled = trainer.evaluate(metric_key_prefix=f"eval_{stage}")
    with _greedy(trainer):
        greedy = trainer.evaluate(metric_key_prefix=f"eval_{stage}_greedy")
    return {
        "exact_match": sampled["eval_rewards/exact_match_reward/mean"],
        "retrieval_rate": sampled["eval_tspo/near_miss"] + sampled["eval_tspo/complete_success"],
        "near_miss": sampled["eval_tspo/near_miss"],
        "greedy_exact_match": greedy["eval_rewards/exact_match_reward/mean"],
    }


@contextmanager
def _greedy(trainer: Any):
    """One rollout a question, of the most probable tokens."""
    kept = trainer.num_generations_eval
    trainer.num_generations_eval, trainer.generation_config.do_sample = 1, False
    try:
        yield
    finally:
        trainer.num_generations_eval, trainer.generation_config.do_sample = kept, True
