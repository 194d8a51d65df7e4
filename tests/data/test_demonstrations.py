"""Demonstrations: the turns of each habit, and examples with the tokens of rollouts."""

import hashlib
import json
import random

import pytest

from tspo_trl.answers import contains_answer, exact_match
from tspo_trl.data.demonstrations import HABITS, Demonstration, demonstrate, encode_demonstrations
from tspo_trl.protocols.tags import TagProtocol

PROTOCOL = TagProtocol()


@pytest.fixture
def generator():
    return random.Random(0)


def question_of(world, hops):
    return next(question for question in world.train_questions if question["hops"] == hops)


def actions(demonstration):
    return [PROTOCOL.parse(turn) for turn in demonstration.turns]


def test_right_demonstration_searches_along_the_path_and_answers(world, generator):
    question = question_of(world, 2)
    first, second, answer = question["entities"]
    assert demonstrate(world, question, "right", generator).turns == (
        f"<search> {first} </search>",
        f"<think> {question['relations'][0]} {second} </think><search> {second} </search>",
        f"<think> {question['relations'][1]} {answer} </think><answer> {answer} </answer>",
    )


def test_stopping_early_answers_with_the_name_before_the_answer(world, generator):
    question = question_of(world, 2)
    searched, answered = actions(demonstrate(world, question, "stops_early", generator))
    assert searched[:2] == ("search", question["entities"][0])
    assert answered[:2] == ("answer", question["entities"][1])


def test_stopping_early_on_one_hop_answers_with_the_question_s_own_name(world, generator):
    question = question_of(world, 1)
    assert demonstrate(world, question, "stops_early", generator).turns == (
        f"<answer> {question['entities'][0]} </answer>",
    )


@pytest.mark.parametrize("habit", [habit for habit in HABITS if habit != "repeats"])
@pytest.mark.parametrize("hops", [1, 2, 3])
def test_every_habit_but_repeating_searches_and_then_answers_once(world, generator, habit, hops):
    *searches, last = actions(demonstrate(world, question_of(world, hops), habit, generator))
    assert {action.action for action in searches} <= {"search"}
    assert last.action == "answer"
    assert all(action.content in world.entities for action in (*searches, last))


@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize(
    ("habit", "has_evidence"), [("misreads", True), ("searches_on", True), ("stops_early", False)]
)
def test_near_misses_have_the_evidence_and_the_wrong_answer(
    world, world_retriever, generator, habit, has_evidence, hops
):
    question = question_of(world, hops)
    *searches, last = actions(demonstrate(world, question, habit, generator))
    found = world_retriever.search([action.content for action in searches], 2)
    texts = [passage.text for passages in found for passage in passages]
    assert any(contains_answer(text, question["golden_answers"]) for text in texts) == has_evidence
    assert exact_match(last.content, question["golden_answers"]) == 0.0


def test_wandering_asks_for_a_name_that_is_not_on_the_path(world, generator):
    question = question_of(world, 3)
    *searches, _ = actions(demonstrate(world, question, "wanders", generator))
    assert {action.content for action in searches} - set(question["entities"])


def test_misreading_the_subject_answers_with_the_name_that_was_searched_for_last(world, generator):
    question = question_of(world, 2)
    first, second, _ = question["entities"]
    assert demonstrate(world, question, "misreads_subject", generator).turns == (
        f"<search> {first} </search>",
        f"<think> {question['relations'][0]} {second} </think><search> {second} </search>",
        f"<think> {question['relations'][1]} {second} </think><answer> {second} </answer>",
    )


def test_wandering_on_searches_once_more_than_wandering(world, generator):
    question = question_of(world, 3)
    turns = demonstrate(world, question, "wanders_on", generator).turns
    assert len(turns) == 5
    assert exact_match(actions(Demonstration("", turns))[-1].content, question["golden_answers"]) == 0.0
    assert set(question["entities"][1:3]) - {action.content for action in actions(Demonstration("", turns))}


