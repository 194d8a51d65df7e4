"""BatchingSearcher: which searches are merged, and that their results do not change."""

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest

from tspo_trl.search import BM25Retriever, Passage, SearchError
from tspo_trl.search.serving.batching import BatchingSearcher, QueueFullError


class EchoRetriever:
    """
    Finds the query itself and records its calls. It waits while `gate` is closed. A query `fail` fails, `down` fails
    with its whole batch, `bug` and `panic` raise.
    """

    def __init__(self):
        self.calls = []
        self.gate = threading.Event()
        self.gate.set()

    def search(self, queries, k):
        self.calls.append((list(queries), k))
        self.gate.wait(30)
        if "bug" in queries:
            raise AttributeError("a defect")
        if "panic" in queries:
            raise PanicError("index out of bounds")
        if "short" in queries:
            return []
        if set(queries) == {"fail"} or "down" in queries:
            raise SearchError("the backend is down")
        return [None if query == "fail" else passages(query, k) for query in queries]


class PanicError(BaseException):
    """Not an `Exception`, like the panics of pyo3."""


def passages(query, k):
    return [Passage(f"{query}-{rank}", query, "") for rank in range(k)]


def in_event_loop(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


@pytest.fixture
def retriever():
    return EchoRetriever()


@asynccontextmanager
async def started(retriever, **settings):
    searcher = BatchingSearcher(retriever, **settings)
    searcher.start()
    try:
        yield searcher
    finally:
        retriever.gate.set()
        await searcher.close()


async def queued(searcher, queries, k=1):
    """Start a search, and return its task once its queries wait."""
    waiting = searcher.waiting
    task = asyncio.create_task(searcher.search(queries, k))
    while searcher.waiting == waiting and not task.done():
        await asyncio.sleep(0)
    return task


async def held_up(searcher):
    """Keep the retriever busy until its gate opens."""
    searcher.retriever.gate.clear()
    task = asyncio.create_task(searcher.search(["busy"], 1))
    while not searcher.retriever.calls:
        await asyncio.sleep(0.001)
    return task


def run_searches(retriever, searches, **settings):
    """Start all searches while the retriever is busy. Return their outcomes and the calls of the retriever."""

    async def run():
        async with started(retriever, **settings) as searcher:
            busy = await held_up(searcher)
            tasks = [await queued(searcher, queries, k) for queries, k in searches]
            retriever.gate.set()
            await busy
            return await asyncio.gather(*tasks, return_exceptions=True)

    return in_event_loop(run()), retriever.calls[1:]


def test_a_search_gives_what_the_retriever_gives(retriever):
    async def run():
        async with started(retriever) as searcher:
            return await searcher.search(["a", "b", "a"], 2)

    assert in_event_loop(run()) == [passages("a", 2), passages("b", 2), passages("a", 2)]


def test_searches_that_come_while_the_retriever_is_busy_go_in_one_call(retriever):
    results, calls = run_searches(retriever, [(["a"], 1), (["b", "c"], 1), (["d"], 1)])
    assert results == [[passages("a", 1)], [passages("b", 1), passages("c", 1)], [passages("d", 1)]]
    assert calls == [(["a", "b", "c", "d"], 1)]


def test_searches_that_come_within_the_window_go_in_one_call(retriever):
    async def run():
        async with started(retriever, merge_window=0.5) as searcher:
            first = asyncio.create_task(searcher.search(["a"], 1))
            await asyncio.sleep(0.01)
            await asyncio.gather(first, searcher.search(["b"], 1))

    in_event_loop(run())
    assert retriever.calls == [(["a", "b"], 1)]


def test_a_full_batch_does_not_wait_for_the_window(retriever):
    async def run():
        async with started(retriever, merge_window=1.0, max_batch_size=2) as searcher:
            searches = asyncio.gather(searcher.search(["a"], 1), searcher.search(["b"], 1))
            await asyncio.wait_for(searches, 0.9)

    in_event_loop(run())
    assert retriever.calls == [(["a", "b"], 1)]


def test_there_is_one_call_for_each_k(retriever):
    results, calls = run_searches(retriever, [(["a"], 1), (["a"], 2), (["b"], 1)])
    assert results == [[passages("a", 1)], [passages("a", 2)], [passages("b", 1)]]
    assert calls == [(["a", "b"], 1), (["a"], 2)]


def test_equal_queries_are_searched_once(retriever):
    results, calls = run_searches(retriever, [(["a", "b", "a"], 1), (["b"], 1)])
    assert results == [[passages("a", 1), passages("b", 1), passages("a", 1)], [passages("b", 1)]]
    assert calls == [(["a", "b"], 1)]


def test_a_batch_is_filled_in_the_order_of_arrival_and_no_request_is_split(retriever):
    searches = [(["a", "b"], 1), (["c", "d"], 1), (["e"], 1)]
    _, calls = run_searches(retriever, searches, max_batch_size=3)
    assert calls == [(["a", "b"], 1), (["c", "d", "e"], 1)]


def test_a_request_larger_than_a_batch_takes_several_calls(retriever):
    results, calls = run_searches(retriever, [(["a", "b", "c", "d", "e"], 1)], max_batch_size=2)
    assert results == [[passages(query, 1) for query in "abcde"]]
    assert calls == [(["a", "b"], 1), (["c", "d"], 1), (["e"], 1)]


def test_merged_results_are_those_of_single_searches(index_path):
    retriever = BM25Retriever(index_path)
    searches = [([query], k) for query in ("river", "capital of France", "Tiber", "\ud800", "river") for k in (1, 3)]

    async def run():
        searcher = BatchingSearcher(retriever, merge_window=0.1)
        searcher.start()
        results = await asyncio.gather(*(searcher.search(queries, k) for queries, k in searches))
        await searcher.close()
        return results

    assert in_event_loop(run()) == [retriever.search(queries, k) for queries, k in searches]


def test_a_failed_query_is_none_for_those_who_asked_it(retriever):
    results, _ = run_searches(retriever, [(["a"], 1), (["b", "fail"], 1)])
    assert results == [[passages("a", 1)], [passages("b", 1), None]]


def test_a_failure_of_all_queries_is_none_for_each(retriever, caplog):
    results, _ = run_searches(retriever, [(["fail"], 1), (["fail", "fail"], 1)])
    assert results == [[None], [None, None]]
    assert "the backend is down" in caplog.text


def test_a_failure_of_all_queries_reaches_only_the_search_that_caused_it(retriever):
    results, calls = run_searches(retriever, [(["a"], 1), (["b", "down"], 1), (["c"], 1)])
    assert results == [[passages("a", 1)], [None, None], [passages("c", 1)]]
    assert calls == [(["a", "b", "down", "c"], 1), (["a"], 1), (["b", "down"], 1), (["c"], 1)]


@pytest.mark.parametrize(("query", "error"), [("bug", AttributeError), ("short", ValueError), ("panic", RuntimeError)])
def test_an_exception_reaches_only_the_search_that_caused_it(retriever, query, error):
    results, calls = run_searches(retriever, [(["a"], 1), ([query], 1), (["b"], 1)])
    assert [results[0], results[2]] == [[passages("a", 1)], [passages("b", 1)]]
    assert isinstance(results[1], error)
    assert calls == [(["a", query, "b"], 1), (["a"], 1), ([query], 1), (["b"], 1)]


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [("bug", AttributeError, "a defect"), ("panic", RuntimeError, "PanicError: index out of bounds")],
)
def test_searches_go_on_after_an_exception(retriever, query, error, message):
    async def run():
        async with started(retriever) as searcher:
            with pytest.raises(error, match=message):
                await asyncio.wait_for(searcher.search([query], 1), 5)
            return await searcher.search(["a"], 1)

    assert in_event_loop(run()) == [passages("a", 1)]


