"""Shows a progress bar with a line of metrics during the quickstart."""

from typing import Any

from transformers import ProgressCallback


class LiveLine(ProgressCallback):
    """Progress bar that shows exact match, near misses and signal instead of log entries."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Refresh the line."""
        bar: Any = self.training_bar
        if bar is not None and logs and "tspo/near_miss" in logs:
            bar.set_postfix_str(live_line(logs))


def live_line(logs: dict[str, float]) -> str:
    """Format [`TSPOTrainer`]'s metrics, such as `exact match 0.25, near misses 0.31, groups with signal 0.94`."""
    shares = {
        "exact match": logs["rewards/exact_match_reward/mean"],
        "near misses": logs["tspo/near_miss"],
        "groups with signal": 1 - logs["tspo/groups_without_signal"],
    }
    return ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
