"""Cache of search results in memory and, optionally, on disk.

The cache changes no result. It keeps empty results but not failed searches. A failing disk costs speed, never the run.
"""

import logging
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..base import Passage, Retriever, SearchError, check_search, counters_of
from ..identity import RetrieverIdentity, identity_of
from .disk_cache import DiskCache

logger = logging.getLogger(__name__)


class CachedRetriever:
    """
    Cache of the results of a retriever.

    The key of a result is `k` and the exact query. The least recently used results leave the memory first. On disk the
    key includes the identity of the retriever, so that several retrievers, processes and runs can share a file. If the
    disk fails during use, a warning is logged once and the disk is no longer used.

    A cached retriever may be used in several threads. A pickled copy starts with an empty memory.

    The cache reads the identity once, when it is created. If a remote server restarts with another index, create a new
    cache.

    Args:
        retriever ([`~tspo_trl.search.Retriever`]):
            Retriever that answers new queries.
        max_entries (`int`, *optional*, defaults to `100_000`):
            Maximum number of queries to keep in memory, per process. A query with three passages of 100 words takes
            about 3 KB.
        path (`str` or `os.PathLike`, *optional*):
            SQLite file on a local disk. It grows without bound. The identity of the retriever must have a
            fingerprint. Otherwise the file could return results of another index.

    Raises:
        `ValueError`: if `max_entries` is less than 1, if `path` cannot be used, or if `path` is given and the
            retriever has no fingerprint.
    """

    def __init__(
        self, retriever: Retriever, *, max_entries: int = 100_000, path: str | os.PathLike[str] | None = None
    ):
        if max_entries < 1:
            raise ValueError(f"max_entries is {max_entries}. It must be at least 1.")
        self.retriever = retriever
        self.max_entries = max_entries
        self.path = None if path is None else Path(path).expanduser().absolute()
        self._disk = None if self.path is None else DiskCache(self.path, _checked_digest(retriever))
        self._memory: OrderedDict[tuple[int, str], list[Passage]] = OrderedDict()
        self._hits = 0
        self._misses = 0
        self._lock = threading.Lock()  # guards all state; never held during a search or a read from disk

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage] | None]:
        """
        Search a batch of queries. The retriever gets all new queries in one call, without repetitions.

        Args:
            queries (sequence of `str`):
                Any text that the retriever accepts.
            k (`int`):
                Maximum number of passages per query, at least 1.

        Returns:
            `list[list[Passage] | None]`: the passages of each query, best first, or `None` if its search failed.
            Cached queries are answered even if all new searches fail.

        Raises:
            `TypeError`: if `queries` is a single string or contains anything other than strings.
            `ValueError`: if `k` is less than 1.
            [`SearchError`]: if no query was cached and all searches failed.
        """
        check_search(queries, k)
        found = self._known(dict.fromkeys(queries), k)
        self._count(queries, found)
        missing = [query for query in dict.fromkeys(queries) if query not in found]
        if missing:
            found |= self._search_missing(missing, k, answered=len(found))
        return [list(found[query]) if query in found else None for query in queries]

    @property
    def identity(self) -> RetrieverIdentity:
        """Identity of the retriever: a cache changes no result."""
        return identity_of(self.retriever)

    def counters(self) -> dict[str, int]:
        """
        Return the counts of the retriever, and `cache_hits` and `cache_misses`.

        Returns:
            `dict[str, int]`: totals by name. A query is a hit if it was in memory or on disk when its batch arrived.
            Repeated queries of a batch count each time.
        """
        with self._lock:
            own = {"cache_hits": self._hits, "cache_misses": self._misses}
        return counters_of(self.retriever) | own

    def __repr__(self) -> str:
        path = None if self.path is None else str(self.path)
        return f"CachedRetriever({self.retriever!r}, max_entries={self.max_entries}, path={path!r})"

    def __reduce__(self) -> tuple[Callable[..., "CachedRetriever"], tuple[Retriever]]:
        return partial(CachedRetriever, max_entries=self.max_entries, path=self.path), (self.retriever,)

    def _known(self, queries: Iterable[str], k: int) -> dict[str, list[Passage]]:
        found = self._read_memory(queries, k)
        unknown = [query for query in queries if query not in found]
        if unknown:
            on_disk = self._use_disk(lambda disk: disk.get(unknown, k)) or {}
            self._write_memory(on_disk, k)
            found |= on_disk
        return found

    def _search_missing(self, queries: list[str], k: int, answered: int) -> dict[str, list[Passage]]:
        try:
            results = self.retriever.search(queries, k)
        except SearchError as error:
            if not answered:
                raise
            logger.warning("The search of %d queries failed. %d others were cached: %s", len(queries), answered, error)
            return {}
        pairs = zip(queries, results, strict=True)
        found = {query: list(passages) for query, passages in pairs if passages is not None}
        self._write_memory(found, k)
        if found:
            self._use_disk(lambda disk: disk.put(found, k))
        return found

    def _count(self, queries: Sequence[str], found: Mapping[str, list[Passage]]) -> None:
        hits = sum(query in found for query in queries)
        with self._lock:
            self._hits += hits
            self._misses += len(queries) - hits

    def _read_memory(self, queries: Iterable[str], k: int) -> dict[str, list[Passage]]:
        with self._lock:
            found = {query: self._memory[k, query] for query in queries if (k, query) in self._memory}
            for query in found:
                self._memory.move_to_end((k, query))
        return found

    def _write_memory(self, found: Mapping[str, list[Passage]], k: int) -> None:
        with self._lock:
            for query, passages in found.items():
                self._memory[k, query] = passages
                self._memory.move_to_end((k, query))
            while len(self._memory) > self.max_entries:
                self._memory.popitem(last=False)

    def _use_disk(self, action: Callable[[DiskCache], Any]) -> Any:
        """Return the result of the action, or `None` without a disk. A disk that fails is not used again."""
        disk = self._disk
        if disk is None:
            return None
        try:
            return action(disk)
        except (sqlite3.Error, ValueError, TypeError) as error:  # the last two: unexpected JSON
            self._leave_disk(error)
        return None

    def _leave_disk(self, error: Exception) -> None:
        with self._lock:
            if self._disk is None:  # another thread found the same failure
                return
            self._disk = None
        logger.warning("The cache %s failed and is no longer used: %s", self.path, error)


def _checked_digest(retriever: Retriever) -> str:
    identity = identity_of(retriever)
    if identity.fingerprint is None:
        raise ValueError(
            f"path is given, but the identity of {identity.name} has no fingerprint, so a cache on disk could return "
            "results of another index. Start a remote server first, give your own retriever an `identity` with a "
            "fingerprint, or omit `path` to cache in memory only."
        )
    return identity.digest
