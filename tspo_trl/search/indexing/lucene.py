"""A Lucene index as both kinds of retrieval use it: to search in, and to read passages from by id.

[`open_lucene_index`] opens one, [`document_passage`] reads what it stores, [`lucene_fingerprint`] tells two apart.
"""

import json
import os
from pathlib import Path
from typing import Any

from ..base import Passage
from ..identity import fingerprint_of
from ..java import java_class


def checked_lucene_index(index: str | os.PathLike[str]) -> Path:
    """
    Check that there is a Lucene index.

    Args:
        index (`str` or `os.PathLike`):
            Folder of the index.

    Returns:
        `Path`: the folder, absolute.

    Raises:
        `FileNotFoundError`: if the folder does not exist.
        `ValueError`: if it holds no Lucene index.
    """
    path = Path(index).expanduser().absolute()
    remedy = f"Build one with `tspo-trl index --corpus corpus.jsonl --output {index}`."
    if not path.exists():
        raise FileNotFoundError(f"index {index} does not exist. {remedy}")
    if not path.is_dir() or not any(path.glob("segments_*")):
        raise ValueError(f"index {index} is not the folder of a Lucene index. {remedy}")
    return path


def open_lucene_index(index: Path) -> Any:
    """
    Open a Lucene index.

    Args:
        index (`Path`):
            As [`checked_lucene_index`] gave it.

    Returns:
        Anserini's `SimpleSearcher`.

    Raises:
        `ValueError`: if Lucene cannot open it.
    """
    # A query of more than 1,024 different words would be refused otherwise; a model may well write one.
    java_class("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(2**31 - 1)
    try:
        return java_class("io.anserini.search.SimpleSearcher")(str(index))
    except java_exception() as error:
        raise ValueError(
            f"index {index} cannot be opened as a Lucene index: {first_line(error)}. Build it again with "
            "`tspo-trl index`."
        ) from error


def lucene_fingerprint(index: Path) -> str:
    """
    Fingerprint of a Lucene index: a copy has the same, one built anew has another.

    Args:
        index (`Path`):
            As [`checked_lucene_index`] gave it.

    Returns:
        `str`: see [`~tspo_trl.search.identity.fingerprint_of`].

    Raises:
        `ValueError`: if the index is no longer there.
    """
    return fingerprint_of(sorted(index.glob("segments_*")))


def document_passage(document: Any, score: float | None) -> Passage:
    """
    Read a stored document.

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
    """The class of what Java throws."""
    import jnius

    return jnius.JavaException


def first_line(error: Exception) -> str:
    """What an error says, without the stack of Java that may follow."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
