"""The fault table: whatever servers do, no rollout gets another's passage, none hangs, and the counts are right.

Twenty rollouts send different queries in each of two turns, through the real loop and client, to servers in other
processes.
"""

import contextlib
import threading
import time
from dataclasses import dataclass

import pytest

from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.rollout.loop import RolloutLoop
from tspo_trl.rollout.state import Rollout, RolloutLimits
from tspo_trl.search.retrievers.remote import RemoteRetriever
from tspo_trl.search.statistics import SearchStatistics

from ..fault_server import FaultServer

NUM_ROLLOUTS = 20
OPTIONS = {"batch_size": 5, "max_concurrency": 4, "timeout": 5.0, "max_retries": 2, "backoff": 0.02}


@pytest.fixture
def start():
    """Start servers, and stop them after the test."""
    servers = []

    def start(**settings):
        servers.append(FaultServer(**settings))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def connect():
    with contextlib.ExitStack() as stack:
        yield lambda *urls, **changes: stack.enter_context(RemoteRetriever(urls, **{**OPTIONS, **changes}))


def query(rollout, turn):
    return f"question {turn} of rollout {rollout}"


@dataclass
class Played:
    rollouts: list[Rollout]
    statistics: SearchStatistics
    seconds: float
    queries: list[list[str]]

    @property
    def failed(self):
        """Rollouts that ended because their search failed."""
        return [i for i, rollout in enumerate(self.rollouts) if rollout.end_reason == "search_failed"]

    @property
    def counts(self):
        """Numbers of queries, of failed ones and of empty ones."""
        return self.statistics.queries, self.statistics.failed, self.statistics.empty

    def check_places(self):
        """Every other rollout was answered, with the passages of its own queries."""
        for i, rollout in enumerate(self.rollouts):
            if i not in self.failed:
                assert rollout.end_reason == "answered"
                found = [turn.evidence for turn in rollout.turns if turn.queries]
                assert found == [f'Doc 1(Title: "Title") Passage for {asked[:100]}.' for asked in self.queries[i]]


