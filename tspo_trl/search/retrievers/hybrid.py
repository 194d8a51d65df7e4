"""Several retrievers as one, by reciprocal rank fusion.

[`HybridRetriever`] needs only the ranks of its parts, so BM25, dense and remote retrievers mix whatever their scores
mean. A query that one part could not search has failed: a fusion of the others would be another retriever.
"""

import hashlib
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ..base import Passage, Retriever, SearchError, check_search, counters_of
from ..identity import RetrieverIdentity, identity_of
from .rerank import Reranker


class HybridRetriever:
    """
    Fuse the rankings of several retrievers, and optionally rerank what is best.

    A passage scores the sum, over the retrievers that found it, of `weight / (rrf_k + rank)` with ranks from 1
    (Cormack et al., 2009). Passages are the same where their `contents` are; one that a retriever lists twice counts
    with its better rank. Id and title are those the first retriever that found it gives. The retrievers are searched
    at the same time, each in a thread of its own that ends with the search.

    Args:
        retrievers (sequence of [`~tspo_trl.search.Retriever`]):
            At least two. The order decides between passages of equal score, see [`HybridRetriever.search`].
        weights (sequence of `float`, *optional*):
            Weight of each retriever, positive. All weigh 1 by default.
        rrf_k (`float`, *optional*, defaults to `60`):
            Constant of the fusion, positive: the larger, the less the first ranks stand out.
        num_candidates (`int`, *optional*, defaults to `20`):
            Passages that each retriever is asked for, or `k` where that is more. More cost time in proportion and
            found no more evidence among the first 3 to 5 (measured, see docs/retrieval.md).
        reranker ([`~tspo_trl.search.retrievers.rerank.Reranker`], *optional*):
            Scores and orders the fused passages anew, such as
            [`~tspo_trl.search.retrievers.rerank.CrossEncoderReranker`]. Its scores then are those of the passages.

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
            raise ValueError(f"retrievers has {len(self.retrievers)} entries: a fusion needs at least two.")
        self.weights = _checked_weights(weights, len(self.retrievers))
        if not 0 < rrf_k < math.inf:
            raise ValueError(f"rrf_k is {rrf_k}: it has to be a positive, finite number; 60 is usual.")
        if num_candidates < 1:
            raise ValueError(f"num_candidates is {num_candidates}: every retriever has to be asked for at least one.")
        self.rrf_k = float(rrf_k)
        self.num_candidates = num_candidates
        self.reranker = reranker

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage] | None]:
        """
        Search a batch of queries.

        Args:
            queries (sequence of `str`):
                Any text that the retrievers take.
            k (`int`):
                How many passages to return at most for each query, at least 1.

        Returns:
            `list[list[Passage] | None]`: for each query in order its passages, best first; `None` where a retriever
            failed. Passages of equal score come in the order of the first retriever's ranking, those it did not find
            in that of the second, and so on.

        Raises:
            `TypeError`: if `queries` is a single string or holds something else than strings.
            `ValueError`: if `k` is less than 1.
            [`SearchError`]: if a retriever could search nothing, or every query failed in one of them.
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
        """What is searched and how. The fingerprint is known where those of all retrievers are."""
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
        What the retrievers count, see [`~tspo_trl.search.base.counters_of`].

        Returns:
            `dict[str, int]`: the sum over the retrievers, by name.
        """
        totals: Counter[str] = Counter()
        for retriever in self.retrievers:
            totals.update(counters_of(retriever))
        return dict(totals)

    def __repr__(self) -> str:
        return f"HybridRetriever({self.retrievers!r}, weights={self.weights}, rrf_k={self.rrf_k:g})"

    def _search_all(self, queries: list[str], k: int) -> list[list[list[Passage] | None]]:
        # The threads live for one call: a pool kept for the next one would not survive a fork.
        with ThreadPoolExecutor(len(self.retrievers)) as threads:
            answers = [threads.submit(_search_part, retriever, queries, k) for retriever in self.retrievers]
        return [answer.result() for answer in answers]

    def _fuse(self, rankings: Sequence[list[Passage] | None]) -> list[Passage] | None:
        """The passages of one query by fused score: sorting is stable, so ties keep the order they are met in."""
        passages: dict[str, Passage] = {}
        shares: dict[str, list[float]] = defaultdict(list)
        for weight, ranking in zip(self.weights, rankings, strict=True):
            if ranking is None:
                return None
            for contents, (rank, passage) in _first_places(ranking).items():
                passages.setdefault(contents, passage)
                shares[contents].append(weight / (self.rrf_k + rank))
        # An exact sum does not depend on the order of the retrievers, so that equal shares do tie.
        fused = [replace(passage, score=math.fsum(shares[contents])) for contents, passage in passages.items()]
        return sorted(fused, key=_score, reverse=True)


def _checked_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    if weights is None:
        return [1.0] * count
    if len(weights) != count:
        raise ValueError(f"weights has {len(weights)} entries for {count} retrievers: give one for each.")
    for weight in weights:
        if not 0 < weight < math.inf:
            raise ValueError(f"weights has {weight}: every weight has to be a positive, finite number.")
    return [float(weight) for weight in weights]


def _search_part(retriever: Retriever, queries: list[str], k: int) -> list[list[Passage] | None]:
    try:
        return retriever.search(queries, k)
    finally:
        _leave_java()


def _leave_java() -> None:
    """Let Java forget this thread, if it runs at all: it keeps 60 KB for every thread that ends without a word."""
    detach = getattr(sys.modules.get("jnius"), "detach", None)
    if detach is not None:
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
