"""Tables of rollouts and of turns, from records written by hand."""

import json
from html import unescape

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tensorboard.plugin_util import markdown_to_safe_html

from tspo_trl.trainer.tables import EVIDENCE_LENGTH, TurnTables, markdown_table, newest_groups, plain_messages


def turn(text="<answer> Paris </answer>", queries=(), evidence=None, reward=0.0, advantage=0.0):
    return {"text": text, "queries": queries, "evidence": evidence, "reward": reward, "advantage": advantage}


def record(*turns, group=0, outcome=0.0, first_occurrence=None, golden_answers=("Paris",), question="Capital?"):
    return {
        "group": group,
        "question": question,
        "golden_answers": golden_answers and list(golden_answers),
        "outcome": outcome,
        "first_occurrence": first_occurrence,
        "prediction": "Paris",
        "end_reason": "answered",
        "turns": list(turns) or [turn()],
    }


def tables(*records, mode="train", num_rollouts=8):
    made = TurnTables(num_rollouts, success_threshold=1.0)
    made.keep(mode, records)
    return made


def column(made, name):
    return made.completion_columns()[name].tolist()


def test_each_rollout_is_of_one_of_four_kinds():
    made = tables(
        record(outcome=0.0),
        record(outcome=0.0, first_occurrence=0),
        record(outcome=1.0, first_occurrence=2),
        record(outcome=1.0),
    )
    kinds = ["complete_failure", "near_miss", "complete_success", "success_without_retrieval"]
    assert column(made, "kind") == kinds


def test_unscorable_rollout_and_one_without_gold_answers_are_of_no_kind():
    made = tables(record(outcome=None), record(golden_answers=None))
    assert column(made, "kind") == [None, None]


def test_first_occurrence_is_a_whole_number_or_none():
    values = column(tables(record(first_occurrence=1), record()), "first_occurrence")
    assert values == [1, None]
    assert isinstance(values[0], int)


def test_queries_and_credit_are_in_the_order_of_the_turns():
    search = turn(queries=("a", "b"), reward=0.5, advantage=-0.123456)
    made = tables(record(search, turn(queries=("c",)), turn(reward=None)))
    assert column(made, "queries") == [["a", "b", "c"]]
    assert column(made, "turn_rewards") == [[0.5, 0.0, None]]
    assert column(made, "turn_advantages") == [[-0.1235, 0.0, 0.0]]


def test_newest_rollouts_are_kept():
    made = tables(record(question="1"), record(question="2"), num_rollouts=3)
    made.keep("eval", [record(question="3"), record(question="4")])
    assert column(made, "question") == ["2", "3", "4"]
    assert column(made, "mode") == ["train", "eval", "eval"]


def test_rollout_that_is_not_credited_has_a_row_of_nothing():
    made = tables(None, record(), None)
    assert column(made, "question") == [None, "Capital?", None]
    assert made.turns("train", 1)["rollout"].tolist() == [1]


def test_there_are_no_columns_where_nothing_is_credited():
    assert tables().completion_columns() == {}
    assert tables(None, None).completion_columns() == {}


def test_turns_have_a_row_each():
    first = turn("<search> a </search>", ("a",), "Paris lies on the Seine.", 0.5, 0.25)
    made = tables(record(first, turn(), group=3, first_occurrence=0))
    assert json.loads(made.turns("train", 7).to_json(orient="records")) == [
        {
            "step": 7,
            "mode": "train",
            "group": 3,
            "rollout": 0,
            "question": "Capital?",
            "golden_answers": ["Paris"],
            "turn": 0,
            "text": "<search> a </search>",
            "queries": ["a"],
            "evidence": "Paris lies on the Seine.",
            "first_occurrence": True,
            "reward": 0.5,
            "advantage": 0.25,
        },
        {
            "step": 7,
            "mode": "train",
            "group": 3,
            "rollout": 0,
            "question": "Capital?",
            "golden_answers": ["Paris"],
            "turn": 1,
            "text": "<answer> Paris </answer>",
            "queries": [],
            "evidence": None,
            "first_occurrence": False,
            "reward": 0.0,
            "advantage": 0.0,
        },
    ]


def test_turns_are_those_of_training_or_of_the_evaluation():
    made = tables(record(question="1"))
    made.keep("eval", [record(question="2")])
    assert made.turns("train", 1)["question"].tolist() == ["1"]
    assert made.turns("eval", 1)["question"].tolist() == ["2"]


def test_long_evidence_is_cut():
    made = tables(record(turn(evidence="x" * EVIDENCE_LENGTH), turn(evidence="x" * (EVIDENCE_LENGTH + 1))))
    assert made.turns("train", 1)["evidence"].tolist() == ["x" * EVIDENCE_LENGTH, "x" * EVIDENCE_LENGTH + " ..."]


def test_messages_of_a_completion_are_of_one_form():
    call = {"type": "function", "function": {"name": "search", "arguments": {"query": "Café"}}}
    completion = [
        {"role": "assistant", "content": "I search.", "tool_calls": [call, call]},
        {"role": "tool", "name": "search", "content": "Paris"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "assistant", "content": [{"type": "text", "text": "It is "}, {"type": "text", "text": "Paris."}]},
    ]
    written = '{"type": "function", "function": {"name": "search", "arguments": {"query": "Café"}}}'
    assert plain_messages(completion) == [
        {"role": "assistant", "content": f"I search.\n{written}\n{written}"},
        {"role": "tool", "content": "Paris"},
        {"role": "assistant", "content": written},
        {"role": "assistant", "content": "It is Paris."},
    ]


def test_completion_that_is_a_text_stays_one():
    assert plain_messages("<answer> Paris </answer>") == "<answer> Paris </answer>"


@pytest.mark.parametrize(("num_groups", "rollouts"), [(0, []), (1, [4]), (2, [2, 3, 4]), (9, [0, 1, 2, 3, 4])])
def test_newest_groups_are_the_last_ones(num_groups, rollouts):
    made = tables(*[record(group=group) for group in (0, 0, 1, 1, 2)])
    assert newest_groups(made.turns("train", 1), num_groups) == rollouts


def test_groups_of_two_batches_of_an_evaluation_are_two():
    made = tables(record(group=0, question="1"), mode="eval")
    made.keep("eval", [record(group=0, question="2")])
    assert newest_groups(made.turns("eval", 1), 1) == [1]


@example("<em>a</em>")
@example("&lt;")
@example("a|b")
@example("**a** `b` [c](http://d.e)")
@given(st.text(alphabet=st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"])))
def test_text_in_markdown_is_shown_as_it_is(text):
    shown = markdown_to_safe_html(markdown_table(pd.DataFrame({"text": ["x" + text]}, dtype=object)))
    assert shown.count("<td>") == 1
    assert not any(f"<{tag}" in shown for tag in ("em", "strong", "code", "a ", "img", "h1", "script"))
    cell = shown.partition("<td>")[2].partition("</td>")[0]
    assert unescape(cell) == " ".join(("x" + text).split())


def test_numbers_in_markdown_have_four_digits_and_nothing_is_shown_for_none():
    table = pd.DataFrame({"a": [0.123456], "b": [None], "c": [7]}, dtype=object)
    assert markdown_table(table).splitlines()[-1] == "| 0.1235 |  | 7 |"
