"""Passage texts for dense indexes, which contain only vectors."""

import mmap
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ..base import Passage
from ..identity import fingerprint_of
from .bm25 import parse_line
from .lucene import document_passage, open_lucene_index


class PassageSource(Protocol):
    """
    Passages of the rows of a dense index.

    Attributes:
        fingerprint (`str`):
            Fingerprint of the files when they were opened, see [`~tspo_trl.search.identity.fingerprint_of`].
    """

    fingerprint: str

    def get(self, rows: Sequence[int], docids: Sequence[str | None]) -> list[Passage]:
        """
        Read passages.

        Args:
            rows (sequence of `int`):
                Rows of the index, from 0.
            docids (sequence of `str`, *optional*):
                Id of each row, `None` if the index has no ids.

        Returns:
            `list[Passage]`: in the order of `rows`, without scores.

        Raises:
            `ValueError`: if a passage is missing or has another id.
        """
        ...


def open_passages(path: str | os.PathLike[str]) -> PassageSource:
    """
    Open the passages of a dense index.

    Args:
        path (`str` or `os.PathLike`):
            Folder of a Lucene index that stores its documents, as in [`BM25Retriever`], or a file of JSON lines, as in
            [`build_index`]. Line i of a file is row i of the dense index; blank lines do not count. Of each line only
            its position is kept in memory (8 bytes).

    Returns:
        [`PassageSource`]

    Raises:
        `FileNotFoundError`: if `path` does not exist.
        `ValueError`: if it is empty, or a folder without a Lucene index.
    """
    path = Path(path).expanduser().absolute()
    if not path.exists():
        raise FileNotFoundError(f"passages {path} does not exist. Pass a Lucene index or a file of JSON lines.")
    return LucenePassages(path) if path.is_dir() else CorpusPassages(path)


class LinesFile:
    """
    Random access to the lines of a file on disk. Blank lines do not count. Threads may share it.

    Args:
        path (`Path`):
            The file.

    Raises:
        `ValueError`: if every line is blank.
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
        """Number of lines."""
        return len(self._offsets)

    def __getitem__(self, row: int) -> bytes:
        """The line at `row`, with its line break."""
        start = self._offsets[row]
        end = self._bytes.find(b"\n", start)
        return self._bytes[start : len(self._bytes) if end < 0 else end + 1]


class CorpusPassages:
    """
    A [`PassageSource`] that reads a file of JSON lines by row.

    Args:
        path (`Path`):
            The file.
    """

    def __init__(self, path: Path):
        self._lines = LinesFile(path)
        self.fingerprint = fingerprint_of([path])

    def __len__(self) -> int:
        """Number of passages."""
        return len(self._lines)

    def get(self, rows: Sequence[int], docids: Sequence[str | None]) -> list[Passage]:
        """See [`PassageSource.get`]."""
        return [self._read(row, docid) for row, docid in zip(rows, docids, strict=True)]

    def _read(self, row: int, docid: str | None) -> Passage:
        path = self._lines.path
        if row >= len(self):
            raise ValueError(f"passages {path} has {len(self)} lines, but the index has a row {row}.")
        passage = parse_line(self._lines[row], f"{path}, passage {row + 1}")
        if docid is not None and passage.id != docid:
            raise ValueError(
                f"passages {path} is not the corpus of the index: passage {row + 1} has id {passage.id!r}, but the "
                f"index has {docid!r}. Pass the file that the index was built from."
            )
        return passage


class LucenePassages:
    """
    A [`PassageSource`] that reads the stored documents of a Lucene index by id.

    Args:
        path (`Path`):
            Folder of the index.
    """

    def __init__(self, path: Path):
        self._path, self._searcher, self.fingerprint = open_lucene_index(path)

    def get(self, rows: Sequence[int], docids: Sequence[str | None]) -> list[Passage]:
        """See [`PassageSource.get`]."""
        return [self._read(docid) for docid in docids]

    def _read(self, docid: str | None) -> Passage:
        if docid is None:
            raise ValueError("A FAISS file without ids needs its corpus as passages. Pass a file of JSON lines.")
        document = self._searcher.doc(docid)
        if document is None:
            raise ValueError(f"passages {self._path} has no passage {docid!r}, but the dense index has it.")
        return document_passage(document, None)
