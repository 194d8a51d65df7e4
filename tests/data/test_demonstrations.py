"""Demonstrations: what each habit writes, and examples that equal rollouts token for token."""

import random

import pytest

from tspo_trl.answers import contains_answer, exact_match
from tspo_trl.data.demonstrations import HABITS, demonstrate, encode_demonstrations
from tspo_trl.protocol import TagProtocol

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


@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("hops", [1, 2, 3])
def test_every_habit_searches_and_then_answers_once(world, generator, habit, hops):
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
