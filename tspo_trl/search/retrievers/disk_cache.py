"""Results of searches in one SQLite file, which any number of processes and threads may share.

Values are JSON, never pickles. Every read and write opens a connection of its own, for a fraction of a millisecond:
SQLite's connections must cross neither a fork nor a thread.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from ..base import Passage

_BUSY_TIMEOUT = 30.0  # seconds to wait for another process's write

_CREATE = """
    CREATE TABLE IF NOT EXISTS searches (
        identity TEXT, k INTEGER, query BLOB, passages BLOB, PRIMARY KEY (identity, k, query)
    ) WITHOUT ROWID
"""
_SELECT = "SELECT passages FROM searches WHERE identity = ? AND k = ? AND query = ?"
_INSERT = "INSERT OR IGNORE INTO searches VALUES (?, ?, ?, ?)"


class DiskCache:
    """
    Keep the passages found for queries in a SQLite file.

    It grows without bound. Delete the file while nothing uses it to start over.

    Args:
        path (`str` or `os.PathLike`):
            The file, on a local disk: SQLite's locks do not hold across a network. Made if it does not exist; its
            folder has to.
        identity (`str`):
            What was searched. Entries of other identities in the same file are kept apart.

    Raises:
        `ValueError`: if the file cannot be opened or written, or is no SQLite database.
    """

    def __init__(self, path: str | os.PathLike[str], identity: str):
        self.path = Path(path).expanduser().absolute()
        self.identity = identity
        try:
            self._prepare_in_turn()
        except sqlite3.Error as error:
            raise ValueError(
                f"path {path} cannot be used as a cache: {error}. Give a file in a folder that exists and can be "
                "written, on a local disk; one that is damaged or not a cache has to be deleted first."
            ) from error

    def get(self, queries: Iterable[str], k: int) -> dict[str, list[Passage]]:
        """
        Read what is known.

        Args:
            queries (iterable of `str`):
                The queries.
            k (`int`):
                Passages that were asked for.

        Returns:
            `dict[str, list[Passage]]`: the passages of each query that is known.

        Raises:
            `sqlite3.Error`: if the file cannot be read.
            `ValueError`, `TypeError`: if what it holds is not what was written.
        """
        found: dict[str, list[Passage]] = {}
        with closing(self._connect()) as connection:
            for query in queries:
                row = connection.execute(_SELECT, (self.identity, k, _encoded(query))).fetchone()
                if row is not None:
                    found[query] = _passages(row[0])
        return found

    def put(self, found: Mapping[str, Sequence[Passage]], k: int) -> None:
        """
        Add results, all or none of them. Those that are known already stay as they are.

        Args:
            found (`Mapping[str, Sequence[Passage]]`):
                The passages of each query.
            k (`int`):
                Passages that were asked for.

        Raises:
            `sqlite3.Error`: if the file cannot be written.
        """
        rows = [(self.identity, k, _encoded(query), _json(passages)) for query, passages in found.items()]
        with closing(self._connect()) as connection, connection:
            connection.executemany(_INSERT, rows)

    def _prepare_in_turn(self) -> None:
        """SQLite does not wait by itself where several processes make the same file at once."""
        deadline = time.monotonic() + _BUSY_TIMEOUT
        while True:
            try:
                return self._prepare()
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # the upper bits tell why
                if not is_busy or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def _prepare(self) -> None:
        with closing(self._connect()) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(_CREATE)
            connection.execute(_SELECT, ("", 0, b""))  # refused where the table is someone else's
            connection.execute("BEGIN IMMEDIATE")  # refused at once where the file cannot be written
            connection.rollback()

    def _connect(self) -> sqlite3.Connection:
        # A write that waits for its lock before it reads cannot run into a deadlock: hence IMMEDIATE.
        connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT, isolation_level="IMMEDIATE")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a model may write lone surrogates


def _json(passages: Sequence[Passage]) -> bytes:
    rows = [
        (passage.id, passage.title, passage.text, None if passage.score is None else float(passage.score))
        for passage in passages
    ]
    return _encoded(json.dumps(rows, ensure_ascii=False))


def _passages(value: bytes) -> list[Passage]:
    return [Passage(*row) for row in json.loads(value.decode("utf-8", "surrogatepass"))]
