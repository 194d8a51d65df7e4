"""CachedRetriever: asks for nothing twice, and changes no result."""

import logging
import multiprocessing
import pickle
import resource
import signal
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from tspo_trl.search import Passage, RetrieverIdentity, SearchError
from tspo_trl.search.base import counters_of
from tspo_trl.search.retrievers import disk_cache
from tspo_trl.search.retrievers.cached import CachedRetriever


@dataclass
class Echo:
    """Finds one passage for each query, and nothing for the empty query. Queries in `fails` fail."""

    fingerprint: str | None = "index"
    fails: set[str] = field(default_factory=set)
    asked: list[tuple[list[str], int]] = field(default_factory=list)

    def search(self, queries, k):
        self.asked.append((list(queries), k))
        if self.fails.issuperset(queries):
            raise SearchError("The server is down.")
        return [None if query in self.fails else self.found(query, k) for query in queries]

    def found(self, query, k):
        return [Passage(self.fingerprint or "?", query, f"{k} wanted", 0.1)] if query else []

    @property
    def identity(self):
        return RetrieverIdentity("Echo", self.fingerprint)

    def counters(self):
        return {"requests": len(self.asked)}


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.sqlite"


@pytest.fixture(params=["memory", "disk"])
def cached(request, echo, path):
    """A cache in memory, and one that remembers only what is on disk."""
    return CachedRetriever(echo) if request.param == "memory" else Forgetful(echo, path=path)


class Forgetful(CachedRetriever):
    def search(self, queries, k):
        self._memory.clear()
        return super().search(queries, k)


def titles(results):
    return [None if passages is None else [passage.title for passage in passages] for passages in results]


def test_results_are_those_of_the_retriever(cached, echo):
    expected = [echo.found(query, 3) for query in ("a", "", "a", "é\ud800")]
    for _ in range(2):
        assert cached.search(["a", "", "a", "é\ud800"], 3) == expected


def test_only_new_queries_are_asked_each_once_and_in_order(cached, echo):
    cached.search(["a", "b"], 3)
    assert titles(cached.search(["c", "a", "d", "c", "b"], 3)) == [["c"], ["a"], ["d"], ["c"], ["b"]]
    assert echo.asked == [(["a", "b"], 3), (["c", "d"], 3)]


def test_another_k_is_another_search(cached):
    [[three]], [[one]] = cached.search(["a"], 3), cached.search(["a"], 1)
    assert (three.text, one.text) == ("3 wanted", "1 wanted")
    assert cached.search(["a"], 3) == [[three]]


def test_empty_results_are_kept(cached, echo):
    assert cached.search([""], 3) == cached.search([""], 3) == [[]]
    assert len(echo.asked) == 1


def test_failed_searches_are_not_kept(cached, echo):
    echo.fails = {"b"}
    assert titles(cached.search(["a", "b"], 3)) == [["a"], None]
    echo.fails = set()
    assert titles(cached.search(["a", "b"], 3)) == [["a"], ["b"]]
    assert echo.asked[1:] == [(["b"], 3)]


def test_known_queries_are_answered_while_the_retriever_is_down(cached, echo, caplog):
    cached.search(["a"], 3)
    echo.fails = {"b", "c"}
    assert titles(cached.search(["b", "a", "c"], 3)) == [None, ["a"], None]
    assert "The search of 2 queries failed. 1 others were cached: The server is down." in caplog.text


def test_error_goes_through_when_no_query_is_known(cached, echo):
    echo.fails = {"a", "b"}
    with pytest.raises(SearchError, match="The server is down"):
        cached.search(["a", "b"], 3)


def test_no_queries_ask_nobody(cached, echo):
    assert cached.search([], 3) == []
    assert echo.asked == []


def test_a_caller_may_change_the_list_it_got(cached):
    for _ in range(2):
        [passages] = cached.search(["a"], 3)
        assert len(passages) == 1
        passages.clear()


