"""What a person sees while the quickstart trains: a progress bar with a live line."""

from typing import Any

from transformers import ProgressCallback


class LiveLine(ProgressCallback):
    """The progress bar of transformers, with exact match, near misses and signal behind it instead of log entries."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Refresh the line."""
        bar: Any = self.training_bar
        if bar is not None and logs and "tspo/near_miss" in logs:
            bar.set_postfix_str(live_line(logs))


def live_line(logs: dict[str, float]) -> str:
    """
    One line about a training step.

    Args:
        logs (`dict[str, float]`):
            Metrics of [`TSPOTrainer`].

    Returns:
        `str`: such as `exact match .25, near misses .31, groups with signal .94`.
    """
    shares = {
        "exact match": logs["rewards/exact_match_reward/mean"],
        "near misses": logs["tspo/near_miss"],
        "groups with signal": 1 - logs["tspo/groups_without_signal"],
    }
    return ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