def test_repeating_spends_the_searches_on_the_first_name_and_asks_for_the_answer_in_vain(world, generator):
    question = question_of(world, 2)
    first, second, answer = question["entities"]
    assert demonstrate(world, question, "repeats", generator, max_turns=4).turns == (
        f"<search> {first} </search>",
        f"<search> {first} </search>",
        f"<search> {first} </search>",
        f"<think> {question['relations'][0]} {second} </think><search> {second} </search>",
        f"<think> {question['relations'][1]} {answer} </think><search> {answer} </search>",
    )


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_repeating_finds_the_answer_with_the_last_search_and_not_before(world, world_retriever, generator, hops):
    question = question_of(world, hops)
    *searches, _ = actions(demonstrate(world, question, "repeats", generator, max_turns=3))
    assert len(searches) == 3
    found = world_retriever.search([action.content for action in searches], 2)
    assert [any(contains_answer(passage.text, question["golden_answers"]) for passage in one) for one in found] == [
        *[hops == 1] * 2,  # with one hop, every search is the one that finds it
        True,
    ]


def test_repeating_needs_as_many_turns_as_hops(world, generator):
    with pytest.raises(ValueError, match="`max_turns` must be at least the question's 3 hops, got 2"):
        demonstrate(world, question_of(world, 3), "repeats", generator, max_turns=2)


def test_unknown_habit_is_refused(world, generator):
    with pytest.raises(ValueError, match="`habit` must be one of right, stops_early"):
        demonstrate(world, question_of(world, 1), "guesses", generator)


def encode(world, tokenizer, retriever, generator, **kwargs):
    demonstrations = [demonstrate(world, question_of(world, 2), "right", generator)] * 2
    return demonstrations[0], encode_demonstrations(
        demonstrations, tokenizer, retriever, top_k=2, generator=generator, **kwargs
    )


def test_example_is_prompt_turns_and_real_feedback_and_learns_the_turns_only(
    world, world_tokenizer, world_retriever, generator
):
    demonstration, (example, _) = encode(world, world_tokenizer, world_retriever, generator, rename=False)
    expected, learned = [demonstration.prompt], []
    for turn in demonstration.turns:
        action = PROTOCOL.parse(turn)
        expected.append(turn)
        learned.append(turn)
        if action.action == "search":
            expected.append(PROTOCOL.render(world_retriever.search([action.content], 2)[0]).text)
    assert world_tokenizer.decode(example["input_ids"]) == "".join(expected)
    assert example["input_ids"] == [i for text in expected for i in world_tokenizer(text)["input_ids"]]
    assert world_tokenizer.decode([label for label in example["labels"] if label != -100]) == "".join(learned)
    assert all(label in (-100, i) for label, i in zip(example["labels"], example["input_ids"], strict=True))


def test_nothing_is_fed_back_after_a_last_turn_even_where_another_demonstration_searches_the_same(
    world, world_tokenizer, world_retriever, generator
):
    repeated = demonstrate(world, question_of(world, 2), "repeats", generator)
    longer = Demonstration(repeated.prompt, (*repeated.turns, "<answer> Ada Abbot </answer>"))
    examples = encode_demonstrations(
        [repeated, longer], world_tokenizer, world_retriever, top_k=2, generator=generator, rename=False
    )
    short, long = (world_tokenizer.decode(example["input_ids"]) for example in examples)
    assert short.endswith(repeated.turns[-1])
    assert long.startswith(short + "\n\n<information>")
    assert examples[0]["labels"][-1] == examples[0]["input_ids"][-1]


def test_examples_stay_the_same(world, world_tokenizer, world_retriever, generator):
    demonstrations = [
        demonstrate(world, question, habit, generator)
        for question in world.train_questions[:20]
        for habit in ("right", "stops_early", "misreads", "searches_on", "wanders")
    ]
    examples = encode_demonstrations(demonstrations, world_tokenizer, world_retriever, top_k=2, generator=generator)
    digest = hashlib.sha256(json.dumps(examples).encode()).hexdigest()
    assert digest == "ff0f0a5b72e84c89b74409b170526b724b6cb6df90c2152aa913fbe9f3e41f91"


def test_renaming_exchanges_names_consistently(world, world_tokenizer, world_retriever, generator):
    _, (kept, _) = encode(world, world_tokenizer, world_retriever, generator, rename=False)
    _, (one, other) = encode(world, world_tokenizer, world_retriever, generator)
    assert one["input_ids"] != other["input_ids"]
    pairs = set(zip(kept["input_ids"], one["input_ids"], strict=True))
    assert len({old for old, _ in pairs}) == len({new for _, new in pairs}) == len(pairs)
    changed = {world_tokenizer.decode([old]).strip(' "') for old, new in pairs if old != new}
    assert changed <= {word for name in world.entities for word in name.split()}
    text = world_tokenizer.decode(one["input_ids"])
    first = PROTOCOL.parse(text).content
    assert f'Doc 1(Title: "{first}") {first} had ' in text
