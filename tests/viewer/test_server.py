"""The report as a local page that follows the files."""

import contextlib
import os
import socket
import threading
import time
from http.client import HTTPConnection

import pytest

from tspo_trl.viewer.server import LivePage, make_server

from ..analysis.lines import file_of
from .credited import near_miss


@pytest.fixture
def file(tmp_path):
    return file_of(tmp_path, near_miss(question="First?"))


@contextlib.contextmanager
def running(html):
    """Serve a page. Yields the address."""
    with make_server(html, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield "127.0.0.1", server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def get(file):
    """Sends a request to a running server. Returns status and body."""
    with running(LivePage([file]).html) as address:

        def ask(path="/", host=None):
            connection = HTTPConnection(*address)
            connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{address[1]}"})
            answer = connection.getresponse()
            body = answer.read().decode("utf-8")
            connection.close()
            return answer.status, body

        ask.address = address
        yield ask


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_serves_the_report(get):
    status, body = get()
    assert status == 200
    assert "First?" in body


def test_the_page_follows_the_files(get, file, tmp_path):
    get()
    file_of(tmp_path, near_miss(question="A second?"), near_miss(question="First?"))
    assert "A second?" in get()[1]


def test_the_page_is_made_once_for_the_same_files(file, monkeypatch):
    page = LivePage([file])
    first = page.html()
    monkeypatch.setattr("tspo_trl.viewer.server.make_report", None)
    assert page.html() is first


def test_the_page_is_not_made_anew_for_having_been_read(file, monkeypatch):
    page = LivePage([file])
    first = page.html()
    os.utime(file, ns=(file.stat().st_atime_ns + 10**12, file.stat().st_mtime_ns))
    monkeypatch.setattr("tspo_trl.viewer.server.make_report", None)
    assert page.html() is first


def test_what_is_wrong_with_the_files_is_said(get, file):
    file.write_text("{}\n", encoding="utf-8")
    status, body = get()
    assert status == 500
    assert "line 1: not a trajectory" in body
    file.write_text("", encoding="utf-8")
    assert get()[0] == 500


def test_only_this_machine_by_its_own_name_is_answered(get):
    assert get(host="localhost:1")[0] == 200
    assert get(host="localhost")[0] == 200
    status, body = get(host="attacker.example:80")
    assert status == 403
    assert "First?" not in body


@pytest.mark.parametrize("host", ["[", "[::1", "127.0.0.1:x", "a b", "x@127.0.0.1", "127.0.0.1/", ":80"])
def test_a_malformed_host_is_a_bad_request(get, host):
    assert get(host=host)[0] == 400


@pytest.mark.parametrize("head", [b"", b"Host: localhost\r\nHost: attacker.example\r\n"])
def test_a_host_that_is_missing_or_double_is_a_bad_request(get, head):
    with socket.create_connection(get.address) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n" + head + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.0 400 ")


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
def test_many_connections_without_a_request_hold_few_threads_and_the_page_is_served(get, sent):
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(get.address)).sendall(sent)
        assert get()[0] == 200
        wait_until(lambda: threading.active_count() < 50)


def test_a_request_that_does_not_come_in_time_is_given_up(get, monkeypatch):
    monkeypatch.setattr("tspo_trl.viewer.server._REQUEST_TIMEOUT", 0.3)
    with socket.create_connection(get.address, timeout=10) as connection:
        start = time.monotonic()
        with contextlib.suppress(OSError):  # the server closes while the client still writes
            while time.monotonic() - start < 10:
                connection.sendall(b"x")  # every byte comes in time, the request does not
                time.sleep(0.05)
        assert time.monotonic() - start < 5
    assert get()[0] == 200


def test_pages_that_are_being_made_are_not_interrupted(monkeypatch):
    monkeypatch.setattr("tspo_trl.viewer.server._REQUEST_TIMEOUT", 0.1)
    monkeypatch.setattr("tspo_trl.viewer.server._MAX_CONNECTIONS", 2)
    go_on = threading.Event()

    def slow():
        go_on.wait(30)
        return "page"

    with running(slow) as address, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(2)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(1.5)
        with socket.create_connection(address, timeout=30) as third:
            assert third.recv(10) == b""  # refused at once, since all threads are at work
        go_on.set()
        assert all(client.makefile("rb").read().endswith(b"page") for client in clients)


def test_there_is_one_page(get):
    assert get("/?x=1")[0] == 200
    assert get("/../secret")[0] == 404