def test_the_query_used_longest_ago_leaves_the_memory_first(echo):
    cached = CachedRetriever(echo, max_entries=2)
    cached.search(["a", "b"], 3)
    cached.search(["a"], 3)
    cached.search(["c"], 3)  # b leaves
    cached.search(["a", "c"], 3)
    assert echo.asked == [(["a", "b"], 3), (["c"], 3)]
    cached.search(["b"], 3)
    assert echo.asked[2:] == [(["b"], 3)]


def test_a_batch_larger_than_the_memory_is_answered(echo):
    queries = list("abcde")
    assert titles(CachedRetriever(echo, max_entries=2).search(queries, 3)) == [[query] for query in queries]


def test_counters_count_every_query_asked_and_keep_the_retrievers(cached):
    cached.search(["a", "a", "b"], 3)  # three misses
    cached.search(["a", "c", "a"], 3)  # two hits, one miss
    assert cached.counters() == {"requests": 2, "cache_hits": 2, "cache_misses": 4}
    assert counters_of(cached) == cached.counters()


def test_identity_is_that_of_the_retriever(cached, echo):
    assert cached.identity == echo.identity


def test_bm25_is_searched_once(retriever, path):
    queries = ["capital of France", "river in Italy", "nothing of the kind", "\ud800"]
    expected = retriever.search(queries, 2)
    first = CachedRetriever(retriever, path=path)
    assert first.search(queries, 2) == first.search(queries, 2) == expected
    assert first.counters() == {"cache_hits": 4, "cache_misses": 4}
    second = CachedRetriever(retriever, path=path)
    assert second.search(queries, 2) == expected
    assert second.counters() == {"cache_hits": 4, "cache_misses": 0}


def test_searching_does_not_hold_up_other_threads(path):
    release = threading.Event()

    class Slow(Echo):
        def search(self, queries, k):
            assert "slow" not in queries or release.wait(30)
            return super().search(queries, k)

    cached = CachedRetriever(Slow(), path=path)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(cached.search, ["slow"], 3)
        assert titles(cached.search(["quick"], 3)) == [["quick"]]
        assert not slow.done()
        release.set()
        assert titles(slow.result(30)) == [["slow"]]


def test_threads_can_share_a_cache(echo, path):
    cached = CachedRetriever(echo, max_entries=5, path=path)
    queries = [str(number) for number in range(10)]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: cached.search(queries, 3), range(40)))
    assert results == [[echo.found(query, 3) for query in queries]] * 40
    assert sum(cached.counters()[name] for name in ("cache_hits", "cache_misses")) == 400


