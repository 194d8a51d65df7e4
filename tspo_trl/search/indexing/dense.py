"""Build a dense index: a FAISS index in Pyserini's folder layout.

Encoded vectors are saved as shards in a folder beside the output, so a run that was killed continues from there.
The output folder appears only when the index is complete.
"""

import json
import os
import shutil
import tempfile
from itertools import islice
from math import isqrt, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base import Passage, check_positive
from ..identity import fingerprint_of
from .bm25 import check_corpus, check_output, put_in_place, read_corpus
from .encoder import Encoder

if TYPE_CHECKING:
    import numpy as np

INDEX_FILE, DOCID_FILE, ENCODER_FILE = "index", "docid", "encoder.json"
_MANIFEST = "manifest.json"
_MINIMUM_POINTS = 39  # per cluster; FAISS warns about fewer
_TRAINING_POINTS = 64
_PQ_CENTROIDS = 256
_EF_SEARCH = 64
_CHUNK_BATCHES = 8  # per step of the progress bar; the encoder sorts a chunk by length to save padding


def build_dense_index(
    corpus: str | os.PathLike[str],
    output: str | os.PathLike[str],
    encoder: Encoder,
    *,
    factory: str = "flat",
    shard_size: int = 10_000,
    overwrite: bool = False,
    show_progress: bool = True,
) -> int:
    """
    Encode a corpus into a FAISS index of inner products, for [`DenseRetriever`] and Pyserini's `FaissSearcher`.

    The folder contains the files `index` (FAISS), `docid` (one id per line) and `encoder.json` (the encoder's
    settings). Until it is complete, vectors are saved in the folder `OUTPUT.shards`. The same call continues from
    there.

    Args:
        corpus (`str` or `os.PathLike`):
            File of JSON lines, as in [`build_index`]. The whole file is checked before encoding.
        output (`str` or `os.PathLike`):
            Folder of the index, which must be empty or not exist.
        encoder ([`Encoder`]):
            Encoder of the passages.
        factory (`str`, *optional*, defaults to `"flat"`):
            `"flat"`: exact search, 4 bytes per dimension and passage. `"hnsw"`: a graph over the same vectors, much
            faster and about 300 bytes per passage larger. `"ivfpq"`: clusters of compressed vectors, less exact, an
            eighth of a byte per dimension plus 8 bytes per passage. Any string of FAISS's index factory works too.
            The saved `ef_search` is 64, and the saved `nprobe` is the square root of the number of lists. A
            [`DenseRetriever`] can change both.
        shard_size (`int`, *optional*, defaults to `10_000`):
            Passages per shard. Memory holds the vectors of one shard and the index.
        overwrite (`bool`, *optional*, defaults to `False`):
            Replace a dense index at `output`. Other files are never removed.
        show_progress (`bool`, *optional*, defaults to `True`):
            Show a progress bar over passages.

    Returns:
        `int`: the number of passages.

    Raises:
        `FileNotFoundError`: if the corpus does not exist.
        `FileExistsError`: if `output` contains something that may not be replaced.
        `ValueError`: if a line of the corpus is malformed or an id has a line break; if the corpus is empty, or too
            small for `factory`; if existing shards belong to another corpus, encoder or shard size; if FAISS does not
            know `factory`.
    """
    check_dense_arguments(corpus, output, shard_size=shard_size, overwrite=overwrite)
    corpus, output = Path(corpus), Path(output).expanduser().absolute()
    count = _count_passages(corpus)
    empty = _empty_index(_factory_string(factory, count, encoder.dimension), encoder.dimension)
    shards = Path(f"{output}.shards")
    _claim_shards(shards, {"corpus": fingerprint_of([corpus]), "encoder": encoder.settings, "shard_size": shard_size})
    paths = _shard_paths(shards, count, shard_size)
    _encode_shards(corpus, paths, encoder, shard_size, count, show_progress)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.building-") as workshop:
        built = Path(workshop) / "index"
        built.mkdir()
        _write_files(built, corpus, _filled_index(empty, paths, count), encoder)
        check_output(output, overwrite, "dense index", _is_dense_index)
        put_in_place(built, output)
    shutil.rmtree(shards)
    return count


def check_dense_arguments(
    corpus: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    shard_size: int = 10_000,
    overwrite: bool = False,
) -> None:
    """
    Check the arguments of [`build_dense_index`], so that mistakes show before a large encoder is loaded.

    Args:
        corpus, output, shard_size, overwrite:
            As in [`build_dense_index`].

    Raises:
        `FileNotFoundError`: if the corpus does not exist.
        `FileExistsError`: if `output` contains something that may not be replaced.
        `ValueError`: if `shard_size` is less than 1.
    """
    check_positive(shard_size=shard_size)
    check_corpus(Path(corpus))
    check_output(Path(output).expanduser().absolute(), overwrite, "dense index", _is_dense_index)


def _count_passages(corpus: Path) -> int:
    """Count the passages and check that Pyserini's file of ids can represent their ids."""
    count = 0
    for passage in read_corpus(corpus):
        if len(passage.id.splitlines()) != 1 or passage.id != passage.id.rstrip():
            raise ValueError(
                f"{corpus}: id {passage.id!r} has a line break or ends in white space, and the file of ids has one id "
                "per line. Rename it."
            )
        count += 1
    if not count:
        raise ValueError(f"corpus {corpus} is empty. It must contain at least one passage.")
    return count


