"""The interface of a search engine: a [`Retriever`] returns one ranked list of [`Passage`]s for each query.

A failed search is never an empty result. Its entry is `None`. If every search fails, [`SearchError`] is raised.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from ..protocols.passages import Passage


class Retriever(Protocol):
    """
    A search engine, such as a BM25 index, a dense index or a remote server.

    Only `search` is required. Two members are optional: a property `identity`
    ([`~tspo_trl.search.RetrieverIdentity`]), which is logged and saved in checkpoints, and a method `counters()`,
    see [`counters_of`].
    """

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage] | None]:
        """
        Search a batch of queries.

        Args:
            queries (sequence of `str`):
                Any text. Empty, long or malformed queries must not raise.
            k (`int`):
                Maximum number of passages for each query.

        Returns:
            `list[list[Passage] | None]`: one entry per query, in the order of the queries. An entry is a list of at
            most `k` passages, best first (empty if nothing was found), or `None` if the search failed after retries.

        Raises:
            [`SearchError`]: if every search failed.
        """
        ...


class SearchError(RuntimeError):
    """Every search of a batch failed."""


def counters_of(retriever: Any) -> dict[str, int]:
    """
    Return the counters of a retriever, such as its requests or cache hits.

    Args:
        retriever ([`Retriever`]):
            Any retriever, with or without a method `counters()`.

    Returns:
        `dict[str, int]`: totals by name since the retriever was created. Empty if it has no counters.
    """
    counters = getattr(retriever, "counters", None)
    return dict(counters()) if callable(counters) else {}


def check_search(queries: Sequence[str], k: int) -> None:
    """
    Check the arguments of [`Retriever.search`].

    Args:
        queries (sequence of `str`):
            The queries.
        k (`int`):
            Passages for each query.

    Raises:
        `TypeError`: if `queries` is a single string or contains anything other than strings.
        `ValueError`: if `k` is less than 1.
    """
    if isinstance(queries, str):
        raise TypeError(f"queries is the single string {queries[:80]!r}. Pass a list of strings.")
    for position, query in enumerate(queries):
        if not isinstance(query, str):
            raise TypeError(f"queries[{position}] is {query!r}. Every query must be a string.")
    check_positive(k=k)


def check_positive(**values: int | None) -> None:
    """
    Check arguments that are counts.

    Args:
        **values (`int`, *optional*):
            The arguments by name. `None` is not checked.

    Raises:
        `ValueError`: if a value is less than 1.
    """
    for name, value in values.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}. It must be at least 1.")


MAX_QUERY_LENGTH = 16384


def searchable(query: str) -> str:
    """
    Return a query that every search engine accepts.

    Args:
        query (`str`):
            Any text.

    Returns:
        `str`: its first 16,384 characters, which is the default limit of `tspo-trl serve`, as valid Unicode.
    """
    return well_formed(query[:MAX_QUERY_LENGTH])


def well_formed(text: str) -> str:
    """
    Replace lone surrogates, which a model may generate but UTF-8, Java and tokenizers reject.

    Args:
        text (`str`):
            Any text.

    Returns:
        `str`: valid Unicode.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
