"""Merge concurrent searches of many asyncio tasks into few calls of a retriever.

One batch runs at a time, in one thread, because a retriever is parallel in itself. Searches that arrive meanwhile wait
for the next batch. Results equal those of separate searches, except that the last bits of dense scores may differ:
their rounding depends on the batch. A failure reaches only the searches that caused it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from ..base import Passage, Retriever, SearchError, check_search

logger = logging.getLogger(__name__)

Results = list[list[Passage] | None]


class QueueFullError(RuntimeError):
    """Too many queries are waiting to accept another search."""


@dataclass(eq=False, slots=True)
class _Search:
    """Search of one caller. `arrival` is in the time of the event loop."""

    queries: Sequence[str]
    k: int
    arrival: float
    answer: asyncio.Future[Results]


class BatchingSearcher:
    """
    Searcher that merges concurrent searches into batches, first come, first served.

    A searcher belongs to one event loop. Call [`BatchingSearcher.start`] there before the first search and
    [`BatchingSearcher.close`] after the last.

    Args:
        retriever ([`~tspo_trl.search.Retriever`]):
            Retriever that answers the queries. It is called from one thread only.
        max_batch_size (`int`, *optional*, defaults to `512`):
            Maximum number of queries in one call of the retriever. Only a search with more queries is split.
        merge_window (`float`, *optional*, defaults to `0.002`):
            Number of seconds that the first search of a batch waits for others. With `0`, only searches that arrive
            while another batch runs are merged.
        max_waiting (`int`, *optional*, defaults to `16384`):
            Maximum number of waiting queries. Further searches are refused, but an empty queue accepts any search.

    Set `on_batch` to a function to have it called in the event loop after every batch, with its number of queries.

    Raises:
        `ValueError`: if a number is out of range.
    """

    def __init__(
        self,
        retriever: Retriever,
        *,
        max_batch_size: int = 512,
        merge_window: float = 0.002,
        max_waiting: int = 16384,
    ):
        _check_settings(max_batch_size, merge_window, max_waiting)
        self.retriever = retriever
        self.max_batch_size = max_batch_size
        self.merge_window = merge_window
        self.max_waiting = max_waiting
        self.on_batch: Callable[[int], None] = lambda queries: None
        self._queue: deque[_Search] = deque()
        self._waiting = 0
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._unanswered: set[asyncio.Future[Results]] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="search")
        self._running: Future[list[Results | Exception]] | None = None
        self._batches: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Number of queries in the queue, without those of the running batch."""
        return self._waiting

    @property
    def busy(self) -> bool:
        """Whether the retriever is searching."""
        return self._running is not None and not self._running.done()

    def start(self) -> None:
        """Start to run batches in the running event loop."""
        self._batches = asyncio.get_running_loop().create_task(self._run_batches())

    async def close(self) -> None:
        """Answer all waiting searches, wait for the running batch even if its callers gave up, then stop."""
        if self._unanswered:
            await asyncio.wait(self._unanswered)
        if self._running is not None:
            await asyncio.wait([asyncio.wrap_future(self._running)])
        if self._batches is not None:
            self._batches.cancel()
        self._thread.shutdown(wait=False)

    async def search(self, queries: Sequence[str], k: int) -> Results:
        """
        Search a batch of queries, merged with concurrent searches.

        Args:
            queries (sequence of `str`):
                The queries.
            k (`int`):
                Maximum number of passages per query.

        Returns:
            `list[list[Passage] | None]`: the results of the retriever, or all `None` if it raised a
            [`~tspo_trl.search.SearchError`], which is logged.

        Raises:
            [`QueueFullError`]: if too many queries are waiting.
            `TypeError` or `ValueError`: if the arguments are wrong.
            `Exception`: any other exception of the retriever for these queries. A `BaseException` becomes a
                `RuntimeError`.
        """
        check_search(queries, k)
        if not queries:
            return []
        if self._waiting and self._waiting + len(queries) > self.max_waiting:
            raise QueueFullError(
                f"{self._waiting} queries are waiting and {self.max_waiting} may wait. {len(queries)} more do not fit."
            )
        return await self._enqueue(queries, k).answer

    def _enqueue(self, queries: Sequence[str], k: int) -> _Search:
        loop = asyncio.get_running_loop()
        search = _Search(queries, k, loop.time(), loop.create_future())
        self._queue.append(search)
        self._count_waiting(len(queries))
        self._unanswered.add(search.answer)
        search.answer.add_done_callback(lambda answer: self._settle(search))
        return search

    def _settle(self, search: _Search) -> None:
        self._unanswered.discard(search.answer)
        if search.answer.cancelled() and search in self._queue:
            self._queue.remove(search)
            self._count_waiting(-len(search.queries))

    def _count_waiting(self, change: int) -> None:
        self._waiting += change
        _set_to(self._arrived, self._waiting > 0)
        _set_to(self._full, self._waiting >= self.max_batch_size)

    async def _run_batches(self) -> None:
        while True:
            await self._wait_for_batch()
            batch = self._take_batch()
            if not batch:  # all callers gave up
                continue
            self._running = self._thread.submit(_search_merged, self.retriever, batch, self.max_batch_size)
            outcomes = await asyncio.wrap_future(self._running)
            self.on_batch(sum(len(search.queries) for search in batch))
            for search, outcome in zip(batch, outcomes, strict=True):
                _deliver(outcome, search.answer)

    async def _wait_for_batch(self) -> None:
        """Wait for a search, then until its window ends or the batch is full."""
        while not self._queue:
            await self._arrived.wait()
        remaining = self._queue[0].arrival + self.merge_window - asyncio.get_running_loop().time()
        if remaining > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), remaining)

    def _take_batch(self) -> list[_Search]:
        batch: list[_Search] = []
        size = 0
        while self._queue and (not batch or size + len(self._queue[0].queries) <= self.max_batch_size):
            batch.append(self._queue.popleft())
            size += len(batch[-1].queries)
        self._count_waiting(-size)
        return batch