def _is_dense_index(folder: Path) -> bool:
    """Return whether the folder contains a dense index and nothing else."""
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    return {INDEX_FILE, DOCID_FILE} <= names <= {INDEX_FILE, DOCID_FILE, ENCODER_FILE}


def _claim_shards(shards: Path, manifest: dict[str, Any]) -> None:
    """Make the folder of the shards, or check that an existing one belongs to the same job."""
    path = shards / _MANIFEST
    if not shards.exists():
        shards.mkdir(parents=True)
    if not any(shards.iterdir()):
        path.write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        return
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name, value in manifest.items():
        if found.get(name) != value:
            raise ValueError(
                f"shards {shards} are from an earlier run with another {name.replace('_', ' ')} ({found.get(name)!r}, "
                f"now {value!r}). Use the earlier value to continue, or remove that folder to start again."
            )


def _encode_shards(
    corpus: Path, paths: list[Path], encoder: Encoder, size: int, count: int, show_progress: bool
) -> None:
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    passages = read_corpus(corpus)
    done = sum(min(size, count - position * size) for position, path in enumerate(paths) if path.exists())
    with tqdm(total=count, initial=done, desc="Encoding", unit="passage", disable=not show_progress) as bar:
        for path in paths:
            shard = list(islice(passages, size))
            if not path.exists():
                _save(_encode_shard(shard, encoder, bar), path)


def _shard_paths(shards: Path, count: int, size: int) -> list[Path]:
    """Return the files of all shards in the order of their passages, which may differ from that of their names."""
    return [shards / f"vectors-{number:05}.npy" for number in range((count + size - 1) // size)]


def _encode_shard(passages: list[Passage], encoder: Encoder, bar: Any) -> "np.ndarray":
    import numpy as np

    chunks = []
    for start in range(0, len(passages), step := encoder.batch_size * _CHUNK_BATCHES):
        chunk = [passage.contents for passage in passages[start : start + step]]
        chunks.append(encoder.encode_passages(chunk))
        bar.update(len(chunk))
    return np.concatenate(chunks)


def _save(vectors: "np.ndarray", path: Path) -> None:
    import numpy as np

    # Rename at the end, so that a file of this name is always complete.
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        np.save(file, vectors)
    partial.rename(path)


def _factory_string(factory: str, count: int, dimension: int) -> str:
    """Return the index in the notation of FAISS."""
    if factory == "flat":
        return "Flat"
    if factory == "hnsw":
        return "HNSW32,Flat"
    if factory != "ivfpq":
        return factory
    if count < _PQ_CENTROIDS:
        raise ValueError(f"factory 'ivfpq' needs at least {_PQ_CENTROIDS} passages, not {count}. Use 'flat'.")
    if dimension % 8:
        raise ValueError(f"factory 'ivfpq' needs a dimension divisible by 8, not {dimension}. Use 'flat' or 'hnsw'.")
    lists = max(1, int(min(4 * sqrt(count), count / _MINIMUM_POINTS)))
    return f"IVF{2 ** (lists.bit_length() - 1)},PQ{dimension // 8}"


def _empty_index(factory: str, dimension: int) -> Any:
    import faiss

    try:
        return faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ValueError(
            f"factory is {factory!r}. Choose flat, hnsw, ivfpq or a factory string of FAISS, which reports: {error}"
        ) from error


def _filled_index(index: Any, shards: list[Path], count: int) -> Any:
    import faiss
    import numpy as np

    lists = faiss.try_extract_index_ivf(index)
    if not index.is_trained:
        _train(index, shards, count, lists.nlist if lists else _PQ_CENTROIDS)
    for shard in shards:
        index.add(np.load(shard, mmap_mode="r"))
    # FAISS's defaults, one list and 16 candidates, find little in a large index. Both values are saved with the index.
    if lists:
        lists.nprobe = isqrt(lists.nlist)
    if hasattr(index, "hnsw"):
        index.hnsw.efSearch = _EF_SEARCH
    return index


def _train(index: Any, shards: list[Path], count: int, clusters: int) -> None:
    """Train on as many passages as the clustering needs, spread evenly over the corpus."""
    import numpy as np

    step = max(1, count // (_TRAINING_POINTS * max(clusters, _PQ_CENTROIDS)))
    sample = np.concatenate([np.load(shard, mmap_mode="r")[::step] for shard in shards])
    try:
        index.train(sample)
    except RuntimeError as error:
        raise ValueError(f"The index cannot be trained on {count} passages: {error}") from error


def _write_files(folder: Path, corpus: Path, index: Any, encoder: Encoder) -> None:
    import faiss

    faiss.write_index(index, str(folder / INDEX_FILE))
    with open(folder / DOCID_FILE, "w", encoding="utf-8") as file:
        file.writelines(f"{passage.id}\n" for passage in read_corpus(corpus))
    (folder / ENCODER_FILE).write_text(json.dumps(encoder.settings, indent=2), encoding="utf-8")
