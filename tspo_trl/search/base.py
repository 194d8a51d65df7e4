"""What a search engine is to this package.

A [`Retriever`] takes a batch of queries and gives one ranked list of [`Passage`]s per query. A search that failed is
never an empty result: its entry is `None`, and when nothing could be searched at all, [`SearchError`] is raised.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from ..protocols.passages import Passage


class Retriever(Protocol):
    """
    Anything that searches: a BM25 index, a dense one, a remote server.

    Only `search` is needed. A retriever may also have a property `identity` ([`~tspo_trl.search.RetrieverIdentity`]),
    which is logged and kept in checkpoints, and a method `counters()`, see [`counters_of`].
    """

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage] | None]:
        """
        Search a batch of queries.

        Args:
            queries (sequence of `str`):
                Any text: empty, long or malformed queries must not raise.
            k (`int`):
                How many passages to return at most for each query.

        Returns:
            `list[list[Passage] | None]`: one entry per query, in the order of the queries; each a list of at most `k`
            passages, best first (empty where nothing was found), or `None` where that search failed after retries.

        Raises:
            [`SearchError`]: if every search failed.
        """
        ...


class SearchError(RuntimeError):
    """The search backend failed: not one query of the batch could be searched."""


def counters_of(retriever: Any) -> dict[str, int]:
    """
    What a retriever counts, such as requests or cache hits.

    Args:
        retriever ([`Retriever`]):
            One with a method `counters()`, or any other.

    Returns:
        `dict[str, int]`: totals since the retriever was made, by name; empty where it counts nothing.
    """
    counters = getattr(retriever, "counters", None)
    return dict(counters()) if callable(counters) else {}


def check_search(queries: Sequence[str], k: int) -> None:
    """
    Check the arguments of a search.

    Args:
        queries (sequence of `str`):
            The queries.
        k (`int`):
            Passages to return for each.

    Raises:
        `TypeError`: if `queries` is a single string or holds something else than strings.
        `ValueError`: if `k` is less than 1.
    """
    if isinstance(queries, str):
        raise TypeError(f"queries is the single string {queries[:80]!r}: pass a list of strings.")
    for position, query in enumerate(queries):
        if not isinstance(query, str):
            raise TypeError(f"queries[{position}] is {query!r}: every query has to be a string.")
    if k < 1:
        raise ValueError(f"k is {k}: at least one passage has to be asked for.")


def well_formed(text: str) -> str:
    """
    Text that UTF-8, Java and every tokenizer can carry. A model may write what they cannot.

    Args:
        text (`str`):
            Any text.

    Returns:
        `str`: the text with every lone surrogate replaced.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
