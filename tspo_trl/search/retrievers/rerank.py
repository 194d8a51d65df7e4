"""Rerankers: models that read a query together with each of its passages and sort the passages by their scores.

Importing this module does not load torch. The constructor of [`CrossEncoderReranker`] does.
"""

import logging
import math
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from ..base import Passage, SearchError, check_positive, well_formed
from ..identity import RetrieverIdentity
from ..indexing.pretrained import absolute_if_folder, check_dtype, model_fingerprint, sentence_transformers

logger = logging.getLogger(__name__)


class Reranker(Protocol):
    """
    A model that reorders passages.

    Only `rerank` is required. An optional property `identity` ([`~tspo_trl.search.RetrieverIdentity`]) becomes part of
    the identity of its retriever.
    """

    def rerank(
        self, queries: Sequence[str], passages: Sequence[list[Passage] | None], k: int
    ) -> list[list[Passage] | None]:
        """
        Reorder the passages of a batch of queries.

        Args:
            queries (sequence of `str`):
                Any text. Empty, long or malformed queries must not raise.
            passages (sequence of `list[Passage]` or `None`):
                Passages of each query, best first. `None` if its search failed.
            k (`int`):
                Maximum number of passages for each query.

        Returns:
            `list[list[Passage] | None]`: one entry per query, either a list of at most `k` passages, best first, or
            `None` if its search failed.

        Raises:
            [`SearchError`]: if nothing could be scored.
        """
        ...


class CrossEncoderReranker:
    """
    Reranker with a cross-encoder of sentence-transformers.

    All pairs of a batch are scored together. Several threads may share a reranker and take turns. It can be pickled;
    the copy loads the model again. It does not work in a process that was forked after its creation.

    Args:
        model (`str` or `os.PathLike`):
            Folder or Hugging Face name of a cross-encoder with one score, such as
            `"cross-encoder/ms-marco-MiniLM-L6-v2"`.
        device (`str`, *optional*):
            Device, such as `"cuda:1"`. By default sentence-transformers chooses it.
        dtype (`str`, *optional*, defaults to `"float32"`):
            Precision of the model: `"float32"`, `"bfloat16"` or `"float16"`.
        batch_size (`int`, *optional*, defaults to `64`):
            Pairs per forward pass.
        max_length (`int`, *optional*):
            Tokens after which a pair is truncated. Defaults to the model's limit.
        num_candidates (`int`, *optional*, defaults to `50`):
            Passages of each query that are scored, at least `k`. The rest is dropped.

    Raises:
        `ImportError`: if sentence-transformers is not installed.
        `OSError`: if the model does not exist.
        `ValueError`: if an argument is out of range, or the model returns several scores for a pair.
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
        self.device, self.dtype = device, dtype
        self.batch_size, self.max_length, self.num_candidates = batch_size, max_length, num_candidates
        self._encoder = _load(self.model, device, dtype, max_length)
        self._fingerprint = model_fingerprint(self.model)
        self._process = os.getpid()
        self._lock = threading.Lock()  # two threads cannot use a tokenizer at once

    def rerank(
        self, queries: Sequence[str], passages: Sequence[list[Passage] | None], k: int
    ) -> list[list[Passage] | None]:
        """
        Sort the passages of a batch of queries by the model's scores.

        Args:
            queries, passages, k:
                As in [`Reranker.rerank`].

        Returns:
            `list[list[Passage] | None]`: for each query its passages with the model's scores, best first. Passages
            with equal scores keep their order. `None` if its search failed or a score is not a finite number.

        Raises:
            [`SearchError`]: if no score is a finite number.
            `RuntimeError`: in a process that was forked after the model was loaded.
        """
        self._check_not_forked()
        depth = max(k, self.num_candidates)
        candidates = [None if found is None else found[:depth] for found in passages]
        scores = iter(self._scores(_pairs(queries, candidates)))
        results: list[list[Passage] | None] = []
        for found in candidates:
            own_scores = list(islice(scores, len(found or [])))
            is_failed = found is None or not all(map(math.isfinite, own_scores))
            results.append(None if is_failed else _ranked(found or [], own_scores)[:k])
        return results

    @property
    def identity(self) -> RetrieverIdentity:
        """Model and settings. The fingerprint is that of a local model's files."""
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
        """Raise instead of hanging: torch's threads do not survive a fork."""
        if os.getpid() != self._process:
            raise RuntimeError(
                "This process was forked after the reranker was created, so the model cannot run in it. Create the "
                "reranker in this process, or start processes with spawn."
            )

    def _scores(self, pairs: list[tuple[str, str]]) -> list[float]:
        if not pairs:
            return []
        with self._lock:
            scores = self._encoder.predict(pairs, batch_size=self.batch_size, show_progress_bar=False).tolist()
        broken = sum(not math.isfinite(score) for score in scores)
        if broken:
            message = (
                f"{self.model} returned no finite score for {broken} of {len(pairs)} pairs. dtype={self.dtype!r} may "
                "overflow. Try 'float32'."
            )
            if broken == len(pairs):
                raise SearchError(message)
            logger.warning(message)
        return scores


def _load(model: str, device: str | None, dtype: str, max_length: int | None) -> Any:
    encoder = sentence_transformers().CrossEncoder(
        model, device=device, max_length=max_length, model_kwargs={"dtype": dtype}
    )
    if encoder.num_labels != 1:
        raise ValueError(f"model {model} gives {encoder.num_labels} scores for a pair. A reranker needs one.")
    return encoder


def _pairs(queries: Sequence[str], candidates: Sequence[list[Passage] | None]) -> list[tuple[str, str]]:
    return [
        (well_formed(query), well_formed(passage.contents))
        for query, found in zip(queries, candidates, strict=True)
        for passage in found or []
    ]


def _ranked(passages: list[Passage], scores: list[float]) -> list[Passage]:
    order = sorted(range(len(passages)), key=lambda position: -scores[position])
    return [replace(passages[position], score=scores[position]) for position in order]