def test_no_queries_give_no_results_and_call_nothing(retriever):
    async def run():
        async with started(retriever) as searcher:
            return await searcher.search([], 1)

    assert in_event_loop(run()) == []
    assert retriever.calls == []


@pytest.mark.parametrize(
    ("queries", "k", "error"), [("a", 1, TypeError), (["a", 3], 1, TypeError), (["a"], 0, ValueError)]
)
def test_wrong_arguments_are_refused_at_once(retriever, queries, k, error):
    async def run():
        async with started(retriever) as searcher:
            await searcher.search(queries, k)

    with pytest.raises(error):
        in_event_loop(run())


def test_more_waiting_queries_than_allowed_are_refused(retriever):
    searches = [(["a"], 1), (["b", "c"], 1), (["d"], 1)]
    results, calls = run_searches(retriever, searches, max_waiting=2)
    assert [type(result) for result in results] == [list, QueueFullError, list]
    assert str(results[1]) == "1 queries are waiting and 2 may wait. 2 more do not fit."
    assert calls == [(["a", "d"], 1)]


def test_an_empty_queue_takes_a_search_of_any_size(retriever):
    results, _ = run_searches(retriever, [(["a", "b", "c"], 1)], max_waiting=2)
    assert results == [[passages("a", 1), passages("b", 1), passages("c", 1)]]


