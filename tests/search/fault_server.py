"""A retrieval server that fails on demand, run as a process by [`FaultServer`].

`POST /control` sets its behaviour: after `{"mode": "hang", "times": 2}` two requests hang and later ones are normal.
`GET /seen` returns its requests.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOREVER = 3600
JUNK = random.Random(0).randbytes(10_000)


class FaultServer:
    """Process of the server, with the methods that tests use."""

    def __init__(self, **settings):
        self.port = 0
        self.start(**settings)

    def start(self, **settings):
        """Start the process, on its previous port if it had one, and wait until it listens."""
        command = [sys.executable, "-S", __file__, str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.control(**settings)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def control(self, **settings):
        """Set the behaviour from now on, and forget earlier requests."""
        urllib.request.urlopen(f"{self.url}/control", json.dumps(settings).encode(), timeout=10).close()

    @property
    def seen(self):
        with urllib.request.urlopen(f"{self.url}/seen", timeout=10) as response:
            return json.load(response)

    def wait_for_death(self):
        self.process.wait(10)
        self.process.stdout.close()

    def kill(self):
        self.process.kill()
        self.wait_for_death()


class State:
    def __init__(self):
        self.lock = threading.Lock()
        self.reset({})

    def reset(self, settings):
        self.settings = {"mode": "normal", "times": None, "healthz": None, **settings}
        self.requests, self.connections, self.together, self.most_together = [], set(), 0, 0

    def next_mode(self, request, connection):
        """Record a request, and return how to answer it."""
        with self.lock:
            self.requests.append(request)
            self.connections.add(connection)
            times = self.settings["times"]
            return self.settings["mode"] if times is None or len(self.requests) <= times else "normal"


STATE = State()


def passage(query):
    """Every passage repeats its query, so that a result in the wrong place shows."""
    return {"id": f"id of {query[:40]}", "contents": f'"Title"\nPassage for {query[:100]}.'}


def answer(queries, topk):
    items = [[{"document": passage(query), "score": 1.0 / (n + 1)} for n in range(topk)] for query in queries]
    return json.dumps({"result": items}).encode()


def bare_answer(queries, topk):
    """The minimum that Search-R1's client needs: no identifier, no score."""
    items = [[{"document": {"contents": passage(query)["contents"]}}] * topk for query in queries]
    return json.dumps({"result": items}).encode()


