"""The seven question sets for training and evaluating search agents, with FlashRAG's splits."""

BENCHMARKS: dict[str, tuple[str, ...]] = {
    "nq": ("train", "dev", "test"),
    "triviaqa": ("train", "dev", "test"),
    "popqa": ("test",),
    "hotpotqa": ("train", "dev"),
    "2wikimultihopqa": ("train", "dev"),
    "musique": ("train", "dev"),
    "bamboogle": ("test",),
}
"""Splits of each set. The sets are in the order of Search-R1's tables."""

TRAINING_MIX = ("nq", "hotpotqa")
"""Training sets of Search-R1."""


def evaluation_split(name: str) -> str:
    """
    Return the split for evaluation: the test split if the set has one, else the development split, as in Search-R1.

    Args:
        name (`str`):
            Name of the set.

    Returns:
        `str`: `"test"` or `"dev"`.

    Raises:
        ValueError: There is no such set.
    """
    check_benchmark(name)
    return "test" if "test" in BENCHMARKS[name] else "dev"


def check_benchmark(name: str, split: str | None = None) -> None:
    """Raise `ValueError` with the known names unless the set, and the split if given, exist."""
    if name not in BENCHMARKS:
        raise ValueError(f"There is no benchmark {name!r}. Choose one of {', '.join(BENCHMARKS)}.")
    if split is not None and split not in BENCHMARKS[name]:
        raise ValueError(f"{name} has no split {split!r}. Choose one of {', '.join(BENCHMARKS[name])}.")
