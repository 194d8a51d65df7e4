"""Rerankers: models that read a query together with each passage found for it, and order the passages anew.

A [`Reranker`] works on the results of a whole batch. What failed stays failed. Importing this module loads no torch;
that happens in the constructor of [`CrossEncoderReranker`].
"""

import math
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from ..base import Passage, SearchError, well_formed
from ..identity import RetrieverIdentity
from ..indexing.pretrained import (
    absolute_if_folder,
    check_dtype,
    check_positive,
    model_fingerprint,
    sentence_transformers,
)


class Reranker(Protocol):
    """
    Anything that orders passages anew.

    Only `rerank` is needed. A reranker may also have a property `identity`
    ([`~tspo_trl.search.RetrieverIdentity`]), which becomes part of its retriever's.
    """

    def rerank(
        self, queries: Sequence[str], passages: Sequence[list[Passage] | None], k: int
    ) -> list[list[Passage] | None]:
        """
        Order the passages of a batch of queries anew.

        Args:
            queries (sequence of `str`):
                Any text: empty, long or malformed queries must not raise.
            passages (sequence of `list[Passage]` or `None`):
                What was found for each query, best first; `None` where its search failed.
            k (`int`):
                How many passages to return at most for each query.

        Returns:
            `list[list[Passage] | None]`: one entry per query; each a list of at most `k` passages, best first, or
            `None` where `passages` has `None`.

        Raises:
            [`SearchError`]: if nothing could be scored.
        """
        ...


class CrossEncoderReranker:
    """
    Rerank with a cross-encoder of sentence-transformers.

    All pairs of a batch are scored together. One reranker may be used from several threads, which take turns. It can
    be pickled: the copy loads the model again. It must not be used in a process that was forked after it was made.

    Args:
        model (`str` or `os.PathLike`):
            Folder or Hugging Face name of a cross-encoder with one score, such as
            `"cross-encoder/ms-marco-MiniLM-L6-v2"`.
        device (`str`, *optional*):
            Where it runs, such as `"cuda:1"`. By default sentence-transformers takes the best there is.
        dtype (`str`, *optional*, defaults to `"float32"`):
            Type of the weights: `"float32"`, `"bfloat16"` or `"float16"`.
        batch_size (`int`, *optional*, defaults to `64`):
            Pairs in one forward pass.
        max_length (`int`, *optional*):
            Tokens of a pair beyond which it is cut. By default the model's own limit.
        num_candidates (`int`, *optional*, defaults to `50`):
            Passages of each query that are scored, or `k` where that is more; those further down are dropped.

    Raises:
        `ImportError`: if sentence-transformers is not installed.
        `OSError`: if there is no such model.
        `ValueError`: if an argument is out of range, or the model gives several scores for a pair.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int = 64,
        max_length: int | None = None,
        num_candidates: int = 50,
    ):
        check_dtype(dtype)
        check_positive(batch_size=batch_size, max_length=max_length, num_candidates=num_candidates)
        self.model = absolute_if_folder(model)
        self.device = device
        self.dtype = dtype
        self.batch_size = batch_size
        self.max_length = max_length
        self.num_candidates = num_candidates
        self._encoder = _load(self.model, device, dtype, max_length)
        self._fingerprint = model_fingerprint(self.model)
        self._process = os.getpid()
        self._lock = threading.Lock()  # a tokenizer that two threads use at once raises "Already borrowed"

    def rerank(
        self, queries: Sequence[str], passages: Sequence[list[Passage] | None], k: int
    ) -> list[list[Passage] | None]:
        """
        Order the passages of a batch of queries anew, by the model's scores.

        Args:
            queries (sequence of `str`):
                The queries.
            passages (sequence of `list[Passage]` or `None`):
                What was found for each query, best first; `None` where its search failed.
            k (`int`):
                How many passages to return at most for each query.

        Returns:
            `list[list[Passage] | None]`: for each query its passages with the model's scores, best first, equal ones
            in the order they came in; `None` where `passages` has `None`.

        Raises:
            [`SearchError`]: if the model gives a score that is not a finite number.
            `RuntimeError`: in a process that was forked after the model was loaded.
        """
        self._check_not_forked()
        depth = max(k, self.num_candidates)
        candidates = [None if found is None else found[:depth] for found in passages]
        scores = iter(self._scores(_pairs(queries, candidates)))
        results: list[list[Passage] | None] = []
        for found in candidates:
            results.append(None if found is None else _ranked(found, list(islice(scores, len(found))))[:k])
        return results

    @property
    def identity(self) -> RetrieverIdentity:
        """Model and settings. A local model is known by its folder's name and its files, another by its name."""
        parameters = {
            "model": Path(self.model).name if self._fingerprint else self.model,
            "dtype": self.dtype,
            "max_length": self.max_length,
            "num_candidates": self.num_candidates,
        }
        return RetrieverIdentity("CrossEncoderReranker", self._fingerprint, parameters)

    def __repr__(self) -> str:
        return f"CrossEncoderReranker({self.model!r}, dtype={self.dtype!r}, num_candidates={self.num_candidates})"

    def __reduce__(self) -> tuple[Callable[..., "CrossEncoderReranker"], tuple[str]]:
        names = ("device", "dtype", "batch_size", "max_length", "num_candidates")
        return partial(CrossEncoderReranker, **{name: getattr(self, name) for name in names}), (self.model,)

    def _check_not_forked(self) -> None:
        """Torch's threads do not survive a fork: the first forward pass would wait for them for ever."""
        if os.getpid() != self._process:
            raise RuntimeError(
                "This process was forked after the reranker was made, so the model cannot run in it. Make the "
                "reranker in the process that uses it, or start processes by spawn."
            )

    def _scores(self, pairs: list[tuple[str, str]]) -> list[float]:
        if not pairs:
            return []
        with self._lock:
            scores = self._encoder.predict(pairs, batch_size=self.batch_size, show_progress_bar=False).tolist()
        broken = sum(not math.isfinite(score) for score in scores)
        if broken:
            raise SearchError(
                f"{self.model} gave no finite score for {broken} of {len(pairs)} pairs. With dtype={self.dtype!r} its "
                'numbers may overflow: try "float32".'
            )
        return scores


def _load(model: str, device: str | None, dtype: str, max_length: int | None) -> Any:
    encoder = sentence_transformers().CrossEncoder(
        model, device=device, max_length=max_length, model_kwargs={"dtype": dtype}
    )
    if encoder.num_labels != 1:
        raise ValueError(f"model {model} gives {encoder.num_labels} scores for a pair: a reranker needs one score.")
    return encoder


def _pairs(queries: Sequence[str], candidates: Sequence[list[Passage] | None]) -> list[tuple[str, str]]:
    return [
        (well_formed(query), well_formed(passage.contents))
        for query, found in zip(queries, candidates, strict=True)
        for passage in found or []
    ]


def _ranked(passages: list[Passage], scores: list[float]) -> list[Passage]:
    order = sorted(range(len(passages)), key=lambda position: -scores[position])  # sorting is stable: ties stay
    return [replace(passages[position], score=scores[position]) for position in order]
