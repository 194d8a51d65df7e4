"""Lucene indexes, which BM25 searches and dense retrieval reads passages from."""

import json
import os
from pathlib import Path
from typing import Any

from ..base import Passage
from ..identity import fingerprint_of
from ..java import java_class


def open_lucene_index(index: str | os.PathLike[str]) -> tuple[Path, Any, str]:
    """
    Open a Lucene index.

    Args:
        index (`str` or `os.PathLike`):
            Folder of the index.

    Returns:
        `tuple`: the absolute path of the folder, Anserini's `SimpleSearcher`, and the fingerprint of the index.
        A copy of the index has the same fingerprint, a rebuilt index has another.

    Raises:
        `FileNotFoundError`: if the folder does not exist.
        `ValueError`: if it contains no Lucene index, or Lucene cannot open it.
    """
    path = _checked_folder(index)
    # Lucene refuses queries of more than 1,024 different words by default. A model may write longer ones.
    java_class("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(2**31 - 1)
    try:
        searcher = java_class("io.anserini.search.SimpleSearcher")(str(path))
    except java_exception() as error:
        raise ValueError(
            f"index {path} cannot be opened as a Lucene index: {first_line(error)}. Rebuild it with `tspo-trl index`."
        ) from error
    # Computed now, because the folder may be replaced while the index is open.
    return path, searcher, fingerprint_of(sorted(path.glob("segments_*")))


def document_passage(document: Any, score: float | None) -> Passage:
    """
    Read the passage of a stored document.

    Args:
        document:
            Lucene's document.
        score (`float`, *optional*):
            Score of the passage.

    Returns:
        [`Passage`]

    Raises:
        `ValueError`: if its text is not stored or cannot be read.
    """
    raw = document.get("raw")
    if raw is not None:
        return Passage.from_document(json.loads(raw), score)
    contents = document.get("contents")
    if contents is None:
        raise ValueError("has neither its raw JSON nor its contents stored")
    return Passage.from_contents(document.get("id"), contents, score)


def java_exception() -> type[Exception]:
    """Return the class of Java's exceptions."""
    import jnius

    return jnius.JavaException


def first_line(error: Exception) -> str:
    """Return the message of an error without Java's stack trace."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _checked_folder(index: str | os.PathLike[str]) -> Path:
    path = Path(index).expanduser().absolute()
    remedy = f"Build one with `tspo-trl index --corpus corpus.jsonl --output {index}`."
    if not path.exists():
        raise FileNotFoundError(f"index {index} does not exist. {remedy}")
    if not path.is_dir() or not any(path.glob("segments_*")):
        raise ValueError(f"index {index} is not the folder of a Lucene index. {remedy}")
    return path
