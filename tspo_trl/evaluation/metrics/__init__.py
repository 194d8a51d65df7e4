"""Metrics of search agents as modules of Hugging Face `evaluate`, loaded from this package without a network.

Each metric is one file of this folder. [`load_metric`] takes its name, `evaluate.load` its path. Scores are means over
questions: numbers of searches, or shares between 0 and 1.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import evaluate

METRICS = ("exact_match", "f1", "cover_exact_match", "retrieval_recall", "searches")


def load_metric(name: str, **kwargs: Any) -> "evaluate.Metric":
    """
    Load a metric of this package from its file, never from the Hub.

    `evaluate` copies the file to `HF_MODULES_CACHE` and keeps predictions in `HF_METRICS_CACHE`. Both must be
    writable.

    Args:
        name (`str`):
            One of `METRICS`.
        kwargs:
            Arguments of `evaluate.load`, such as `keep_in_memory` or `experiment_id`.

    Returns:
        `evaluate.Metric`: metric with `compute`, `add` and `add_batch`.

    Raises:
        ValueError: There is no metric of that name.

    Example:

    ```python
    >>> load_metric("exact_match").compute(predictions=["The Beatles", None], references=[["Beatles"], ["Paris"]])
    {'exact_match': 0.5}
    ```
    """
    if name not in METRICS:
        raise ValueError(f"name must be one of {', '.join(map(repr, METRICS))}, got {name!r}.")

    import evaluate

    return evaluate.load(str(Path(__file__).with_name(f"{name}.py")), **kwargs)
