"""The report as a local page that follows the files."""

import os
import threading
from http.client import HTTPConnection

import pytest

from tspo_trl.viewer.server import LivePage, make_server

from ..analysis.lines import file_of
from .credited import near_miss


@pytest.fixture
def file(tmp_path):
    return file_of(tmp_path, near_miss(question="First?"))


@pytest.fixture
def get(file):
    """Sends a request to a running server. Returns status and body."""
    with make_server(LivePage([file]).html, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def ask(path="/", host=None):
            connection = HTTPConnection("127.0.0.1", server.server_port)
            connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{server.server_port}"})
            answer = connection.getresponse()
            body = answer.read().decode("utf-8")
            connection.close()
            return answer.status, body

        yield ask
        server.shutdown()
        thread.join()


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


def test_there_is_one_page(get):
    assert get("/?x=1")[0] == 200
    assert get("/../secret")[0] == 404
