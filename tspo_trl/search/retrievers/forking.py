"""Searching in a forked process, such as a worker of PyTorch's `DataLoader`.

Java and OpenMP do not survive a fork: used in the child, they hang. So a retriever that finds itself in a process that
was forked after it was made searches through a [`ProcessRetriever`], a copy of itself in a fresh process.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from ..base import Passage, Retriever


class ProcessRetriever:
    """
    A copy of a retriever in a process of its own, which ends with this one.

    Args:
        retriever ([`Retriever`]):
            The original. It is pickled, so what it needs has to be there still.

    Raises:
        As the retriever's constructor.
    """

    def __init__(self, retriever: Retriever):
        self._lock = threading.Lock()
        self._connection, theirs = Pipe()
        with theirs:
            # Not `-m`, which would import this module a second time.
            program = f"from {__name__} import serve_process; serve_process({theirs.fileno()})"
            command = [sys.executable, "-c", program]
            # Not `multiprocessing`: a daemonic process, as a DataLoader's worker is, may not have children of its.
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self._ask(retriever)

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage] | None]:
        """As the original's `search`; `RuntimeError` if the process of the copy has died."""
        return self._ask((list(queries), k))

    @property
    def is_alive(self) -> bool:
        """Whether the process of the copy runs."""
        return self._process.poll() is None

    def _ask(self, message: Any) -> Any:
        with self._lock:
            try:
                self._connection.send(message)
                answer = self._connection.recv()
            except (EOFError, ConnectionError) as error:
                raise RuntimeError(f"The process that searches for process {os.getpid()} has died.") from error
            except BaseException:
                # Interrupted: the answer to come would be taken for that of the next search.
                self._process.kill()
                self._process.wait()
                raise
        if isinstance(answer, Exception):
            raise answer
        return answer


class ForkGuard:
    """Tells a retriever whether its process was forked since it was made, and keeps the copy that searches then."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._copies: dict[int, ProcessRetriever] = {}

    def stand_in(self, retriever: Retriever) -> ProcessRetriever | None:
        """
        What searches in place of the retriever.

        Args:
            retriever ([`Retriever`]):
                The owner of this guard.

        Returns:
            [`ProcessRetriever`], *optional*: `None` in the process that made the retriever.

        Raises:
            As [`ProcessRetriever`].
        """
        process = os.getpid()
        if process == self._process:
            return None
        if process not in self._copies or not self._copies[process].is_alive:
            # The copy of a parent that was forked itself belongs to the parent.
            self._copies = {process: ProcessRetriever(retriever)}
        return self._copies[process]


def serve_process(descriptor: int) -> None:
    """
    What the process of a [`ProcessRetriever`] does: answer the other one until it closes the connection.

    Args:
        descriptor (`int`):
            File descriptor of the connection. A retriever comes first, then its searches.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks; this one follows it
    try:
        _answer_all(Connection(descriptor))
    except (EOFError, OSError):  # the other process has ended, or given up
        return


def _answer_all(connection: Connection) -> None:
    retriever = _attempt(connection.recv)
    connection.send(retriever if isinstance(retriever, Exception) else None)
    while True:
        queries, k = connection.recv()
        connection.send(_attempt(retriever.search, queries, k))


def _attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, or the exception that it raises."""
    try:
        return function(*arguments)
    except Exception as error:
        try:
            return pickle.loads(pickle.dumps(error))
        except Exception:
            return RuntimeError(f"{type(error).__name__}: {error}")
