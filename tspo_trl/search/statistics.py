"""Statistics of the searches of a batch of rollouts."""

from dataclasses import dataclass, field


@dataclass
class SearchStatistics:
    """
    Counts and duration of the searches of one batch of rollouts.

    Args:
        queries (`int`):
            Searches that the rollouts requested.
        sent (`int`):
            Distinct queries that were sent to the retriever.
        cached (`int`):
            Searches that were not sent, because the batch had already searched the same query.
        failed (`int`):
            Searches that failed, including repeated queries.
        empty (`int`):
            Searches that found no passage.
        calls (`int`):
            Calls of the retriever.
        seconds (`float`):
            Total duration of these calls.
        counters (`dict[str, int]`):
            Increase of the retriever's own counters, such as retries or cache hits, see
            [`~tspo_trl.search.base.counters_of`].
    """

    queries: int = 0
    sent: int = 0
    cached: int = 0
    failed: int = 0
    empty: int = 0
    calls: int = 0
    seconds: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)
