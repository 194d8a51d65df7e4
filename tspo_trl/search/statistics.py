"""What the searches of a batch of rollouts cost."""

from dataclasses import dataclass, field


@dataclass
class SearchStatistics:
    """
    What the searches of one batch of rollouts cost.

    Args:
        queries (`int`):
            Searches that the rollouts asked for.
        sent (`int`):
            Distinct queries that went to the retriever.
        cached (`int`):
            Searches not sent, because an equal query of the same batch of rollouts had been.
        failed (`int`):
            Searches that failed, repeated queries included.
        empty (`int`):
            Searches that found no passage.
        calls (`int`):
            Calls of the retriever.
        seconds (`float`):
            Duration of these calls together.
        counters (`dict[str, int]`):
            What the retriever itself counted meanwhile, such as retries or cache hits, see
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
