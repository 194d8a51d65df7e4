"""Build a Lucene index from a corpus of JSON lines.

The output folder appears only when the index is complete. A run that fails or is killed leaves no partial index.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ..base import Passage, check_positive
from ..java import java_class

_BATCH = 1000
_BUFFER_MEGABYTES = 256.0
_OPTIONS = ("-input", "", "-collection", "JsonCollection", "-storePositions", "-storeDocvectors", "-storeRaw")
_LUCENE_FILE = re.compile(r"segments_\w+|write\.lock|_\w+(\.\w+)+")


def build_index(
    corpus: str | os.PathLike[str], output: str | os.PathLike[str], *, threads: int = 2, overwrite: bool = False
) -> int:
    """
    Index a corpus for [`BM25Retriever`], with Anserini's default English analyzer.

    The index equals that of Pyserini's `JsonCollection` with `--storePositions --storeDocvectors --storeRaw`.

    Args:
        corpus (`str` or `os.PathLike`):
            File of JSON lines, each `{"id", "contents"}` (Search-R1's format, `contents` is `"Title"\\ntext`) or
            `{"id", "title", "text"}`. Other fields are dropped. Ids are unique strings or integers, which are kept in
            memory while indexing.
        output (`str` or `os.PathLike`):
            Folder of the index, which must be empty or not exist.
        threads (`int`, *optional*, defaults to `2`):
            Number of indexing threads.
        overwrite (`bool`, *optional*, defaults to `False`):
            Replace a Lucene index at `output`. Other files are never removed.

    Returns:
        `int`: the number of passages.

    Raises:
        `FileNotFoundError`: if the corpus does not exist.
        `FileExistsError`: if `output` contains something that may not be replaced.
        `ValueError`: if a line is malformed or has no `id` or text (the message names file and line), if an id is
            repeated, if the corpus is empty, or if `threads` is less than 1.
        [`~tspo_trl.search.JavaNotFoundError`]: if there is no suitable Java.
        `RuntimeError`: if Lucene did not index every passage.
    """
    corpus, output = Path(corpus), Path(output).expanduser().absolute()
    check_positive(threads=threads)
    check_corpus(corpus)
    check_output(output, overwrite, "Lucene index", _is_lucene_index)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.building-") as workshop:
        built = Path(workshop) / "index"
        count = _write_index(read_corpus(corpus), built, threads)
        if not count:
            raise ValueError(f"corpus {corpus} is empty. It must contain at least one passage.")
        check_output(output, overwrite, "Lucene index", _is_lucene_index)
        put_in_place(built, output)
    return count


def read_corpus(corpus: str | os.PathLike[str]) -> Iterator[Passage]:
    """
    Read a corpus of JSON lines and check every line. Blank lines are skipped.

    Args:
        corpus (`str` or `os.PathLike`):
            As in [`build_index`].

    Yields:
        [`Passage`]

    Raises:
        `FileNotFoundError`: if the file does not exist.
        `ValueError`: at a line that is malformed, has no `id` or text, or repeats an id.
    """
    seen: set[str] = set()
    with open(corpus, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            passage = parse_line(line, f"{corpus}, line {number}")
            if passage.id in seen:
                raise ValueError(f"{corpus}, line {number}: id {passage.id!r} comes twice. Ids must be unique.")
            seen.add(passage.id)
            yield passage


def parse_line(line: bytes, place: str) -> Passage:
    """
    Read one line of a corpus.

    Args:
        line (`bytes`):
            The line.
        place (`str`):
            File and position of the line, for messages.

    Returns:
        [`Passage`]

    Raises:
        `ValueError`: if it is malformed or has no `id` or text.
    """
    try:
        document = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place}: not valid JSON ({error}). Each line must be one JSON object.") from error
    if not isinstance(document, dict):
        raise ValueError(f"{place}: {type(document).__name__} instead of a JSON object.")
    try:
        passage = Passage.from_document(document)
    except ValueError as error:
        raise ValueError(
            f'{place}: the document {error}. It needs "id" and "contents", or "id", "title" and "text".'
        ) from error
    if not passage.contents.strip():
        raise ValueError(f"{place}: passage {passage.id!r} has no text. Remove the line.")
    return passage


def check_corpus(corpus: Path) -> None:
    """
    Check that a corpus is a file.

    Args:
        corpus (`Path`):
            The corpus.

    Raises:
        `FileNotFoundError`: if it does not exist or is not a file.
    """
    if not corpus.is_file():
        raise FileNotFoundError(f"corpus {corpus} does not exist or is not a file. Pass a file of JSON lines.")


def check_output(output: Path, overwrite: bool, kind: str, is_index: Callable[[Path], bool]) -> None:
    """
    Check that an index may be written to `output`.

    Args:
        output (`Path`):
            Folder of the new index.
        overwrite (`bool`):
            Whether an existing index may be replaced.
        kind (`str`):
            Name of this kind of index, for messages.
        is_index (`Callable[[Path], bool]`):
            Whether a folder contains such an index and nothing else.

    Raises:
        `FileExistsError`: if `output` contains something that may not be replaced.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not overwrite:
        raise FileExistsError(f"output {output} exists already. Choose another folder, or pass --overwrite.")
    if not is_index(output):
        raise FileExistsError(f"output {output} is no {kind}, so it is not overwritten. Choose another folder.")


def put_in_place(built: Path, output: Path) -> None:
    """
    Move a complete index to `output` by renaming, so that an interrupt loses neither the old nor the new index.

    Args:
        built (`Path`):
            The new index, in a temporary folder beside `output`.
        output (`Path`):
            Its final folder. An index there is replaced.
    """
    replaced = output.with_name(f"{built.parent.name}-replaced")
    if output.exists():
        output.rename(replaced)
    built.rename(output)
    if replaced.exists():
        shutil.rmtree(replaced)


def _is_lucene_index(folder: Path) -> bool:
    """Return whether the folder contains a Lucene index and nothing else."""
    if not folder.is_dir() or not any(folder.glob("segments_*")):
        return False
    return all(entry.is_file() and _LUCENE_FILE.fullmatch(entry.name) for entry in folder.iterdir())


def _write_index(passages: Iterable[Passage], folder: Path, threads: int) -> int:
    indexer = _open_indexer(folder, threads)
    passages = iter(passages)
    count = 0
    try:
        while batch := list(islice(passages, _BATCH)):
            documents = [json.dumps({"id": passage.id, "contents": passage.contents}) for passage in batch]
            if indexer.addRawDocuments(documents) != len(batch):
                raise RuntimeError(f"Lucene did not index every passage from {batch[0].id!r} to {batch[-1].id!r}.")
            count += len(batch)
    finally:
        indexer.close()
    return count


def _open_indexer(folder: Path, threads: int) -> Any:
    options = [*_OPTIONS, "-index", str(folder), "-threads", str(threads)]
    indexer = java_class("io.anserini.index.SimpleIndexer")(options)
    # Anserini's default of 2 GB would not fit Java's heap.
    indexer.writer.getConfig().setRAMBufferSizeMB(_BUFFER_MEGABYTES)
    return indexer
