"""Dense retrieval: a FAISS index searched through Pyserini's `FaissSearcher`, with an explicit encoder.

A search with the wrong pooling, prefix or model gives plausible nonsense, so [`DenseRetriever`] compares the encoder
with the index before it searches anything. It needs `pip install tspo-trl[dense]`.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base import Passage, SearchError, check_search
from ..identity import RetrieverIdentity, fingerprint_of
from ..indexing.dense import DOCID_FILE, INDEX_FILE
from ..indexing.encoder import Encoder
from ..indexing.passages import CorpusPassages, LinesFile, PassageSource, open_passages
from ..indexing.pretrained import check_positive
from ..java import import_pyserini
from .dense_checks import check_dimension, check_encoder_file, check_vectors
from .forking import ForkGuard

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)


class DenseRetriever:
    """
    Search a FAISS index that `tspo-trl index --dense` or Pyserini made, or one such as Search-R1's `e5_Flat.index`.

    One retriever may be used from several threads, which take turns. It can be pickled: the copy opens everything
    again. In a process that was forked after it was made it searches by way of a new process, which holds an index of
    its own. Opening it encodes a few passages and compares them with the vectors of the index.

    Args:
        index (`str` or `os.PathLike`):
            Folder with the files `index` and `docid`, or a FAISS file, whose rows are the lines of `passages`. Scores
            are inner products.
        encoder ([`Encoder`]):
            Encodes queries as the passages were encoded.
        passages (`str` or `os.PathLike`):
            Where texts are read from: a Lucene index over the same passages, or the corpus of the index, a file of
            JSON lines.
        threads (`int`, *optional*, defaults to `1`):
            Threads that search a batch.
        ef_search (`int`, *optional*):
            Candidates that an HNSW index keeps: more are slower and more exact. Defaults to what the index was saved
            with.
        nprobe (`int`, *optional*):
            Lists that an IVF index looks into: more are slower and more exact. Defaults to what the index was saved
            with.
        faiss_device (`str`, *optional*, defaults to `"cpu"`):
            Where the index lies: `"cpu"`, or such as `"cuda:0"` with a FAISS for GPUs.

    Raises:
        `FileNotFoundError`: if there is no index or there are no passages.
        `ValueError`: if they do not belong to each other, the encoder is not that of the index, or an option does not
            go with the kind of index.
    """

    def __init__(
        self,
        index: str | os.PathLike[str],
        encoder: Encoder,
        passages: str | os.PathLike[str],
        *,
        threads: int = 1,
        ef_search: int | None = None,
        nprobe: int | None = None,
        faiss_device: str = "cpu",
    ):
        check_positive(threads=threads, ef_search=ef_search, nprobe=nprobe)
        self.index, faiss_file, docid_file = _index_files(index)
        self.encoder, self.passages = encoder, Path(passages).expanduser().absolute()
        self.threads, self.ef_search, self.nprobe, self.faiss_device = threads, ef_search, nprobe, faiss_device
        self._source = open_passages(self.passages)
        check_encoder_file(self.index, encoder)
        faiss_index = _read_index(faiss_file)
        self._size = int(faiss_index.ntotal)
        self._docids = LinesFile(docid_file) if docid_file else None
        # Now, since the files may be moved or replaced while this index is open.
        self._fingerprint = fingerprint_of([faiss_file, docid_file] if docid_file else [faiss_file])
        _check_size(self.index, self._size, self._docids, self._source)
        _set_parameters(faiss_index, {"efSearch": ef_search, "nprobe": nprobe})
        check_dimension(self.index, faiss_index, encoder)
        check_vectors(self.index, faiss_index, encoder, self._read)
        # Pyserini's searcher is given vectors, so it needs no encoder.
        self._searcher = _searcher_class()(faiss_index, query_encoder=None, faiss_device=faiss_device)
        self._lock = threading.Lock()
        self._fork_guard = ForkGuard()

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage] | None]:
        """
        Search a batch of queries, encoded and searched together.

        Args:
            queries (sequence of `str`):
                Any text.
            k (`int`):
                How many passages to return at most for each query, at least 1.

        Returns:
            `list[list[Passage] | None]`: for each query in order its passages, best first, with FAISS's inner product
            as their score; `None` where its vector is not finite, as may happen in float16, or where the texts could
            not be read (the reason is logged).

        Raises:
            `TypeError`: if `queries` is a single string or holds something else than strings.
            `ValueError`: if `k` is less than 1.
            [`SearchError`]: if encoding or FAISS failed, or every query did.
        """
        check_search(queries, k)
        if not queries:
            return []
        if stand_in := self._fork_guard.stand_in(self):
            return stand_in.search(queries, k)
        try:
            hits = self._hits(self.encoder.encode_queries(queries), min(k, self._size))
        except RuntimeError as error:
            raise SearchError(f"{len(queries)} searches in {self.index} failed: {error}") from error
        results = [self._passages(query, hits.get(str(position))) for position, query in enumerate(queries)]
        if all(result is None for result in results):
            raise SearchError(f"All {len(queries)} searches in {self.index} failed; the reasons are logged.")
        return results

    @property
    def identity(self) -> RetrieverIdentity:
        """What is searched and how. A copy of the index has its fingerprint, one built anew may have another."""
        parameters = {
            "encoder": self.encoder.settings,
            "passages": self._source.fingerprint,
            "ef_search": self.ef_search,
            "nprobe": self.nprobe,
        }
        return RetrieverIdentity("DenseRetriever", self._fingerprint, parameters)

    def __len__(self) -> int:
        """The number of passages in the index."""
        return self._size

    def __repr__(self) -> str:
        return f"DenseRetriever({str(self.index)!r}, {self.encoder!r}, {str(self.passages)!r})"

    def __reduce__(self) -> tuple[Callable[..., "DenseRetriever"], tuple[str, Encoder, str]]:
        names = ("threads", "ef_search", "nprobe", "faiss_device")
        options = {name: getattr(self, name) for name in names}
        return partial(DenseRetriever, **options), (str(self.index), self.encoder, str(self.passages))

    def _hits(self, vectors: "np.ndarray", k: int) -> dict[str, list[Any]]:
        """Pyserini's hits by the number of the vector; a vector that is not finite has none."""
        import numpy as np

        finite = np.flatnonzero(np.isfinite(vectors).all(axis=1))
        if not finite.size:
            return {}
        with self._lock:
            return self._searcher.batch_search(vectors[finite], list(map(str, finite)), k=k, threads=self.threads)

    def _passages(self, query: str, hits: Sequence[Any] | None) -> list[Passage] | None:
        if hits is None:
            logger.warning("The search for %.200r failed: its vector from %r is not finite.", query, self.encoder)
            return None
        try:
            found = self._read([hit.docid for hit in hits])
        except ValueError as error:
            logger.warning("The search for %.200r failed: %s", query, error)
            return None
        return [replace(passage, score=float(hit.score)) for passage, hit in zip(found, hits, strict=True)]

    def _read(self, rows: Sequence[int]) -> list[Passage]:
        docids = [self._docids[row].decode().rstrip() if self._docids else None for row in rows]
        return self._source.get([int(row) for row in rows], docids)


