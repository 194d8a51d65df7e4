"""DiskCache: results in one SQLite file that processes and threads share."""

import multiprocessing
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tspo_trl.search import Passage
from tspo_trl.search.retrievers import disk_cache
from tspo_trl.search.retrievers.disk_cache import DiskCache

PASSAGES = [Passage("1", '"Seine"', "A river.", 1.5), Passage("2", '"Tiber"', "Another one.")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.sqlite"


@pytest.fixture
def cache(path):
    return DiskCache(path, "identity")


def test_what_was_put_is_found(cache):
    cache.put({"rivers": PASSAGES, "nothing": []}, k=2)
    assert cache.get(["rivers", "nothing", "other"], k=2) == {"rivers": PASSAGES, "nothing": []}


def test_another_identity_is_another_entry(cache, path):
    cache.put({"rivers": PASSAGES}, k=2)
    other = DiskCache(path, "another identity")
    assert other.get(["rivers"], k=2) == {}
    other.put({"rivers": []}, k=2)
    assert cache.get(["rivers"], k=2) == {"rivers": PASSAGES}
    assert other.get(["rivers"], k=2) == {"rivers": []}


def test_what_is_known_already_stays(cache):
    cache.put({"rivers": PASSAGES}, k=2)
    cache.put({"rivers": [], "nothing": []}, k=2)
    assert cache.get(["rivers", "nothing"], k=2) == {"rivers": PASSAGES, "nothing": []}


@pytest.mark.parametrize(
    "passage",
    [
        Passage("", "", ""),
        Passage("id", '"Zürich" 東京 😀', "line\nline\r\n\0\x01 \u2028 '; DROP TABLE searches; --", 0.1),
        Passage("id", "\ud800", "\ud83d\ude00 are two lone surrogates", -3.0),
        Passage("id", "title", "text", None),
        Passage("id", "title", "text", 1e-308),
        Passage("id", "title", "text", 0.1 + 0.2),
        Passage("id", "title", "text", float("inf")),
    ],
    ids=["empty", "unicode", "surrogates", "no-score", "tiny", "all-digits", "infinite"],
)
def test_passages_come_back_exactly(cache, passage):
    cache.put({"query": [passage]}, k=1)
    assert cache.get(["query"], k=1) == {"query": [passage]}


@pytest.mark.parametrize("query", ["", "\0", "a\0b", "\ud800", "\udcff seine", "é", "'", "x" * 100_000])
def test_any_query_is_a_key(cache, query):
    others = {other: [] for other in ("a", "b", " ", "\udfff", "e\u0301") if other != query}
    cache.put({query: PASSAGES, **others}, k=2)
    assert cache.get([query], k=2) == {query: PASSAGES}


def test_a_score_of_numpy_is_kept_as_a_number(cache):
    import numpy

    cache.put({"query": [Passage("1", "a", "b", numpy.float32(0.1))]}, k=1)
    [passage] = cache.get(["query"], k=1)["query"]
    assert passage.score == numpy.float32(0.1)


def test_a_relative_path_is_found_after_a_change_of_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = DiskCache("cache.sqlite", "identity")
    cache.put({"rivers": PASSAGES}, k=2)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cache.get(["rivers"], k=2) == {"rivers": PASSAGES}


def test_no_file_stays_open(cache):
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        cache.put({str(number): PASSAGES}, k=2)
        cache.get([str(number)], k=2)
    assert len(os.listdir("/proc/self/fd")) == before


def expected(number):
    return [Passage(str(number), f'"{number}"', "Text of some length. " * 20, number / 7)]


def write_and_read(path, start, stop):
    """Put these numbers one by one, and after each read all numbers. Return those that were wrong."""
    cache = DiskCache(path, "identity")
    wrong = []
    for number in range(start, stop):
        cache.put({str(number): expected(number)}, k=1)
        found = cache.get(map(str, range(200)), k=1)
        wrong += [query for query, passages in found.items() if passages != expected(int(query))]
        wrong += [] if str(number) in found else [str(number)]
    return wrong


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_processes_can_write_and_read_one_file_at_once(path, method):
    with multiprocessing.get_context(method).Pool(4) as pool:
        ranges = [(path, start, start + 50) for start in (0, 25, 50, 100)]  # the first three overlap
        assert pool.starmap(write_and_read, ranges, chunksize=1) == [[]] * 4
    found = DiskCache(path, "identity").get(map(str, range(200)), k=1)
    assert found == {str(number): expected(number) for number in range(150)}


def test_a_write_waits_for_another_process(cache, path):
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with ThreadPoolExecutor(1) as threads:
            write = threads.submit(cache.put, {"rivers": PASSAGES}, 2)
            time.sleep(0.2)
            assert not write.done()
            assert cache.get(["rivers"], k=2) == {}  # reads do not wait
            other.execute("COMMIT")
            write.result(timeout=30)
    assert cache.get(["rivers"], k=2) == {"rivers": PASSAGES}


def test_making_a_file_waits_for_another_process_that_does(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as threads:
            making = threads.submit(DiskCache, path, "identity")
            time.sleep(0.2)
            assert not making.done()
            other.execute("COMMIT")
            assert making.result(timeout=30).get(["rivers"], k=2) == {}


def test_a_file_that_stays_locked_is_refused(path, monkeypatch):
    monkeypatch.setattr(disk_cache, "_BUSY_TIMEOUT", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ValueError, match=r"^path .*locked"):
            DiskCache(path, "identity")


def test_a_path_in_a_missing_folder_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"^path .*nowhere.*unable to open"):
        DiskCache(tmp_path / "nowhere" / "cache.sqlite", "identity")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^path .*unable to open"):
        DiskCache(tmp_path, "identity")


def test_a_file_that_is_no_database_is_refused_and_left_alone(path):
    path.write_text("someone's notes, which are longer than the header of a database " * 100)
    notes = path.read_text()
    with pytest.raises(ValueError, match=r"^path .*not a database"):
        DiskCache(path, "identity")
    assert path.read_text() == notes


def test_a_database_of_something_else_is_an_error(path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE searches (something TEXT)")
    with pytest.raises(ValueError, match=r"^path .*no such column"):
        DiskCache(path, "identity")
