"""Where the text of a passage comes from when the index that is searched holds only vectors.

[`open_passages`] opens a Lucene index, which is read by id, or a file of JSON lines, which is read by line.
"""

import mmap
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ..base import Passage
from ..identity import fingerprint_of
from .bm25 import parse_line
from .lucene import checked_lucene_index, document_passage, lucene_fingerprint, open_lucene_index


class PassageSource(Protocol):
    """What gives passages to rows of a dense index."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the files as they were opened, see [`~tspo_trl.search.identity.fingerprint_of`]."""
        ...

    def get(self, rows: Sequence[int], docids: Sequence[str | None]) -> list[Passage]:
        """
        Read passages.

        Args:
            rows (sequence of `int`):
                Rows of the index, from 0.
            docids (sequence of `str`, *optional*):
                The id of each, `None` where the index names none.

        Returns:
            `list[Passage]`: in the order of `rows`, without scores.

        Raises:
            `ValueError`: if a passage is not there, or has another id.
        """
        ...


def open_passages(path: str | os.PathLike[str]) -> PassageSource:
    """
    Open what the text of passages is read from.

    Args:
        path (`str` or `os.PathLike`):
            Folder of a Lucene index that stores its documents, as in [`BM25Retriever`], or a file of JSON lines, as in
            [`build_index`], of which line i is row i of the dense index. Blank lines do not count. Of a file, eight
            bytes a line are held in memory.

    Returns:
        [`PassageSource`]

    Raises:
        `FileNotFoundError`: if there is nothing at `path`.
        `ValueError`: if it is neither, or is empty.
    """
    path = Path(path).expanduser().absolute()
    if not path.exists():
        raise FileNotFoundError(f"passages {path} does not exist: a Lucene index or a file of JSON lines is needed.")
    return LucenePassages(path) if path.is_dir() else CorpusPassages(path)


class LinesFile:
    """
    Random access to the lines of a file, without reading it whole. Blank lines do not count. Threads may share it.

    Args:
        path (`Path`):
            The file.

    Raises:
        `ValueError`: if no line holds anything.
    """

    def __init__(self, path: Path):
        self.path = path
        offsets, end = array("q"), 0
        with open(path, "rb") as lines:
            for line in lines:
                if line.strip():
                    offsets.append(end)
                end += len(line)
            if not offsets:
                raise ValueError(f"{path} is empty.")
            self._bytes = mmap.mmap(lines.fileno(), 0, access=mmap.ACCESS_READ)
        self._offsets = offsets

    def __len__(self) -> int:
        """The number of lines."""
        return len(self._offsets)

    def __getitem__(self, row: int) -> bytes:
        """The line at `row`, with its end."""
        start = self._offsets[row]
        end = self._bytes.find(b"\n", start)
        return self._bytes[start : len(self._bytes) if end < 0 else end + 1]


class CorpusPassages:
    """
    Passages of a file of JSON lines.

    Args:
        path (`Path`):
            The file.
    """

    def __init__(self, path: Path):
        self._lines = LinesFile(path)
        self._fingerprint = fingerprint_of([path])

    @property
    def fingerprint(self) -> str:
        """As [`PassageSource`] says."""
        return self._fingerprint

    def __len__(self) -> int:
        """The number of passages."""
        return len(self._lines)

    def get(self, rows: Sequence[int], docids: Sequence[str | None]) -> list[Passage]:
        """As [`PassageSource`] says."""
        return [self._read(row, docid) for row, docid in zip(rows, docids, strict=True)]

    def _read(self, row: int, docid: str | None) -> Passage:
        path = self._lines.path
        if row >= len(self._lines):
            raise ValueError(f"passages {path} has {len(self._lines)} lines, and the index has a row {row}.")
        passage = parse_line(self._lines[row], f"{path}, passage {row + 1}")
        if docid is not None and passage.id != docid:
            raise ValueError(
                f"passages {path} is not the corpus of the index: passage {row + 1} is {passage.id!r} there, and "
                f"{docid!r} in the index. Give the file that the index was built from."
            )
        return passage


class LucenePassages:
    """
    Passages that a Lucene index stores.

    Args:
        path (`Path`):
            Folder of the index.
    """

    def __init__(self, path: Path):
        self._path = checked_lucene_index(path)
        self._searcher: Any = open_lucene_index(self._path)
        self._fingerprint = lucene_fingerprint(self._path)

    @property
    def fingerprint(self) -> str:
        """As [`PassageSource`] says."""
        return self._fingerprint

    def get(self, rows: Sequence[int], docids: Sequence[str | None]) -> list[Passage]:
        """As [`PassageSource`] says."""
        return [self._read(docid) for docid in docids]

    def _read(self, docid: str | None) -> Passage:
        if docid is None:
            raise ValueError("A FAISS file without ids needs its corpus as passages: a file of JSON lines.")
        document = self._searcher.doc(docid)
        if document is None:
            raise ValueError(f"passages {self._path} has no passage {docid!r}, which the dense index has.")
        return document_passage(document, None)
