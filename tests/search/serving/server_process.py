"""A retrieval server in another process, which tests start, query and stop."""

import contextlib
import json
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlparse

import requests

ECHO_SERVER = Path(__file__).with_name("echo_server.py")


class Server:
    """A server in another process, and the requests of the tests."""

    def __init__(self, **settings):
        command = [sys.executable, str(ECHO_SERVER), json.dumps(settings)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, preexec_fn=lower_file_limit, **pipes)
        self.url = self.process.stdout.readline().split()[-1]
        self.address = (urlparse(self.url).hostname, urlparse(self.url).port)

    def post(self, body, **headers):
        headers = {"Content-Type": "application/json"} | headers
        return requests.post(f"{self.url}/retrieve", data=body, timeout=60, headers=headers)

    def retrieve(self, queries, **fields):
        return requests.post(f"{self.url}/retrieve", json={"queries": queries, **fields}, timeout=60)

    @contextlib.contextmanager
    def asking(self, query):
        """Send a request, and disconnect at the end without waiting for its answer."""
        body = json.dumps({"queries": [query]})
        with socket.create_connection(self.address) as connection:
            connection.sendall(
                b"POST /retrieve HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body.encode())
            )
            yield

    @contextlib.contextmanager
    def held_up(self):
        """Keep the retriever busy, so that queries must wait. Yields the future of the search that keeps it busy."""
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as client:
            gate, calls = Path(folder, "gate"), self.calls()
            response = client.submit(self.retrieve, [f"until {gate}"])
            wait_until(lambda: self.calls() > calls)
            try:
                yield response
            finally:
                gate.touch()

    def retrieve_at_once(self, *bodies):
        """Send all of these requests while the retriever is busy, so that they wait together."""
        with ThreadPoolExecutor(len(bodies)) as clients:
            with self.held_up():
                responses = [clients.submit(self.retrieve, **body) for body in bodies]
                wait_until(lambda: self.waiting() + count_refused(bodies, responses) == count_queries(bodies))
            return [response.result() for response in responses]

    def calls(self):
        return self.stats()["retriever"]["calls"]

    def waiting(self):
        return self.stats()["waiting_queries"]

    def stats(self):
        return requests.get(f"{self.url}/stats", timeout=60).json()

    def accepts_connections(self):
        with socket.socket() as connection:
            return connection.connect_ex(self.address) == 0

    def send_bytes(self, data):
        """Send bytes over a new connection and return the beginning of the answer."""
        with socket.create_connection(self.address, timeout=5) as connection:
            connection.sendall(data)
            return connection.recv(65536)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def lower_file_limit():
    """Allow 256 open files, fewer than the connections of a test. The server may raise the limit again."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true within 30 s"
        time.sleep(0.01)


def count_queries(bodies):
    return sum(len(body["queries"]) for body in bodies)


def count_refused(bodies, responses):
    return count_queries(body for body, response in zip(bodies, responses, strict=True) if response.done())


@contextlib.contextmanager
def running(**settings):
    server = Server(**settings)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


def found(response):
    """Return the query of each list of documents."""
    assert response.status_code == 200, response.text
    return [documents[0]["title"].strip('"') for documents in response.json()["result"]]