def _search_merged(
    retriever: Retriever, searches: Sequence[_Search], max_batch_size: int
) -> list[Results | Exception]:
    """Return the outcome of each search, with one call of the retriever for each `k`."""
    outcomes: dict[_Search, Results | Exception] = {}
    for k in dict.fromkeys(search.k for search in searches):
        together = [search for search in searches if search.k == k]
        outcomes.update(zip(together, _search_together(retriever, together, max_batch_size), strict=True))
    return [outcomes[search] for search in searches]


def _search_together(
    retriever: Retriever, searches: Sequence[_Search], max_batch_size: int
) -> list[Results | Exception]:
    if len(searches) == 1:
        return [_search_alone(retriever, searches[0], max_batch_size)]
    queries = list(dict.fromkeys(query for search in searches for query in search.queries))
    try:
        found = dict(zip(queries, _call(retriever, queries, searches[0].k), strict=True))
    except Exception as error:
        # A bad query must not cost the other callers their answers.
        logger.warning("The retriever raised %r for %d requests. Each is tried alone.", error, len(searches))
        return [_search_alone(retriever, search, max_batch_size) for search in searches]
    return [[found[query] for query in search.queries] for search in searches]


def _search_alone(retriever: Retriever, search: _Search, max_batch_size: int) -> Results | Exception:
    if search.answer.done():  # its caller gave up
        return []
    queries = list(dict.fromkeys(search.queries))
    found: dict[str, list[Passage] | None] = {}
    try:
        for start in range(0, len(queries), max_batch_size):
            part = queries[start : start + max_batch_size]
            found.update(zip(part, _search_part(retriever, part, search.k), strict=True))
    except Exception as error:
        return error
    return [found[query] for query in search.queries]


def _search_part(retriever: Retriever, queries: list[str], k: int) -> Results:
    try:
        return _call(retriever, queries, k)
    except SearchError as error:
        logger.warning("A batch of %d searches failed: %s", len(queries), error)
        return [None] * len(queries)


def _call(retriever: Retriever, queries: list[str], k: int) -> Results:
    try:
        return retriever.search(queries, k)
    except Exception:
        raise
    except BaseException as error:  # such as a panic in Rust, which would end the task that runs the batches
        raise RuntimeError(f"the retriever raised {type(error).__name__}: {error}") from error


def _deliver(outcome: Results | Exception, answer: asyncio.Future[Results]) -> None:
    if answer.done():  # its caller gave up
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


def _set_to(event: asyncio.Event, value: bool) -> None:
    if value:
        event.set()
    else:
        event.clear()


def _check_settings(max_batch_size: int, merge_window: float, max_waiting: int) -> None:
    if max_batch_size < 1:
        raise ValueError(f"max_batch_size is {max_batch_size}. It must be at least 1.")
    if not 0 <= merge_window <= 1:
        raise ValueError(f"merge_window is {merge_window}. It must be from 0 to 1 second. The default is 0.002.")
    if max_waiting < 1:
        raise ValueError(f"max_waiting is {max_waiting}. It must be at least 1.")
