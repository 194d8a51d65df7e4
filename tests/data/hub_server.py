"""A local substitute for the hub. It serves the files of one dataset repository at one commit."""

import hashlib
import os
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving_hub(repository, files):
    """Serve `files`, contents by path, as revisions `main` and `COMMIT` of `repository`, and yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.answer()

        def answer(self):
            prefix, _, rest = self.path.partition("/resolve/")
            revision, _, path = rest.partition("/")
            if prefix != f"/datasets/{repository}":
                return self.fail("RepoNotFound")
            if revision not in ("main", COMMIT):
                return self.fail("RevisionNotFound")
            if path not in files:
                return self.fail("EntryNotFound")
            content = files[path].encode()
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def fail(self, code):
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def run_with_hub(url, cache, code, *arguments):
    """Run code in a new process with the hub at `url`. The library reads the address when it is imported."""
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(cache)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
