"""BM25 over a Lucene index.

Ranking and scores are those of Pyserini's `LuceneSearcher`. [`BM25Retriever`] uses the same Anserini class, without
Pyserini's heavy imports.
"""

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..base import Passage, SearchError, check_search, well_formed
from ..identity import RetrieverIdentity
from ..indexing.lucene import document_passage, first_line, java_exception, open_lucene_index
from ..java import java_class
from .forking import ForkGuard

logger = logging.getLogger(__name__)


class BM25Retriever:
    """
    BM25 search in a Lucene index from `tspo-trl index` or Pyserini.

    A batch of queries is searched in parallel on all processors. Several Python threads may share a retriever. It can
    be pickled; the copy opens the index again, so the folder must still exist. Java does not survive a fork, so in a
    forked process (such as a worker of a `DataLoader`) the retriever starts a new process that searches.

    Args:
        index (`str` or `os.PathLike`):
            Folder of the index. It stores documents as JSON (`--storeRaw`), either `{"id", "contents"}` or
            `{"id", "title", "text"}`, or only their contents (`--storeContents`).
        k1 (`float`, *optional*, defaults to `0.9`):
            BM25's term frequency saturation, at least 0. The default is Pyserini's.
        b (`float`, *optional*, defaults to `0.4`):
            BM25's length normalisation, from 0 to 1. The default is Pyserini's.

    Raises:
        `FileNotFoundError`: if the folder does not exist.
        `ValueError`: if it contains no Lucene index, or one that is empty or stores no text; if `k1` or `b` is out of
            range.
        [`~tspo_trl.search.JavaNotFoundError`]: if there is no suitable Java.
    """

    def __init__(self, index: str | os.PathLike[str], *, k1: float = 0.9, b: float = 0.4):
        _check_parameters(k1, b)
        self.k1, self.b = float(k1), float(b)
        self.index, self._searcher, self._fingerprint = open_lucene_index(index)
        self._fork_guard = ForkGuard()
        self._searcher.set_bm25(self.k1, self.b)
        self._size = int(self._searcher.get_total_num_docs())
        self._check_documents()

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage] | None]:
        """
        Search a batch of queries.

        Args:
            queries (sequence of `str`):
                Free text without query syntax. A query without an indexed word finds nothing.
            k (`int`):
                Maximum number of passages for each query, at least 1.

        Returns:
            `list[list[Passage] | None]`: for each query in order its passages, best first. Ties are ordered by id.
            `None` if Lucene failed; the reason is logged.

        Raises:
            `TypeError`: if `queries` is a single string or contains anything other than strings.
            `ValueError`: if `k` is less than 1.
            [`SearchError`]: if every query failed.
        """
        check_search(queries, k)
        if not queries:
            return []
        if replacement := self._fork_guard.replacement(self):
            return replacement.search(queries, k)
        java_queries = [well_formed(query) for query in queries]
        k = min(k, self._size)
        try:
            return self._search_batch(java_queries, k)
        except _search_failures() as error:
            # Anserini fails the whole batch when one query fails.
            logger.warning("A batch of %d searches failed, trying one by one: %s", len(queries), first_line(error))
        return self._search_singly(java_queries, k)

    @property
    def identity(self) -> RetrieverIdentity:
        """Identity of the index and its parameters. A copy of the index has the same, a rebuilt index has another."""
        return RetrieverIdentity("BM25Retriever", self._fingerprint, {"k1": self.k1, "b": self.b})

    def __len__(self) -> int:
        """Number of passages in the index."""
        return self._size

    def __repr__(self) -> str:
        return f"BM25Retriever({str(self.index)!r}, k1={self.k1}, b={self.b})"

    def __reduce__(self) -> tuple[Callable[..., "BM25Retriever"], tuple[str]]:
        return partial(BM25Retriever, k1=self.k1, b=self.b), (str(self.index),)

    def _search_batch(self, queries: list[str], k: int) -> list[list[Passage] | None]:
        java_list = java_class("java.util.ArrayList")
        texts, keys = java_list(), java_list()
        for position, query in enumerate(queries):
            texts.add(query)
            keys.add(str(position))
        # Anserini 1.7 ignores the number of threads and uses every processor.
        hits = self._searcher.batch_search(texts, keys, k, os.cpu_count() or 1)
        return [[_passage(hit) for hit in hits.get(str(position))] for position in range(len(queries))]

    def _search_singly(self, queries: list[str], k: int) -> list[list[Passage] | None]:
        results: list[list[Passage] | None] = []
        failures: list[Exception] = []
        for query in queries:
            try:
                results.append([_passage(hit) for hit in self._searcher.search(query, k)])
            except _search_failures() as error:
                logger.warning("The search for %.200r failed: %s", query, first_line(error))
                results.append(None)
                failures.append(error)
        if len(failures) == len(queries):
            reason = first_line(failures[-1])
            raise SearchError(f"All {len(queries)} searches in {self.index} failed: {reason}") from failures[-1]
        return results

    def _check_documents(self) -> None:
        """Read one document, so that an index without text fails now and not in training."""
        if not self._size:
            raise ValueError(f"index {self.index} is empty. Rebuild it with `tspo-trl index`.")
        try:
            document_passage(self._searcher.doc(0), None)
        except ValueError as error:
            raise ValueError(
                f"index {self.index} cannot be used: its first document {error}. Build it with `tspo-trl index`, or "
                "with Pyserini's JsonCollection and --storeRaw."
            ) from error


def _check_parameters(k1: float, b: float) -> None:
    if not 0 <= k1 < float("inf"):
        raise ValueError(f"k1 is {k1}. It must be a finite number of at least 0, usually 0.9.")
    if not 0 <= b <= 1:
        raise ValueError(f"b is {b}. It must be a number from 0 to 1, usually 0.4.")


def _search_failures() -> tuple[type[Exception], ...]:
    return (java_exception(), ValueError)  # from Lucene, and from stored documents that cannot be read


def _passage(hit: Any) -> Passage:
    return document_passage(hit.lucene_document, float(hit.score))
