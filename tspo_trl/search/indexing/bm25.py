"""Build a Lucene index from a corpus of JSON lines.

[`build_index`] checks every line as it goes and builds beside the output folder, which appears only when the index is
complete: a run that fails or is killed leaves nothing that looks like an index.
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

from ..base import Passage
from ..java import java_class

_BATCH = 1000
_BUFFER_MEGABYTES = 256.0
_OPTIONS = ("-input", "", "-collection", "JsonCollection", "-storePositions", "-storeDocvectors", "-storeRaw")
_LUCENE_FILE = re.compile(r"segments_\w+|write\.lock|_\w+(\.\w+)+")


def build_index(
    corpus: str | os.PathLike[str], output: str | os.PathLike[str], *, threads: int = 2, overwrite: bool = False
) -> int:
    """
    Index a corpus for [`BM25Retriever`], with Anserini's default English analyzer and stored raw documents, as
    Pyserini's `JsonCollection` with `--storePositions --storeDocvectors --storeRaw` does.

    Args:
        corpus (`str` or `os.PathLike`):
            A file of JSON lines, each `{"id", "contents"}` (Search-R1's form, `contents` is `"Title"\\ntext`) or
            `{"id", "title", "text"}`; other fields are left out. Ids are unique strings or integers. All ids are held
            in memory while indexing.
        output (`str` or `os.PathLike`):
            Folder of the index. It must not exist, or be empty.
        threads (`int`, *optional*, defaults to `2`):
            Number of threads that index.
        overwrite (`bool`, *optional*, defaults to `False`):
            Replace a Lucene index at `output`. Anything else there is never removed.

    Returns:
        `int`: the number of passages.

    Raises:
        `FileNotFoundError`: if the corpus does not exist.
        `FileExistsError`: if there is something at `output` that may not be replaced.
        `ValueError`: if a line is malformed or has no `id` or text, if an id comes twice, or if the corpus is empty;
            the message has file and line number.
        [`~tspo_trl.search.java.JavaNotFoundError`]: if there is no Java to run on.
        `RuntimeError`: if Lucene did not take every passage.
    """
    corpus, output = Path(corpus), Path(output).expanduser().absolute()
    if threads < 1:
        raise ValueError(f"threads is {threads}: at least one is needed.")
    if not corpus.is_file():
        raise FileNotFoundError(f"corpus {corpus} does not exist or is no file: a file of JSON lines is needed.")
    check_output(output, overwrite, "Lucene index", _is_lucene_index)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.building-") as workshop:
        built = Path(workshop) / "index"
        count = _write_index(read_corpus(corpus), built, threads)
        if not count:
            raise ValueError(f"corpus {corpus} is empty: there is no passage to index.")
        check_output(output, overwrite, "Lucene index", _is_lucene_index)
        put_in_place(built, output)
    return count


def read_corpus(corpus: str | os.PathLike[str]) -> Iterator[Passage]:
    """
    Read a corpus of JSON lines, checking every line. Blank lines are passed over.

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
                raise ValueError(f"{corpus}, line {number}: id {passage.id!r} comes twice; ids must be unique.")
            seen.add(passage.id)
            yield passage


def parse_line(line: bytes, place: str) -> Passage:
    """
    Read one line of a corpus.

    Args:
        line (`bytes`):
            The line.
        place (`str`):
            Where it stands, for messages.

    Returns:
        [`Passage`]

    Raises:
        `ValueError`: if it is malformed or has no `id` or text.
    """
    try:
        document = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place}: not valid JSON ({error}). Each line has to be one JSON object.") from error
    if not isinstance(document, dict):
        raise ValueError(f"{place}: a JSON object is needed, got {type(document).__name__}.")
    try:
        passage = Passage.from_document(document)
    except ValueError as error:
        raise ValueError(
            f'{place}: the document {error}. Needed are "id" and "contents", or "id", "title" and "text".'
        ) from error
    if not passage.contents.strip():
        raise ValueError(f"{place}: passage {passage.id!r} has no text. Remove the line.")
    return passage


def check_output(output: Path, overwrite: bool, kind: str, is_index: Callable[[Path], bool]) -> None:
    """
    Check that an index may be put at `output`.

    Args:
        output (`Path`):
            Folder of the index to be.
        overwrite (`bool`):
            Whether an index that is there may be replaced.
        kind (`str`):
            What the index is called in messages.
        is_index (`Callable[[Path], bool]`):
            Whether a folder holds such an index and nothing else.

    Raises:
        `FileExistsError`: if there is something that may not be replaced.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not overwrite:
        raise FileExistsError(f"output {output} exists already. Choose another folder, or pass --overwrite.")
    if not is_index(output):
        raise FileExistsError(f"output {output} is no {kind}, so it is not overwritten. Choose another folder.")


def put_in_place(built: Path, output: Path) -> None:
    """
    Swap by renaming, and remove what was there last, so that an interrupt loses neither the old nor the new.

    Args:
        built (`Path`):
            The complete index, in a temporary folder beside `output`.
        output (`Path`):
            Where it goes.
    """
    replaced = output.with_name(f"{built.parent.name}-replaced")
    if output.exists():
        output.rename(replaced)
    built.rename(output)
    if replaced.exists():
        shutil.rmtree(replaced)


def _is_lucene_index(folder: Path) -> bool:
    """Whether the folder holds a Lucene index and nothing else."""
    if not folder.is_dir() or not any(folder.glob("segments_*")):
        return False
    return all(entry.is_file() and _LUCENE_FILE.fullmatch(entry.name) for entry in folder.iterdir())


def _write_index(passages: Iterable[Passage], folder: Path, threads: int) -> int:
    indexer = _open_indexer(folder, threads)
    passages = iter(passages)
    count = 0
    try:
        while batch := list(islice(passages, _BATCH)):
            if indexer.addRawDocuments([_to_json(passage) for passage in batch]) != len(batch):
                raise RuntimeError(f"Lucene did not take all of the passages {batch[0].id!r} to {batch[-1].id!r}.")
            count += len(batch)
    finally:
        indexer.close()
    return count


def _open_indexer(folder: Path, threads: int) -> Any:
    options = [*_OPTIONS, "-index", str(folder), "-threads", str(threads)]
    indexer = java_class("io.anserini.index.SimpleIndexer")(options)
    # Anserini's fixed two gigabytes would not fit our heap on a large corpus.
    indexer.writer.getConfig().setRAMBufferSizeMB(_BUFFER_MEGABYTES)
    return indexer


def _to_json(passage: Passage) -> str:
    return json.dumps({"id": passage.id, "contents": passage.contents})
