"""RemoteRetriever in threads, copies and forked processes, when it is closed, and at the end of the interpreter."""

import asyncio
import copy
import gc
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tspo_trl.search import SearchError
from tspo_trl.search.retrievers.remote import RemoteRetriever

from ..fault_answers import expected, texts
from ..fault_server import FaultServer


def test_servers_may_start_later(connect):
    server = FaultServer()
    server.kill()
    retriever = connect(server.url)
    server.start()
    assert texts(retriever.search(["a"], k=1)) == expected(["a"])
    server.kill()


def test_threads_can_share_a_retriever(server, connect):
    retriever = connect(server.url, batch_size=2)
    batches = [[f"query {i} of thread {thread}" for i in range(5)] for thread in range(40)]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda queries: texts(retriever.search(queries, k=1)), batches))
    assert results == [expected(queries) for queries in batches]
    assert retriever.counters()["requests"] == 120


def test_works_where_an_event_loop_runs(server, connect):
    async def cell_of_a_notebook():
        return connect(server.url).search(["a"], k=1)

    assert texts(asyncio.run(cell_of_a_notebook())) == expected(["a"])


def test_closed_retriever_opens_again(server, connect):
    retriever = connect(server.url)
    retriever.search(["a"], k=1)
    retriever.close()
    retriever.close()
    assert texts(retriever.search(["a"], k=1)) == expected(["a"])
    assert server.seen["connections"] == 2


def test_closing_ends_a_search_of_another_thread(server, connect):
    server.control(mode="hang")
    retriever = connect(server.url, timeout=60)
    with ThreadPoolExecutor(1) as threads:
        search = threads.submit(retriever.search, ["a"], 1)
        while not server.seen["requests"]:
            time.sleep(0.01)
        retriever.close()
        with pytest.raises(SearchError, match="given up: the client was closed"):
            search.result(timeout=10)


def test_copies_search_alike_and_keep_all_options(server):
    options = {"batch_size": 2, "max_concurrency": 3, "timeout": 4.0, "max_retries": 5, "backoff": 6, "set_aside": 7}
    with RemoteRetriever(server.url, **options, token="secret-token") as retriever:
        server.control(mode="need_token")
        retriever.search(["a"], k=1)
        for duplicate in (pickle.loads(pickle.dumps(retriever)), copy.deepcopy(retriever)):
            with duplicate:
                assert texts(duplicate.search(["a"], k=1)) == expected(["a"])
                assert {name: getattr(duplicate, name) for name in options} == options


FORK = """
import gc, os, sys
from tspo_trl.search.retrievers.remote import RemoteRetriever
retriever = RemoteRetriever({url!r}, timeout=5, max_retries=0)
retriever.search(["parent"], 1)
for use in (True, False):
    child = os.fork()
    if not child:
        if use:
            print(retriever.search(["child"], 1)[0][0].text, flush=True)
        del retriever
        gc.collect()
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
    print(retriever.search(["parent"], 1)[0][0].text, flush=True)
print(retriever.counters()["requests"])
"""


def run_program(program, url, *options):
    command = [sys.executable, *options, "-c", program.format(url=url)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_forked_process_can_search_and_leaves_the_parents_connection_alone(server):
    output, errors = run_program(FORK, server.url, "-X", "dev").communicate(timeout=60)
    lines = ["Passage for child.", "Passage for parent.", "Passage for parent.", "3"]
    assert (output.splitlines(), "nclosed" in errors, "Traceback" in errors) == (lines, False, False)
    assert server.seen["connections"] == 2  # the parent's, which stays open, and the child's


def test_retriever_that_nobody_uses_any_more_leaves_no_thread(server):
    retriever = RemoteRetriever(server.url)
    retriever.search(["a"], k=1)
    before = threading.active_count()
    del retriever
    gc.collect()
    assert threading.active_count() == before - 1


UNCLOSED = """
from tspo_trl.search.retrievers.remote import RemoteRetriever
kept, dropped = RemoteRetriever({url!r}), RemoteRetriever({url!r})
print(kept.search(["a"], 1) == dropped.search(["a"], 1))
del dropped
"""


def test_interpreter_ends_without_warnings_when_nothing_was_closed(server):
    output, errors = run_program(UNCLOSED, server.url, "-X", "dev").communicate(timeout=60)
    assert output == "True\n"
    assert "nclosed" not in errors
    assert "Traceback" not in errors


INTERRUPTED = """
from tspo_trl.search.retrievers.remote import RemoteRetriever
retriever = RemoteRetriever({url!r}, timeout=600)
try:
    retriever.search(["a"], 1)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_search_can_be_interrupted(server):
    server.control(mode="hang")
    process = run_program(INTERRUPTED, server.url)
    while not server.seen["requests"]:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert (output, errors, process.returncode) == ("interrupted\n", "", 0)


def test_importing_the_module_loads_no_http_library(run_python):
    program = "import sys, tspo_trl.search.retrievers.remote; print('aiohttp' in sys.modules)"
    assert run_python(program) == "False"
