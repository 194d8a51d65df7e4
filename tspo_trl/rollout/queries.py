"""Queries of the policy, sent so that no query makes a search fail.

A rollout with a failed search is left out of the loss. So a policy must not be able to make its own searches fail.
"""

import logging
import time
from collections.abc import Sequence

from ..search.base import Passage, Retriever, SearchError, searchable

logger = logging.getLogger(__name__)

_PLAIN_LENGTH = 1000  # characters of a query that is asked again
_ISOLATION_TIME = 60.0  # seconds to find the queries for which the retriever raises
_MAX_FAILURES = 8  # of single queries, before a retriever that answers nothing is given up


def ask(retriever: Retriever, queries: Sequence[str], top_k: int) -> dict[str, list[Passage]]:
    """
    Search queries of the policy. A failing retriever never raises.

    Queries are cut and made valid Unicode, see [`~tspo_trl.search.base.searchable`]. A query that fails is asked once
    more if it is longer than 1,000 characters or has control characters: shortened, with spaces in their place. A
    blank query that fails finds nothing.

    Args:
        retriever ([`~tspo_trl.search.Retriever`]):
            Search engine.
        queries (sequence of `str`):
            Distinct queries, any text.
        top_k (`int`):
            Passages per query.

    Returns:
        `dict[str, list[Passage]]`: passages of each query that did not fail.
    """
    sent = {query: searchable(query) for query in queries}
    found = _search(retriever, list(dict.fromkeys(sent.values())), top_k)
    plain = {query: _plain(query) for query in sent.values() if query not in found}
    again = [text for query, text in plain.items() if text and text != query and text not in found]
    answers = {"": [], **found, **(_search(retriever, list(dict.fromkeys(again)), top_k) if again else {})}
    found |= {query: answers[text] for query, text in plain.items() if text in answers}
    return {query: found[text] for query, text in sent.items() if text in found}


def _plain(query: str) -> str:
    printable = "".join(character if character.isprintable() else " " for character in query)
    return printable[:_PLAIN_LENGTH].strip()


def _search(retriever: Retriever, queries: list[str], top_k: int) -> dict[str, list[Passage]]:
    """Search all queries in one call. If the retriever raises, search for the query that makes it raise."""
    deadline = time.monotonic() + _ISOLATION_TIME
    found: dict[str, list[Passage]] = {}
    waiting, failures = [queries], 0
    while waiting:
        batch = waiting.pop()
        try:
            found |= _found_passages(batch, retriever.search(batch, top_k), top_k)
        except Exception as error:
            failures += len(batch) == 1
            is_down = (failures >= _MAX_FAILURES and not found) or time.monotonic() > deadline
            # A `SearchError` says that every query failed.
            if len(batch) > 1 and not is_down and not isinstance(error, SearchError):
                logger.warning("A search of %d queries failed. Each half is tried alone: %r", len(batch), error)
                waiting += [batch[len(batch) // 2 :], batch[: len(batch) // 2]]
                continue
            logger.warning("A search of %d queries failed; their rollouts are left out.", len(batch), exc_info=True)
            if is_down:
                break
    return found


def _found_passages(
    queries: list[str], results: Sequence[Sequence[Passage] | None], top_k: int
) -> dict[str, list[Passage]]:
    """Return the passages of each query that did not fail, and check them, because users write retrievers."""
    if len(results) != len(queries):
        raise ValueError(f"The retriever returned {len(results)} results for {len(queries)} queries.")
    found = {
        query: list(passages)[:top_k] for query, passages in zip(queries, results, strict=True) if passages is not None
    }
    for passage in (passage for passages in found.values() for passage in passages):
        if not isinstance(passage, Passage):
            raise TypeError(f"The retriever returned {passage!r} where a `Passage` is needed.")
    return found
