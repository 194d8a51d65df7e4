"""Turns that are cut by their budget, and the tokens that are left for the last turn."""

import pytest

from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.rollout.loop import RolloutLoop, least_feedback_length
from tspo_trl.rollout.state import RolloutLimits
from tspo_trl.search import Passage

from .test_chat import ANSWER, END
from .test_loop import QUESTION, Script, limits, run

SEARCH = f"<search> {QUESTION} </search>"


class Library:
    """Retriever of long passages."""

    def search(self, queries, k):
        return [[Passage(query, '"Paris"', "Paris is the capital of France. " * 80)] * k for query in queries]


def filled(tokenizer, length, end=SEARCH):
    """A turn of exactly `length` tokens."""
    return [tokenizer("q")["input_ids"][0]] * (length - len(tokenizer(end)["input_ids"])) + tokenizer(end)["input_ids"]


def run_ids(tokenizer, turns, limits, protocol=None, prompt=(5,)):
    """Run one rollout with turns of token ids, and return it with the budgets of its turns."""
    turns, budgets = iter(turns), []

    def generate(prompt_ids, max_new_tokens):
        budgets.extend(max_new_tokens)
        return [next(turns)[: max_new_tokens[0]]], None

    loop = RolloutLoop(tokenizer, Library(), protocol or TagProtocol(), limits)
    (rollout,), _ = loop.run([list(prompt)], generate)
    return rollout, budgets


@pytest.mark.parametrize("last", ["hm " * 100, "<answer> Paris " * 20, "<search> Rome " * 20])
def test_last_turn_that_is_cut_ends_for_want_of_tokens(tokenizer, retriever, last):
    (rollout,), _ = run(tokenizer, retriever, [SEARCH, last], max_turns=1)
    assert rollout.end_reason == "max_length"
    assert [turn.is_cut for turn in rollout.turns] == [False, True]


@pytest.mark.parametrize(
    ("last", "reason"),
    [("hm", "no_action"), ("hm<|im_end|>", "no_action"), (SEARCH, "max_turns"), ("<answer> A </answer>", "answered")],
)
def test_last_turn_that_ends_at_its_last_token_is_not_cut(tokenizer, last, reason):
    ids = tokenizer(last)["input_ids"]
    exact = limits(max_turns=1, max_turn_length=len(ids) + (last == "hm"), max_feedback_length=250)
    rollout, _ = run_ids(tokenizer, [ids, ids], exact)
    assert rollout.end_reason == reason
    assert not any(turn.is_cut for turn in rollout.turns)


def test_cut_turn_on_the_way_gets_the_hint_and_is_marked(tokenizer, retriever):
    script = ["hm " * 100, "<answer> Paris </answer>"]
    (rollout,), _ = run(tokenizer, retriever, script, max_feedback_length=250)
    assert [turn.is_cut for turn in rollout.turns] == [True, False]
    assert rollout.end_reason == "answered"


def test_call_or_message_that_is_cut_is_no_answer_and_ends_for_want_of_tokens(chat_tokenizer, chat_protocol):
    budgets = RolloutLimits(1, 12, 300, 900, 1)
    long = chat_tokenizer("Paris " * 20)["input_ids"]
    rollout, _ = run_ids(chat_tokenizer, [long, long], budgets, chat_protocol)
    assert (rollout.end_reason, [turn.is_cut for turn in rollout.turns]) == ("max_length", [True, True])
    rollout, _ = run_ids(chat_tokenizer, [chat_tokenizer("Paris" + END)["input_ids"]], budgets, chat_protocol)
    assert (rollout.end_reason, rollout.turns[0].is_cut) == ("answered", False)


@pytest.mark.parametrize("context", [None, 4196])
def test_default_budgets_leave_a_whole_last_turn_after_four_full_turns_and_feedbacks(tokenizer, context):
    default = RolloutLimits(4, 500, 500, 4096, 3, context)
    last = filled(tokenizer, 500, "<answer> Paris </answer>")
    rollout, budgets = run_ids(tokenizer, [filled(tokenizer, 500)] * 4 + [last], default, prompt=[5] * 100)
    assert budgets == [500] * 5
    spans = [turn.feedback_span[1] - turn.feedback_span[0] for turn in rollout.turns[:-1]]
    assert spans == [500, 500, 500, 96]
    assert rollout.turns[3].feedback.endswith("</information>\n\n")
    assert "Paris is the capital" in rollout.turns[3].evidence
    assert (rollout.end_reason, len(rollout.completion_ids)) == ("answered", 4096)


@pytest.mark.parametrize("room", range(0, 160, 7))
def test_feedback_before_the_last_turn_is_cut_to_its_tags_at_most(tokenizer, room):
    search = tokenizer(SEARCH)["input_ids"]
    least = least_feedback_length(TagProtocol(), tokenizer)
    tight = limits(max_turns=1, max_turn_length=60, max_completion_length=len(search) + least + 1 + room)
    rollout, budgets = run_ids(tokenizer, [search, tokenizer("<answer> A </answer>")["input_ids"]], tight)
    feedback = rollout.turns[0].feedback_span[1] - rollout.turns[0].feedback_span[0]
    assert budgets[1] == min(60, room + 1)
    assert feedback == min(120, least + max(0, room + 1 - 60))


def test_rollout_without_room_for_tags_ends_before_its_last_turn(tokenizer):
    search = tokenizer(SEARCH)["input_ids"]
    least = least_feedback_length(TagProtocol(), tokenizer)
    rollout, budgets = run_ids(tokenizer, [search], limits(max_turns=1, max_completion_length=len(search) + least))
    assert (rollout.end_reason, len(budgets)) == ("max_length", 1)


def test_earlier_feedback_and_short_feedback_are_left_whole(tokenizer, retriever):
    script = Script(tokenizer, [SEARCH, SEARCH, "<answer> Paris </answer>"])
    loop = RolloutLoop(tokenizer, retriever, TagProtocol(), limits(max_completion_length=250))
    (rollout,), _ = loop.run(script.prompts, script)
    assert rollout.turns[0].feedback == rollout.turns[1].feedback


def test_several_messages_keep_their_frames(chat_tokenizer, chat_protocol):
    from ..protocols.test_chat import call

    calls = chat_tokenizer(call("a") + call("b") + END)["input_ids"]
    answer = chat_tokenizer(ANSWER)["input_ids"]
    tight = RolloutLimits(1, 200, 400, len(calls) + 420, 1)
    rollout, budgets = run_ids(chat_tokenizer, [calls, answer], tight, chat_protocol)
    assert rollout.end_reason == "answered"
    assert budgets == [200, 200]
    assert [message["role"] for message in chat_protocol.messages(rollout.trajectory)][1:3] == ["tool", "tool"]
