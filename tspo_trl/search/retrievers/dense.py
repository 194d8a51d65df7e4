"""Dense retrieval: a FAISS index, searched through Pyserini's `FaissSearcher`.

The wrong pooling, prefix or model gives plausible but wrong results, so [`DenseRetriever`] compares the encoder with
the index first. It needs `pip install tspo-trl[dense]`.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base import Passage, SearchError, check_positive, check_search
from ..identity import RetrieverIdentity, fingerprint_of
from ..indexing.dense import DOCID_FILE, INDEX_FILE
from ..indexing.encoder import Encoder
from ..indexing.passages import LinesFile, open_passages
from ..java import import_pyserini
from .dense_checks import check_encoder_file, check_rows, check_vectors
from .forking import ForkGuard

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)


class DenseRetriever:
    """
    Dense search in a FAISS index from `tspo-trl index --dense` or Pyserini, or in a FAISS file such as Search-R1's
    `e5_Flat.index`.

    The constructor encodes a few passages and compares them with the vectors of the index. Several threads may share a
    retriever and take turns. It can be pickled; the copy opens its files again. In a forked process it starts a new
    process that loads the index again and searches.

    Args:
        index (`str` or `os.PathLike`):
            Folder with the files `index` and `docid`, or a FAISS file with one row per line of `passages`. Scores are
            inner products.
        encoder ([`Encoder`]):
            Encoder that was used for the passages of the index.
        passages (`str` or `os.PathLike`):
            Texts of the passages: a Lucene index of the same passages, or the corpus of the index as JSON lines.
        threads (`int`, *optional*, defaults to `1`):
            Threads that search a batch.
        ef_search (`int`, *optional*):
            Candidates that an HNSW index keeps. More are slower and more exact. Defaults to the value saved in the
            index.
        nprobe (`int`, *optional*):
            Lists that an IVF index searches. More are slower and more exact. Defaults to the value saved in the index.
        faiss_device (`str`, *optional*, defaults to `"cpu"`):
            Device of the index: `"cpu"`, or for example `"cuda:0"` with a GPU build of FAISS.

    Raises:
        `FileNotFoundError`: if the index or the passages do not exist.
        `ValueError`: if index, passages and encoder do not match, or an option does not apply to this kind of index.
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
        # Computed now, because the files may be moved or replaced while the index is open.
        self._fingerprint = fingerprint_of([faiss_file, docid_file] if docid_file else [faiss_file])
        check_rows(self.index, self._size, self._docids, self._source)
        _set_parameter(faiss_index, "ef_search", "efSearch", ef_search, "HNSW")
        _set_parameter(faiss_index, "nprobe", "nprobe", nprobe, "IVF")
        check_vectors(self.index, faiss_index, encoder, self._read)
        # The searcher receives vectors, so it needs no encoder.
        self._searcher = _searcher_class()(faiss_index, query_encoder=None, faiss_device=faiss_device)
        self._lock = threading.Lock()
        self._fork_guard = ForkGuard()

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage] | None]:
        """
        Search a batch of queries.

        Args:
            queries (sequence of `str`):
                Any text.
            k (`int`):
                Maximum number of passages for each query, at least 1.

        Returns:
            `list[list[Passage] | None]`: for each query in order its passages, best first. Their scores are inner
            products. `None` if encoding or FAISS failed, the vector is not finite (possible in float16), or the
            texts could not be read. The reason is logged.

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
        queries, k = list(queries), min(k, self._size)
        try:
            results = self._search_batch(queries, k)
        except RuntimeError as error:
            logger.warning("A batch of %d searches failed, trying one by one: %s", len(queries), error)
            results = self._search_singly(queries, k)
        if all(result is None for result in results):
            raise SearchError(f"All {len(queries)} searches in {self.index} failed. The log says why.")
        return results

    @property
    def identity(self) -> RetrieverIdentity:
        """Identity of the index and its parameters. A copy of the index has the same, a rebuilt one may differ."""
        parameters = {
            "encoder": self.encoder.settings,
            "passages": self._source.fingerprint,
            "ef_search": self.ef_search,
            "nprobe": self.nprobe,
        }
        return RetrieverIdentity("DenseRetriever", self._fingerprint, parameters)

    def __len__(self) -> int:
        """Number of passages in the index."""
        return self._size

    def __repr__(self) -> str:
        return f"DenseRetriever({str(self.index)!r}, {self.encoder!r}, {str(self.passages)!r})"

    def __reduce__(self) -> tuple[Callable[..., "DenseRetriever"], tuple[str, Encoder, str]]:
        names = ("threads", "ef_search", "nprobe", "faiss_device")
        options = {name: getattr(self, name) for name in names}
        return partial(DenseRetriever, **options), (str(self.index), self.encoder, str(self.passages))

    def _search_batch(self, queries: list[str], k: int) -> list[list[Passage] | None]:
        hits = self._hits(self.encoder.encode_queries(queries), k)
        return [self._passages(query, hits.get(str(position))) for position, query in enumerate(queries)]

    def _search_singly(self, queries: list[str], k: int) -> list[list[Passage] | None]:
        results: list[list[Passage] | None] = []
        failures: list[RuntimeError] = []
        for query in queries:
            try:
                results += self._search_batch([query], k)
            except RuntimeError as error:
                logger.warning("The search for %.200r failed: %s", query, error)
                results.append(None)
                failures.append(error)
        if len(failures) == len(queries):
            raise SearchError(f"{len(queries)} searches in {self.index} failed: {failures[-1]}") from failures[-1]
        return results

    def _hits(self, vectors: "np.ndarray", k: int) -> dict[str, list[Any]]:
        """Return Pyserini's hits by the number of the vector. Vectors that are not finite are left out."""
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
        """Pyserini's searcher over an open index, with rows as ids: 21 million ids as Python strings would take more
        than a gigabyte."""

        def load_index(self, index: Any) -> tuple[Any, range]:
            """Return the open index, which Pyserini's constructor passes on instead of a folder."""
            import faiss

            if self.faiss_device == "cpu":
                return index, range(index.ntotal)
            self._faiss_gpu_resources = faiss.StandardGpuResources()
            gpu = int(self.faiss_device.partition(":")[2] or 0)
            # Here a failure raises. Pyserini would silently use the CPU.
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
                f"index {index} is not a dense index: it has no file {file.name!r}. Build one with "
                "`tspo-trl index --dense`, or pass the path of a FAISS file."
            )
    return path, *files


def _read_index(path: Path) -> Any:
    import faiss

    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise ValueError(f"index {path} cannot be opened as a FAISS index: {error}") from error
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise ValueError(f"index {path} measures distances instead of inner products. Rebuild it.")
    return index


def _set_parameter(index: Any, name: str, faiss_name: str, value: int | None, kind: str) -> None:
    if value is None:
        return
    import faiss

    try:
        faiss.ParameterSpace().set_index_parameter(index, faiss_name, value)
    except RuntimeError as error:
        raise ValueError(f"{name} is {value}, but the index is not an {kind} index. Leave it out.") from error
