"""Search results in one SQLite file that processes and threads can share.

Values are JSON, never pickles. Every read and write opens its own connection, which takes a fraction of a millisecond,
because SQLite connections must not cross a fork or a thread.
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
    Passages of queries in a SQLite file.

    The file grows without bound. To start over, delete it while nothing uses it.

    Args:
        path (`str` or `os.PathLike`):
            File on a local disk, because SQLite's locks do not work across a network. It is created if it does not
            exist. Its folder must exist.
        identity (`str`):
            Identity of the index. Entries of other identities in the same file are kept apart.

    Raises:
        `ValueError`: if the file cannot be opened or written, or is not a SQLite database.
    """

    def __init__(self, path: str | os.PathLike[str], identity: str):
        self.path = Path(path).expanduser().absolute()
        self.identity = identity
        try:
            self._prepare_in_turn()
        except sqlite3.Error as error:
            raise ValueError(
                f"path {path} cannot be used as a cache: {error}. Pass a file in an existing, writable folder on a "
                "local disk. If the file is damaged or not a cache, delete it first."
            ) from error

    def get(self, queries: Iterable[str], k: int) -> dict[str, list[Passage]]:
        """
        Read the results of queries.

        Args:
            queries (iterable of `str`):
                The queries.
            k (`int`):
                Number of passages that the search requested.

        Returns:
            `dict[str, list[Passage]]`: the passages of each query in the file.

        Raises:
            `sqlite3.Error`: if the file cannot be read.
            `ValueError`, `TypeError`: if an entry is damaged.
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
        Add results, either all or none. Existing entries stay unchanged.

        Args:
            found (`Mapping[str, Sequence[Passage]]`):
                The passages of each query.
            k (`int`):
                Number of passages that the search requested.

        Raises:
            `sqlite3.Error`: if the file cannot be written.
        """
        rows = [(self.identity, k, _encoded(query), _json(passages)) for query, passages in found.items()]
        with closing(self._connect()) as connection, connection:
            connection.executemany(_INSERT, rows)

    def _prepare_in_turn(self) -> None:
        """Create the file, or wait while another process creates it: SQLite itself does not wait then."""
        deadline = time.monotonic() + _BUSY_TIMEOUT
        while True:
            try:
                return self._prepare()
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # the upper bits are the reason
                if not is_busy or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def _prepare(self) -> None:
        with closing(self._connect()) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(_CREATE)
            connection.execute(_SELECT, ("", 0, b""))  # fails if the table has other columns
            connection.execute("BEGIN IMMEDIATE")  # fails at once if the file cannot be written
            connection.rollback()

    def _connect(self) -> sqlite3.Connection:
        # IMMEDIATE takes the lock before it reads, which avoids deadlocks.
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