@cache
def _searcher_class() -> type:
    faiss_searcher = import_pyserini("pyserini.search.faiss").FaissSearcher

    class RowSearcher(faiss_searcher):  # type: ignore[misc, valid-type]
        """Pyserini's searcher over an index that is open already, which is given to it in place of a folder. Its ids
        are rows: those of 21 million passages as Python strings would take more than a gigabyte."""

        def load_index(self, index: Any) -> tuple[Any, range]:
            """Called by Pyserini's constructor with its first argument."""
            import faiss

            if self.faiss_device == "cpu":
                return index, range(index.ntotal)
            self._faiss_gpu_resources = faiss.StandardGpuResources()
            gpu = int(self.faiss_device.partition(":")[2] or 0)
            # Pyserini goes on quietly on the CPU where this fails.
            return faiss.index_cpu_to_gpu(self._faiss_gpu_resources, gpu, index), range(index.ntotal)

    return RowSearcher


def _index_files(index: str | os.PathLike[str]) -> tuple[Path, Path, Path | None]:
    path = Path(index).expanduser().absolute()
    if not path.exists():
        raise FileNotFoundError(f"index {index} does not exist. Build one with `tspo-trl index --dense`.")
    if path.is_file():
        return path, path, None
    files = path / INDEX_FILE, path / DOCID_FILE
    for file in files:
        if not file.is_file():
            raise ValueError(
                f"index {index} has no file {file.name!r}, so it is no dense index. Build one with "
                "`tspo-trl index --dense`, or give the path of a FAISS file."
            )
    return path, *files


def _read_index(path: Path) -> Any:
    import faiss

    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise ValueError(f"index {path} cannot be opened as a FAISS index: {error}") from error
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise ValueError(f"index {path} measures distances, and inner products are needed. Build it again.")
    return index


def _check_size(index: Path, size: int, docids: LinesFile | None, passages: PassageSource) -> None:
    if not size:
        raise ValueError(f"index {index} is empty. Build it again with `tspo-trl index --dense`.")
    if docids is not None and len(docids) != size:
        raise ValueError(f"index {index} has {size} vectors and {len(docids)} ids. Build it again.")
    if docids is None and not isinstance(passages, CorpusPassages):
        raise ValueError(f"index {index} has no ids, so passages has to be its corpus, a file of JSON lines.")
    if isinstance(passages, CorpusPassages) and len(passages) != size:
        raise ValueError(
            f"index {index} has {size} vectors and passages {len(passages)} lines. Give the file that the index was "
            "built from."
        )


def _set_parameters(index: Any, parameters: dict[str, int | None]) -> None:
    import faiss

    names = {"efSearch": ("ef_search", "HNSW"), "nprobe": ("nprobe", "IVF")}
    for parameter, value in parameters.items():
        if value is None:
            continue
        name, kind = names[parameter]
        try:
            faiss.ParameterSpace().set_index_parameter(index, parameter, value)
        except RuntimeError as error:
            raise ValueError(f"{name} is {value}, but the index is no {kind} index. Leave it out.") from error
