"""Searches that were made before are not made again.

[`CachedRetriever`] keeps results in memory, and on disk where a path is given. It changes no result: failed searches
are not kept, empty results are. A disk that fails costs speed, never the run.
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
    Remember what a retriever found.

    Results are known by `k` and the query as it is written. Those used longest ago leave the memory first. On disk
    they are also known by the retriever's identity, so that one file may serve several retrievers, processes and
    runs. If the disk fails while in use, this is logged once and searching goes on without it.

    One cached retriever may be used from several threads, and pickled: the copy starts with an empty memory.

    The identity is taken when the cache is made. A remote server that is started again with another index is not
    noticed until then: make the cache anew.

    Args:
        retriever ([`~tspo_trl.search.Retriever`]):
            What is searched.
        max_entries (`int`, *optional*, defaults to `100_000`):
            Queries to keep in memory, in each process. With three passages of 100 words each takes about 3 KB.
        path (`str` or `os.PathLike`, *optional*):
            SQLite file on a local disk, shared by all who name it. It grows without bound. Needs a retriever whose
            identity has a fingerprint, because results of another index would be served otherwise.

    Raises:
        `ValueError`: if `max_entries` is less than 1, `path` cannot be used, or the retriever has no fingerprint.
    """

    def __init__(
        self, retriever: Retriever, *, max_entries: int = 100_000, path: str | os.PathLike[str] | None = None
    ):
        if max_entries < 1:
            raise ValueError(f"max_entries is {max_entries}: at least one query has to be kept.")
        self.retriever = retriever
        self.max_entries = max_entries
        self.path = None if path is None else Path(path).expanduser().absolute()
        self._disk = None if self.path is None else DiskCache(self.path, _checked_digest(retriever))
        self._memory: OrderedDict[tuple[int, str], list[Passage]] = OrderedDict()
        self._hits = 0
        self._misses = 0
        self._lock = threading.Lock()  # guards all that changes; nothing is searched or read from disk under it

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage] | None]:
        """
        Search a batch of queries. The retriever is asked once for those that are not known, each a single time.

        Args:
            queries (sequence of `str`):
                Any text that the retriever takes.
            k (`int`):
                How many passages to return at most for each query, at least 1.

        Returns:
            `list[list[Passage] | None]`: for each query in order its passages, best first; `None` where the search
            failed. Where all the searches made failed, known queries are still answered.

        Raises:
            `TypeError`: if `queries` is a single string or holds something else than strings.
            `ValueError`: if `k` is less than 1.
            [`SearchError`]: if no query was known and all searches failed.
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
        """That of the retriever: a cache changes no result."""
        return identity_of(self.retriever)

    def counters(self) -> dict[str, int]:
        """
        What the retriever counts, and `cache_hits` and `cache_misses`.

        Returns:
            `dict[str, int]`: totals by name. A query is a hit if it was known, in memory or on disk, when its batch
            came; every query of a batch counts, repeated ones again.
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
            logger.warning("The search of %d queries failed, %d others were known: %s", len(queries), answered, error)
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
        """What the action gives; `None` without a disk, and where it fails, which is its end."""
        disk = self._disk
        if disk is None:
            return None
        try:
            return action(disk)
        except (sqlite3.Error, ValueError, TypeError) as error:  # the last two: JSON of another form
            self._leave_disk(error)
        return None

    def _leave_disk(self, error: Exception) -> None:
        with self._lock:
            if self._disk is None:  # another thread has met the same failure
                return
            self._disk = None
        logger.warning("The cache %s failed, going on without it: %s", self.path, error)


def _checked_digest(retriever: Retriever) -> str:
    identity = identity_of(retriever)
    if identity.fingerprint is None:
        raise ValueError(
            f"path is given, but it is not known which index {identity.name} searches, and a cache on disk could "
            "answer from another one. Start a remote server before this, give a retriever of your own an `identity` "
            "with a fingerprint, or leave out `path` to cache in memory only."
        )
    return identity.digest
