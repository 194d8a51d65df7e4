"""Serves the report as a local page that follows the trajectory files."""

import os
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from ..analysis.options import ViewOptions
from ..analysis.reading import trajectory_files
from .page import default_title, render_page
from .report import LIMIT, make_report

HOST = "127.0.0.1"
_HOST_NAMES = (HOST, "localhost")


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
        def do_GET(self) -> None:
            # Another site whose name resolves to this machine must not read the trajectories.
            if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in _HOST_NAMES:
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

    return ThreadingHTTPServer((HOST, port), Handler)
