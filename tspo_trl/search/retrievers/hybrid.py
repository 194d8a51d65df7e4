"""Hybrid search: several retrievers combined by reciprocal rank fusion.

[`HybridRetriever`] uses only ranks, so retrievers with different kinds of scores can be combined. If one retriever
fails for a query, the query fails, because a fusion of the others would be a different retriever.
"""

import hashlib
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ..base import Passage, Retriever, SearchError, check_positive, check_search, counters_of
from ..identity import RetrieverIdentity, identity_of
from .rerank import Reranker


class HybridRetriever:
    """
    Fusion of the rankings of several retrievers, optionally reranked.

    The score of a passage is the sum of `weight / (rrf_k + rank)` over the retrievers that found it, with ranks from 1
    (Cormack et al., 2009). Passages with the same `contents` are the same passage. If a retriever lists one twice, its
    better rank counts. Id and title come from the first retriever that found it. The retrievers search in parallel,
    each in its own thread.

    Args:
        retrievers (sequence of [`~tspo_trl.search.Retriever`]):
            At least two. Their order breaks ties, see [`HybridRetriever.search`].
        weights (sequence of `float`, *optional*):
            Positive weight of each retriever. Defaults to 1 for each.
        rrf_k (`float`, *optional*, defaults to `60`):
            Positive constant of the fusion. A larger value reduces the advantage of the first ranks.
        num_candidates (`int`, *optional*, defaults to `20`):
            Passages requested from each retriever, at least `k`. The cost grows in proportion. Larger values found no
            more evidence among the first 3 to 5 passages (measured, see docs/retrieval.md).
        reranker ([`~tspo_trl.search.Reranker`], *optional*):
            Rescores and sorts the fused passages, such as [`~tspo_trl.search.CrossEncoderReranker`].

    Raises:
        `ValueError`: if there are fewer than two retrievers, or another argument is out of range.
    """

    def __init__(
        self,
        retrievers: Sequence[Retriever],
        *,
        weights: Sequence[float] | None = None,
        rrf_k: float = 60,
        num_candidates: int = 20,
        reranker: Reranker | None = None,
    ):
        self.retrievers = list(retrievers)
        if len(self.retrievers) < 2:
            raise ValueError(f"retrievers has {len(self.retrievers)} entries. A fusion needs at least two.")
        self.weights = _checked_weights(weights, len(self.retrievers))
        if not 0 < rrf_k < math.inf:
            raise ValueError(f"rrf_k is {rrf_k}. It must be a positive, finite number, usually 60.")
        check_positive(num_candidates=num_candidates)
        self.rrf_k = float(rrf_k)
        self.num_candidates = num_candidates
        self.reranker = reranker

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage] | None]:
        """
        Search a batch of queries.

        Args:
            queries (sequence of `str`):
                Any text.
            k (`int`):
                Maximum number of passages for each query, at least 1.

        Returns:
            `list[list[Passage] | None]`: for each query in order its passages, best first. `None` if a retriever
            failed. Ties are ordered by the first retriever's ranking, then by the second's for passages that the first
            did not find, and so on.

        Raises:
            `TypeError`: if `queries` is a single string or contains anything other than strings.
            `ValueError`: if `k` is less than 1.
            [`SearchError`]: if a retriever raised it, or every query failed in one of them.
        """
        check_search(queries, k)
        if not queries:
            return []
        depth = max(k, self.num_candidates)
        answers = self._search_all(list(queries), depth)
        fused = [self._fuse(rankings) for rankings in zip(*answers, strict=True)]
        if all(passages is None for passages in fused):
            raise SearchError(f"Each of the {len(queries)} queries failed in one of the retrievers.")
        if self.reranker is not None:
            return self.reranker.rerank(queries, fused, k)
        return [None if passages is None else passages[:k] for passages in fused]

    @property
    def identity(self) -> RetrieverIdentity:
        """Identities of the retrievers and all settings. The fingerprint is `None` if that of a retriever is."""
        parts = [identity_of(retriever) for retriever in self.retrievers]
        parameters = {
            "retrievers": [part.to_dict() for part in parts],
            "weights": self.weights,
            "rrf_k": self.rrf_k,
            "num_candidates": self.num_candidates,
            "reranker": None if self.reranker is None else identity_of(self.reranker).to_dict(),
        }
        return RetrieverIdentity("HybridRetriever", _joint_fingerprint(parts), parameters)

    def counters(self) -> dict[str, int]:
        """
        Add up the counters of the retrievers, see [`~tspo_trl.search.base.counters_of`].

        Returns:
            `dict[str, int]`: totals by name.
        """
        totals: Counter[str] = Counter()
        for retriever in self.retrievers:
            totals.update(counters_of(retriever))
        return dict(totals)

    def __repr__(self) -> str:
        return f"HybridRetriever({self.retrievers!r}, weights={self.weights}, rrf_k={self.rrf_k:g})"

    def _search_all(self, queries: list[str], k: int) -> list[list[list[Passage] | None]]:
        # A pool that outlives the call would not survive a fork.
        with ThreadPoolExecutor(len(self.retrievers)) as threads:
            answers = [threads.submit(_search_part, retriever, queries, k) for retriever in self.retrievers]
        return [answer.result() for answer in answers]

    def _fuse(self, rankings: Sequence[list[Passage] | None]) -> list[Passage] | None:
        """Return the passages of one query by fused score. Ties keep the order in which they were found."""
        passages: dict[str, Passage] = {}
        shares: dict[str, list[float]] = defaultdict(list)
        for weight, ranking in zip(self.weights, rankings, strict=True):
            if ranking is None:
                return None
            for contents, (rank, passage) in _first_places(ranking).items():
                passages.setdefault(contents, passage)
                shares[contents].append(weight / (self.rrf_k + rank))
        # An exact sum does not depend on the order of the retrievers, so equal shares give equal scores.
        fused = [replace(passage, score=math.fsum(shares[contents])) for contents, passage in passages.items()]
        return sorted(fused, key=_score, reverse=True)


def _checked_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    if weights is None:
        return [1.0] * count
    if len(weights) != count:
        raise ValueError(f"weights has {len(weights)} entries for {count} retrievers. Pass one for each.")
    for weight in weights:
        if not 0 < weight < math.inf:
            raise ValueError(f"weights has {weight}. Every weight must be a positive, finite number.")
    return [float(weight) for weight in weights]


def _search_part(retriever: Retriever, queries: list[str], k: int) -> list[list[Passage] | None]:
    try:
        return retriever.search(queries, k)
    finally:
        # Java keeps 60 KB for every thread that ends without detaching.
        if detach := getattr(sys.modules.get("jnius"), "detach", None):
            detach()


def _first_places(ranking: list[Passage]) -> dict[str, tuple[int, Passage]]:
    places: dict[str, tuple[int, Passage]] = {}
    for rank, passage in enumerate(ranking, start=1):
        places.setdefault(passage.contents, (rank, passage))
    return places


def _score(passage: Passage) -> float:
    assert passage.score is not None
    return passage.score


def _joint_fingerprint(parts: Sequence[RetrieverIdentity]) -> str | None:
    fingerprints = [part.fingerprint for part in parts if part.fingerprint is not None]
    if len(fingerprints) < len(parts):
        return None
    return hashlib.sha256(" ".join(fingerprints).encode()).hexdigest()
