"""Serves the report as a local page that follows the trajectory files."""

import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from ..analysis.options import ViewOptions
from ..analysis.reading import trajectory_files
from ..search.serving.hosts import host_name
from .page import default_title, render_page
from .report import LIMIT, make_report

HOST = "127.0.0.1"
_HOST_NAMES = (HOST, "localhost")
_MAX_CONNECTIONS = 32  # each has a thread
_REQUEST_TIMEOUT = 10.0  # seconds in which a request must come
_ANSWER_TIMEOUT = 60.0  # seconds in which the page must be read


class LivePage:
    """
    Page of trajectory files that may still grow. The arguments are those of [`~tspo_trl.viewer.write_report`].
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike],
        options: ViewOptions | None = None,
        *,
        title: str | None = None,
        limit: int = LIMIT,
    ):
        self._paths, self._options, self._limit = paths, options, limit
        self._title = title or default_title(paths)
        self._lock = Lock()
        self._state: list[Any] = []  # state of the files when the page was made
        self._page = ""

    def html(self) -> str:
        """Return the page, made again if the files have changed. Raises as [`~tspo_trl.viewer.make_report`]."""
        with self._lock:
            files = {path: path.stat() for path in trajectory_files(self._paths)}
            state = [(path, file.st_ino, file.st_size, file.st_mtime_ns) for path, file in files.items()]
            if state != self._state:
                self._page = render_page(make_report(self._paths, self._options, limit=self._limit), self._title)
                self._state = state
            return self._page


def make_server(html: Callable[[], str], port: int) -> ThreadingHTTPServer:
    """
    Make a server for the page that `html` returns. It listens on 127.0.0.1, so only this machine can reach it.

    Args:
        html (callable):
            Returns the page.
        port (`int`):
            Port to listen on, 0 for a free one. A port in use raises `OSError`.
    """

    class Handler(BaseHTTPRequestHandler):
        server: _BoundedServer

        def do_GET(self) -> None:
            # Another site whose name resolves to this machine must not read the trajectories.
            self.server.stop_waiting(self.connection)
            names = [host_name(host) for host in self.headers.get_all("Host", [])]
            if len(names) != 1 or names[0] is None:
                self._send(HTTPStatus.BAD_REQUEST, "text/plain", "The request needs one header `Host`.\n")
            elif names[0] not in _HOST_NAMES:
                self._send(HTTPStatus.FORBIDDEN, "text/plain", f"Open this page as http://{HOST}.\n")
            elif self.path.partition("?")[0] != "/":
                self._send(HTTPStatus.NOT_FOUND, "text/plain", "There is only the page /.\n")
            else:
                self._send_page()

        def _send_page(self) -> None:
            try:
                page = html()
            except (ValueError, OSError) as error:
                self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", f"{error}\n")
            else:
                self._send(HTTPStatus.OK, "text/html", page)

        def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
            body = text.encode("utf-8")
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Log no requests."""

    return _BoundedServer((HOST, port), Handler)


class _BoundedServer(ThreadingHTTPServer):
    """Bounds connections in number and time, so that silent clients use up neither threads nor files."""

    request_queue_size = 128

    def __init__(self, *args: Any):
        self._open: set[socket.socket] = set()
        # Connections without a whole request, oldest first, and since when.
        self._waiting: dict[socket.socket, float] = {}
        self._connections_lock = Lock()
        super().__init__(*args)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Make room for a connection: the one that has waited longest is closed. Refuse it if none waits."""
        with self._connections_lock:
            if len(self._open) >= _MAX_CONNECTIONS:
                self._close_waiting(next(iter(self._waiting), None))
            if len(self._open) >= _MAX_CONNECTIONS:
                return False
            request.settimeout(_ANSWER_TIMEOUT)
            self._open.add(request)
            self._waiting[request] = time.monotonic()
        return True

    def stop_waiting(self, request: socket.socket) -> None:
        """Record that the whole request of a connection has come."""
        with self._connections_lock:
            self._waiting.pop(request, None)

    def service_actions(self) -> None:
        """Close connections whose request does not come. Runs twice a second."""
        super().service_actions()
        with self._connections_lock:
            for request, since in list(self._waiting.items()):
                if time.monotonic() - since > _REQUEST_TIMEOUT:
                    self._close_waiting(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._connections_lock:
            self._open.discard(request)
            self._waiting.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print no trace if the client closed the connection."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def _close_waiting(self, request: socket.socket | None) -> None:
        """End the thread of a connection. The lock must be held."""
        if request is not None:
            del self._waiting[request]
            self._open.discard(request)
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)