def test_a_copy_keeps_settings_and_disk_but_not_the_memory(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cached = CachedRetriever(Echo(), max_entries=7, path=path.name)
    cached.search(["a"], 3)
    duplicate = pickle.loads(pickle.dumps(cached))
    assert (duplicate.max_entries, duplicate.path) == (7, path)
    assert duplicate.counters() == {"requests": 1, "cache_hits": 0, "cache_misses": 0}
    assert not duplicate._memory
    duplicate.search(["a"], 3)
    assert duplicate.counters() == {"requests": 1, "cache_hits": 1, "cache_misses": 0}


def search_in_process(path, queries):
    """Return the results in another process, and the searches that reached its retriever."""
    echo = Echo()
    return CachedRetriever(echo, path=path).search(queries, 3), echo.asked


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_another_process_finds_on_disk_what_this_one_searched(echo, path, method):
    expected = CachedRetriever(echo, path=path).search(["a", "b"], 3)
    with multiprocessing.get_context(method).Pool(1) as pool:
        results, asked = pool.apply(search_in_process, (path, ["b", "a", "c"]))
    assert results == [expected[1], expected[0], echo.found("c", 3)]
    assert asked == [(["c"], 3)]


def test_a_cache_made_before_a_fork_works_on_both_sides(echo, path):
    cached = CachedRetriever(echo, path=path)
    cached.search(["before"], 3)
    process = multiprocessing.get_context("fork").Process(target=cached.search, args=(["child"], 3))
    process.start()
    cached.search(["parent"], 3)
    process.join(60)
    assert process.exitcode == 0
    assert search_in_process(path, ["before", "child", "parent"])[1] == []


def test_another_index_in_the_same_file_is_kept_apart(path):
    [[old]] = CachedRetriever(Echo("old index"), path=path).search(["a"], 3)
    [[new]] = CachedRetriever(Echo("new index"), path=path).search(["a"], 3)
    assert (old.id, new.id) == ("old index", "new index")


def test_a_disk_needs_to_know_what_is_searched(path):
    with pytest.raises(ValueError, match=r"^path is given, but the identity of Echo has no fingerprint.*remote"):
        CachedRetriever(Echo(fingerprint=None), path=path)
    assert titles(CachedRetriever(Echo(fingerprint=None)).search(["a"], 3)) == [["a"]]


def corrupt(path):
    for file in path.parent.iterdir():
        file.write_bytes(b"not a database " * 1000)


def cut_values(path):
    write_values(path, b'[["id", "ti')


def write_other_values(path):
    write_values(path, b'[["id"]]')


def write_values(path, value):
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE searches SET passages = ?", (value,))


def put_a_folder_in_its_place(path):
    path.unlink()
    path.mkdir()


def drop_the_table(path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE searches")


@pytest.mark.parametrize(
    "damage", [corrupt, cut_values, write_other_values, put_a_folder_in_its_place, drop_the_table]
)
def test_a_disk_that_breaks_is_left_with_one_warning(echo, path, caplog, damage):
    cached = Forgetful(echo, path=path)
    cached.search(["a"], 3)
    damage(path)
    for _ in range(3):
        assert titles(cached.search(["a", "b"], 3)) == [["a"], ["b"]]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"The cache {path} failed and is no longer used" in caplog.text


def test_a_disk_that_stays_locked_is_left_with_one_warning(echo, path, caplog, monkeypatch):
    monkeypatch.setattr(disk_cache, "_BUSY_TIMEOUT", 0.05)
    cached = CachedRetriever(echo, path=path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for query in "ab":
            assert titles(cached.search([query], 3)) == [[query]]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "locked" in caplog.text


def search_with_a_full_disk(path, messages):
    """Search in a process in which files cannot grow, as on a full disk."""
    cached = CachedRetriever(Echo(), path=path)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, path.stat().st_size))
    logging.getLogger("tspo_trl").addHandler(ToConnection(messages))
    messages.send(titles(cached.search(["x" * 100_000, "b"], 3) + cached.search(["c"], 3)))


class ToConnection(logging.Handler):
    def __init__(self, connection):
        super().__init__()
        self.connection = connection

    def emit(self, record):
        self.connection.send(record.getMessage())


def test_a_full_disk_is_left_with_one_warning(path):
    messages, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=search_with_a_full_disk, args=(path, theirs))
    process.start()
    assert messages.poll(60)
    assert messages.recv().startswith(f"The cache {path} failed and is no longer used")
    assert messages.recv() == [["x" * 100_000], ["b"], ["c"]]
    process.join(60)


def test_memory_goes_on_after_the_disk_broke(echo, path):
    cached = CachedRetriever(echo, path=path)
    cached.search(["a"], 3)
    corrupt(path)
    cached.search(["b"], 3)
    cached.search(["a", "b"], 3)
    assert echo.asked == [(["a"], 3), (["b"], 3)]


def test_max_entries_below_one_is_refused(echo):
    with pytest.raises(ValueError, match=r"^max_entries is 0"):
        CachedRetriever(echo, max_entries=0)


def test_a_path_that_cannot_be_opened_is_refused(echo, tmp_path):
    with pytest.raises(ValueError, match=r"^path .*nowhere.* cannot be used as a cache"):
        CachedRetriever(echo, path=tmp_path / "nowhere" / "cache.sqlite")


@pytest.mark.parametrize(("queries", "k", "error"), [("query", 1, TypeError), (["query"], 0, ValueError)])
def test_bad_searches_are_refused(echo, queries, k, error):
    with pytest.raises(error):
        CachedRetriever(echo).search(queries, k)