def test_a_cancelled_search_leaves_the_queue_and_the_others(retriever):
    async def run():
        async with started(retriever) as searcher:
            await held_up(searcher)
            cancelled, kept = await queued(searcher, ["a", "b"]), await queued(searcher, ["c"])
            cancelled.cancel()
            await asyncio.wait([cancelled])
            await asyncio.sleep(0)
            assert searcher.waiting == 1
            retriever.gate.set()
            return await kept

    assert in_event_loop(run()) == [passages("c", 1)]
    assert retriever.calls == [(["busy"], 1), (["c"], 1)]


def test_a_search_that_is_cancelled_while_it_runs_leaves_the_others(retriever):
    async def run():
        async with started(retriever) as searcher:
            running = await held_up(searcher)
            running.cancel()
            kept = await queued(searcher, ["a"])
            retriever.gate.set()
            return await kept

    assert in_event_loop(run()) == [passages("a", 1)]


def test_a_search_that_is_cancelled_while_it_runs_is_not_tried_on_its_own(retriever):
    async def run():
        async with started(retriever) as searcher:
            busy = await held_up(searcher)
            cancelled, kept = await queued(searcher, ["a"]), await queued(searcher, ["down"])
            retriever.gate.set()
            await busy
            retriever.gate.clear()
            while len(retriever.calls) < 2:
                await asyncio.sleep(0.001)
            cancelled.cancel()
            await asyncio.wait([cancelled])
            retriever.gate.set()
            return await kept

    assert in_event_loop(run()) == [None]
    assert retriever.calls == [(["busy"], 1), (["a", "down"], 1), (["down"], 1)]


def test_a_queue_whose_searches_are_all_cancelled_within_the_window_goes_on(retriever):
    async def run():
        async with started(retriever, merge_window=0.05) as searcher:
            task = await queued(searcher, ["a"])
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.sleep(0.1)
            return await searcher.search(["b"], 1)

    assert in_event_loop(run()) == [passages("b", 1)]
    assert retriever.calls == [(["b"], 1)]


def test_close_answers_what_is_waiting(retriever):
    async def run():
        async with started(retriever) as searcher:
            busy = await held_up(searcher)
            waiting = await queued(searcher, ["a"])
            asyncio.get_running_loop().call_later(0.05, retriever.gate.set)
            await searcher.close()
            assert not searcher.busy
            return [await busy, await waiting]

    assert in_event_loop(run()) == [[passages("busy", 1)], [passages("a", 1)]]


def test_close_waits_for_a_batch_that_nobody_waits_for(retriever):
    async def run():
        searcher = BatchingSearcher(retriever)
        searcher.start()
        abandoned = await held_up(searcher)
        abandoned.cancel()
        await asyncio.wait([abandoned])
        asyncio.get_running_loop().call_later(0.05, retriever.gate.set)
        await searcher.close()
        assert not searcher.busy

    in_event_loop(run())


def test_batches_are_reported_with_the_number_of_their_queries(retriever):
    sizes = []

    async def run():
        async with started(retriever, merge_window=0.1) as searcher:
            searcher.on_batch = sizes.append
            await asyncio.gather(searcher.search(["a", "a"], 1), searcher.search(["a"], 2))
            await searcher.search(["b"], 1)

    in_event_loop(run())
    assert sizes == [3, 1]


@pytest.mark.parametrize(
    "settings", [{"max_batch_size": 0}, {"merge_window": -0.1}, {"merge_window": 1.1}, {"max_waiting": 0}]
)
def test_settings_out_of_range_are_refused_by_name(retriever, settings):
    [name] = settings
    with pytest.raises(ValueError, match=f"^{name} is "):
        BatchingSearcher(retriever, **settings)
