"""Searches in forked processes, such as the workers of PyTorch's `DataLoader`.

Java and OpenMP hang in a process that was forked. There, a retriever searches through a [`ProcessRetriever`], which is
a copy of the retriever in a new process.
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
    Copy of a retriever in a new process, which ends with this one.

    Args:
        retriever ([`Retriever`]):
            The original. It is pickled, so its files must still exist.

    Raises:
        As the constructor of the retriever.
    """

    def __init__(self, retriever: Retriever):
        self._lock = threading.Lock()
        self._connection, theirs = Pipe()
        with theirs:
            # `-m` would import this module twice.
            program = f"from {__name__} import serve_process; serve_process({theirs.fileno()})"
            command = [sys.executable, "-c", program]
            # `multiprocessing` allows no children of daemonic processes, such as the workers of a DataLoader.
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self._ask(retriever)

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage] | None]:
        """Search as the original does. Raise `RuntimeError` if the process has died."""
        return self._ask((list(queries), k))

    @property
    def is_alive(self) -> bool:
        """Whether the process of the copy is running."""
        return self._process.poll() is None

    def _ask(self, message: Any) -> Any:
        with self._lock:
            try:
                self._connection.send(message)
                answer = self._connection.recv()
            except (EOFError, ConnectionError) as error:
                raise RuntimeError(f"The process that searches for process {os.getpid()} has died.") from error
            except BaseException:
                # Interrupted: the next search would receive the answer to this one.
                self._process.kill()
                self._process.wait()
                raise
        if isinstance(answer, Exception):
            raise answer
        return answer


class ForkGuard:
    """Guard of a retriever, which detects a fork of its process and keeps the copy that searches there."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._copies: dict[int, ProcessRetriever] = {}

    def replacement(self, retriever: Retriever) -> ProcessRetriever | None:
        """
        Return the copy that searches in a forked process.

        Args:
            retriever ([`Retriever`]):
                The owner of this guard.

        Returns:
            [`ProcessRetriever`], *optional*: `None` in the process that created the retriever.

        Raises:
            As [`ProcessRetriever`].
        """
        process = os.getpid()
        if process == self._process:
            return None
        if process not in self._copies or not self._copies[process].is_alive:
            # Drop the copy of a forked parent, which belongs to the parent.
            self._copies = {process: ProcessRetriever(retriever)}
        return self._copies[process]


def serve_process(descriptor: int) -> None:
    """
    Answer a [`ProcessRetriever`] until it closes the connection.

    Args:
        descriptor (`int`):
            File descriptor of the connection, which delivers a retriever and then its searches.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, and this process ends with it
    try:
        _answer_all(Connection(descriptor))
    except (EOFError, OSError):  # the parent has ended or closed the connection
        return


def _answer_all(connection: Connection) -> None:
    retriever = _attempt(connection.recv)
    connection.send(retriever if isinstance(retriever, Exception) else None)
    while True:
        queries, k = connection.recv()
        connection.send(_attempt(retriever.search, queries, k))


def _attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the function's result, or the exception that it raises."""
    try:
        return function(*arguments)
    except Exception as error:
        try:
            return pickle.loads(pickle.dumps(error))
        except Exception:
            return RuntimeError(f"{type(error).__name__}: {error}")