@pytest.fixture
def play(tokenizer):
    """Play twenty rollouts. `unusual` contains special queries by rollout and turn."""

    def encode(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    def play(retriever, unusual=None):
        queries = [[(unusual or {}).get((i, t), query(i, t)) for t in range(2)] for i in range(NUM_ROLLOUTS)]
        turns = [[f"<search> {text} </search>" for text in both] + ["<answer> A </answer>"] for both in queries]
        scripts = [[encode(turn) for turn in script] for script in turns]
        limits = RolloutLimits(
            max_turns=2, max_turn_length=20_000, max_feedback_length=400, max_completion_length=50_000, top_k=1
        )
        loop = RolloutLoop(tokenizer, retriever, TagProtocol(), limits)
        start = time.monotonic()
        # The prompt of a rollout is one token, the number of its script.
        rollouts, statistics = loop.run(
            [[i] for i in range(NUM_ROLLOUTS)],
            lambda prompt_ids, max_new_tokens: ([scripts[ids[0]].pop(0) for ids in prompt_ids], None),
        )
        return Played(rollouts, statistics, time.monotonic() - start, queries)

    return play


def test_nothing_is_lost_where_nothing_fails(start, connect, play):
    played = play(connect(start().url))
    played.check_places()
    assert (played.counts, played.failed) == ((40, 0, 0), [])
    assert played.statistics.counters == {"requests": 8, "retries": 0, "failed_requests": 0, "replicas_set_aside": 0}


@pytest.mark.parametrize("mode", ["status_503", "truncated_body"])
def test_passing_fault_costs_retries_and_no_rollout(start, connect, play, mode):
    played = play(connect(start(mode=mode, times=2).url))
    played.check_places()
    assert (played.counts, played.failed) == ((40, 0, 0), [])
    assert played.statistics.counters == {"requests": 10, "retries": 2, "failed_requests": 0, "replicas_set_aside": 0}


@pytest.mark.parametrize("mode", ["junk", "junk_as_chunks", "hang", "drip", "status_500", "status_404"])
def test_lasting_fault_ends_all_rollouts_and_training_goes_on_after_it(start, connect, play, mode):
    server = start(mode=mode)
    retriever = connect(server.url, **({"timeout": 0.3} if mode in ("junk_as_chunks", "hang", "drip") else {}))
    played = play(retriever)
    assert (played.counts, played.failed) == ((20, 20, 0), list(range(NUM_ROLLOUTS)))
    assert played.seconds < 15
    retriever.timeout = 5.0
    server.control()
    after = play(retriever)
    after.check_places()
    assert after.counts == (40, 0, 0)


def test_server_that_is_not_there_ends_all_rollouts(start, connect, play):
    server = start()
    server.kill()
    played = play(connect(server.url))
    assert (played.counts, played.failed) == ((20, 20, 0), list(range(NUM_ROLLOUTS)))


def test_server_killed_in_the_middle_of_an_answer_and_restarted_loses_no_rollout(start, connect, play):
    server = start(mode="dies")

    def restart():
        server.wait_for_death()
        time.sleep(0.2)
        server.start()

    restarter = threading.Thread(target=restart)
    restarter.start()
    played = play(connect(server.url, max_retries=10, backoff=0.1))
    restarter.join()
    played.check_places()
    assert (played.counts, played.failed) == ((40, 0, 0), [])
    assert played.statistics.counters["retries"] > 0
    assert played.seconds < 30


def test_server_killed_between_turns_ends_the_rollouts_that_search_again(start, connect, play):
    server = start()
    retriever = connect(server.url)

    class KillsAfterTheFirstTurn:
        def search(self, queries, k):
            results = retriever.search(queries, k)
            if server.process.returncode is None:
                server.kill()
            return results

    played = play(KillsAfterTheFirstTurn())
    assert (played.counts, played.failed) == ((40, 20, 0), list(range(NUM_ROLLOUTS)))
    # They keep their earlier passages.
    for i, rollout in enumerate(played.rollouts):
        assert rollout.turns[0].evidence.endswith(f"Passage for {query(i, 0)}.")


def test_hanging_replica_costs_one_timeout_and_no_rollout(start, connect, play):
    hanging, sound = start(mode="hang"), start()
    played = play(connect(hanging.url, sound.url, timeout=1.5))
    played.check_places()
    assert (played.counts, played.failed) == ((40, 0, 0), [])
    # Two of the first four requests met it; by the second turn it is set aside.
    assert [len(server.seen["requests"]) for server in (hanging, sound)] == [2, 8]
    assert played.statistics.counters == {"requests": 10, "retries": 2, "failed_requests": 0, "replicas_set_aside": 1}
    assert played.seconds < 15


def test_dead_replica_costs_no_rollout(start, connect, play):
    dead, sound = start(), start()
    dead.kill()
    played = play(connect(dead.url, sound.url))
    played.check_places()
    assert (played.counts, played.failed) == ((40, 0, 0), [])
    assert len(sound.seen["requests"]) == 8
    assert played.statistics.counters == {"requests": 10, "retries": 2, "failed_requests": 0, "replicas_set_aside": 1}


def test_replica_that_comes_back_is_used_again(start, connect, play):
    returning, sound = start(), start()
    returning.kill()
    retriever = connect(returning.url, sound.url, set_aside=0.5)
    play(retriever).check_places()
    returning.start()
    time.sleep(0.6)
    play(retriever).check_places()
    assert returning.seen["requests"]


def test_slow_replica_is_waited_for(start, connect, play):
    slow, quick = start(mode="slow"), start()
    played = play(connect(slow.url, quick.url))
    played.check_places()
    assert (played.counts, played.failed) == ((40, 0, 0), [])
    assert [len(server.seen["requests"]) for server in (slow, quick)] == [4, 4]


def test_search_that_finds_nothing_is_empty_and_not_failed(start, connect, play):
    played = play(connect(start(mode="empty").url))
    assert (played.counts, played.failed) == ((40, 0, 40), [])
    assert {rollout.end_reason for rollout in played.rollouts} == {"answered"}
    assert played.rollouts[0].turns[0].feedback == "\n\n<information></information>\n\n"


def test_query_of_ten_thousand_characters_is_searched(start, connect, play):
    server = start()
    played = play(connect(server.url), {(7, 0): "x" * 10_000})
    played.check_places()
    assert (played.counts, played.failed) == ((40, 0, 0), [])
    assert max(len(text) for request in server.seen["requests"] for text in request["queries"]) == 10_000


@pytest.mark.parametrize(("length", "requests", "refused"), [(10_000, 13, 3), (16_000, 14, 4)])
def test_query_that_the_server_finds_too_long_is_cut_and_costs_no_rollout(
    start, connect, play, length, requests, refused
):
    played = play(connect(start(mode="refuse_long").url), {(7, 0): "x" * length})
    played.check_places()
    assert (played.counts, played.failed) == ((40, 0, 0), [])
    # Eight requests, and the halves of the refused one: 2 and 3, or 2 with 1 and 1; then the query, shorter each time.
    counters = {"requests": requests, "retries": 0, "failed_requests": refused, "replicas_set_aside": 0}
    assert played.statistics.counters == counters


def test_refused_batch_of_long_queries_is_sent_in_parts(start, connect):
    """The batch is too large for the server, but no query is."""
    server = start(mode="refuse_large")
    queries = [f"{number} " + "x" * 16_000 for number in range(20)]
    found = connect(server.url, batch_size=20).search(queries, 1)
    assert [passages[0].id for passages in found] == [f"id of {query[:40]}" for query in queries]


def test_query_that_breaks_the_server_costs_its_rollout_alone(start, connect, play):
    server = start(mode="search_r1")  # without scores, identifiers and error bodies
    played = play(connect(server.url), {(3, 1): "poison"})
    played.check_places()
    assert (played.counts, played.failed) == ((40, 1, 0), [3])
    # Four; three, the request of the poison three times, and five queries one by one.
    assert played.statistics.counters == {"requests": 15, "retries": 2, "failed_requests": 2, "replicas_set_aside": 0}


def test_queries_of_binary_junk_are_searched(start, connect, play):
    junk = "".join(map(chr, [0, 1, 27, 127, 128, 0xFFFF, 0x10FFFF]))
    played = play(connect(start().url), {(5, 0): f"junk{junk}junk", (6, 1): "\ufffd" * 50})
    played.check_places()
    assert (played.counts, played.failed) == ((40, 0, 0), [])