SHAPES = {
    "list": lambda queries: [[] for _ in queries],
    "no_result": lambda queries: {"results": []},
    "string": lambda queries: {"result": "none"},
    "too_few_lists": lambda queries: {"result": [[]] * (len(queries) - 1)},
    "too_many_lists": lambda queries: {"result": [[]] * (len(queries) + 1)},
    "string_items": lambda queries: {"result": [["Paris"]] * len(queries)},
    "number_lists": lambda queries: {"result": [3] * len(queries)},
    "no_text": lambda queries: {"result": [[{"document": {"id": "1"}}]] * len(queries)},
    "number_text": lambda queries: {"result": [[{"document": {"contents": 3}}]] * len(queries)},
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections alive
    disable_nagle_algorithm = True  # head and body are two packets: the second would wait for 40 ms

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/seen":
            seen = {"requests": STATE.requests, "connections": len(STATE.connections), "together": STATE.most_together}
            self.send(200, json.dumps(seen).encode())
        elif self.path == "/healthz" and STATE.settings["healthz"] is not None:
            self.send(200, json.dumps(STATE.settings["healthz"]).encode())
        else:
            self.send(404)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/control":
            STATE.reset(body)
            self.send(200)
        elif self.path == "/retrieve":
            self.retrieve(body)
        else:
            self.send(404)

    def retrieve(self, request):
        mode = STATE.next_mode(request, self.client_address)
        with STATE.lock:
            STATE.together += 1
            STATE.most_together = max(STATE.most_together, STATE.together)
        try:
            self.play(mode, request["queries"], request["topk"])
        finally:
            with STATE.lock:
                STATE.together -= 1

    def play(self, mode, queries, topk):
        if mode == "normal":
            self.send(200, answer(queries, topk))
        elif mode.startswith("status_"):
            self.send(int(mode.removeprefix("status_")))
        elif mode.startswith("shape_"):
            self.send(200, json.dumps(SHAPES[mode.removeprefix("shape_")](queries)).encode())
        else:
            getattr(self, mode)(queries, topk)

    def hang(self, queries, topk):
        time.sleep(FOREVER)

    def slow(self, queries, topk):
        time.sleep(0.15)
        self.send(200, answer(queries, topk))

    def drip(self, queries, topk):
        self.send_head(200, 1000)
        for _ in range(1000):
            self.wfile.write(b" ")
            time.sleep(0.02)

    def search_r1(self, queries, topk):
        """Fails a whole request for one query, without a body."""
        self.send(500) if any("poison" in query for query in queries) else self.send(200, bare_answer(queries, topk))

    def name_failed(self, queries, topk):
        """Fails a whole request for some queries, and says which."""
        failed = [position for position, query in enumerate(queries) if "poison" in query]
        body = json.dumps({"detail": "The search failed." + " " * 5000, "failed": failed}).encode()
        self.send(503, body) if failed else self.send(200, answer(queries, topk))

    def refuse_long(self, queries, topk):
        self.send(413) if any(len(query) > 5000 for query in queries) else self.send(200, answer(queries, topk))

    def refuse_large(self, queries, topk):
        self.send(413) if sum(map(len, queries)) > 50_000 else self.send(200, answer(queries, topk))

    def hang_alone(self, queries, topk):
        """Fails a request of several queries, and hangs on single queries."""
        self.send(500) if len(queries) > 1 else self.hang(queries, topk)

    def need_token(self, queries, topk):
        is_known = self.headers["Authorization"] == "Bearer secret-token"
        self.send(200, answer(queries, topk)) if is_known else self.send(401, b'{"detail": "token needed"}')

    def tell_token(self, queries, topk):
        self.send(400, f"bad header {self.headers['Authorization']}".encode())

    def redirect(self, queries, topk):
        self.send(307, headers={"Location": "/elsewhere"})

    def null_for_poison(self, queries, topk):
        result = json.loads(answer(queries, topk))["result"]
        lists = [None if "poison" in query else items for query, items in zip(queries, result, strict=True)]
        self.send(200, json.dumps({"result": lists}).encode())

    def empty(self, queries, topk):
        self.send(200, json.dumps({"result": [[] for _ in queries]}).encode())

    def truncated_body(self, queries, topk):
        """Sends half of the announced bytes, then closes the connection."""
        body = answer(queries, topk)
        self.send_head(200, len(body))
        self.wfile.write(body[: len(body) // 2])
        self.close_connection = True

    def truncated_json(self, queries, topk):
        body = answer(queries, topk)
        self.send(200, body[: len(body) // 2])

    def deep_json(self, queries, topk):
        self.send(200, b"[" * 200_000)

    def junk(self, queries, topk):
        self.send(200, JUNK)

    def junk_as_error(self, queries, topk):
        self.send(400, JUNK)

    def junk_as_gzip(self, queries, topk):
        self.send(200, JUNK, headers={"Content-Encoding": "gzip"})

    def junk_as_chunks(self, queries, topk):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(JUNK)
        self.close_connection = True

    def junk_in_place_of_http(self, queries, topk):
        self.wfile.write(JUNK)
        self.close_connection = True

    def endless(self, queries, topk):
        self.send_head(200, 10**12)
        while True:
            self.wfile.write(bytes(65536))

    def dies(self, queries, topk):
        """Is killed in the middle of an answer."""
        body = answer(queries, topk)
        self.send_head(200, len(body))
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    def send_head(self, status, length, headers=None):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, status, body=b"", headers=None):
        self.send_head(status, len(body), headers)
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        """Say nothing: some tests disconnect early."""


def main():
    server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
