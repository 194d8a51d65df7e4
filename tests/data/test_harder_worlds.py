"""Harder SearchWorlds: more hops, second names, distracting passages, and long chains of relations between people."""

import random
from collections import Counter

import pytest

from tspo_trl.answers import contains_answer
from tspo_trl.data import SearchWorld
from tspo_trl.data.demonstrations import demonstrate
from tspo_trl.data.entities import CHAIN_RELATIONS, RELATIONS, Entity
from tspo_trl.data.names import NAME_WORDS
from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.search import BM25Retriever, build_index

SMALL = {"num_people": 200, "num_places": 80, "num_works": 80, "num_train_questions": 60, "num_test_questions": 10}


def index(world, folder):
    world.save(folder / "world")
    build_index(folder / "world" / "corpus.jsonl", folder / "index")
    return BM25Retriever(folder / "index")


@pytest.fixture(scope="module")
def hard_world():
    return SearchWorld(1, hops=(3, 4), aliases=True, num_distractors=50, **SMALL)


@pytest.fixture(scope="module")
def hard_retriever(hard_world, tmp_path_factory):
    return index(hard_world, tmp_path_factory.mktemp("hard"))


@pytest.fixture(scope="module")
def chain_world():
    return SearchWorld(
        1, relations=CHAIN_RELATIONS, facts_per_entity=3, hops=(8,), num_train_questions=100, num_test_questions=20
    )


@pytest.fixture(scope="module")
def chain_retriever(chain_world, tmp_path_factory):
    return index(chain_world, tmp_path_factory.mktemp("chain"))


def questions(world):
    return world.train_questions + world.test_questions


def namesakes(world):
    return [entity for entity in world.entities.values() if entity.split is None]


def test_questions_have_the_numbers_of_hops_that_are_asked_for(hard_world):
    assert Counter(question["hops"] for question in hard_world.train_questions) == {3: 30, 4: 30}
    assert Counter(question["hops"] for question in hard_world.test_questions) == {3: 5, 4: 5}


@pytest.mark.parametrize("name", ["hard_world", "chain_world"])
def test_path_follows_the_facts_by_different_relations_to_different_entities(request, name):
    world = request.getfixturevalue(name)
    for question in questions(world):
        asked, *_ = path = question["entities"]
        assert question["question"].endswith("'s ".join((asked, *question["relations"])) + "?")
        for name, relation, following in zip(path, question["relations"], path[1:], strict=False):
            assert world.entity(name).facts[relation] == following
        assert len({world.entity(name).name for name in path}) == len(set(question["relations"])) + 1 == len(path)


@pytest.mark.parametrize("name", ["hard_world", "chain_world"])
def test_questions_are_unique_and_their_splits_disjoint(request, name):
    world = request.getfixturevalue(name)
    assert len({question["question"] for question in questions(world)}) == len(questions(world))
    for split in ("train", "test"):
        told = getattr(world, f"{split}_questions")
        assert {world.entity(name).split for question in told for name in question["entities"]} == {split}


@pytest.mark.parametrize("name", ["hard", "chain"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_answer_takes_as_many_searches_as_hops(request, name, k):
    world, retriever = request.getfixturevalue(f"{name}_world"), request.getfixturevalue(f"{name}_retriever")
    for question in questions(world):
        *before, found = retriever.search(question["entities"][:-1], k)
        gold = question["golden_answers"]
        assert any(contains_answer(passage.text, gold) for passage in found)
        assert not any(contains_answer(passage.text, gold) for passages in before for passage in passages)


@pytest.mark.parametrize("name", ["hard", "chain"])
def test_search_for_a_name_or_an_alias_finds_its_passage_first(request, name):
    world, retriever = request.getfixturevalue(f"{name}_world"), request.getfixturevalue(f"{name}_retriever")
    pairs = [(name, f'"{entity.name}"') for entity in world.entities.values() for name in entity.names]
    found = retriever.search([name for name, _ in pairs], 1)
    assert [passages[0].title for passages in found] == [title for _, title in pairs]


def test_passage_tells_the_alias_under_the_title_of_the_name():
    facts = {"debut": "Paper Lion", "mentor": "Otto Gibbs"}
    assert Entity("Ada Abbot", "person", "train", facts, "Ada Shaw").passage == (
        "Ada Abbot is Ada Shaw and Ada Shaw had debut Paper Lion and mentor Otto Gibbs."
    )


def test_names_and_aliases_are_all_different(hard_world):
    entities = hard_world.entities.values()
    assert all(entity.alias is not None for entity in entities)
    assert len({name for entity in entities for name in entity.names}) == 2 * len(entities)


def test_questions_and_facts_call_entities_by_either_name(hard_world):
    facts = [name for entity in hard_world.entities.values() for name in entity.facts.values()]
    starts = [question["entities"][0] for question in questions(hard_world)]
    for names in (facts, starts):
        by_alias = sum(name not in hard_world.entities for name in names)
        assert 0.3 < by_alias / len(names) < 0.7


def test_both_names_of_the_answer_are_right(hard_world):
    for question in questions(hard_world):
        answer = hard_world.entity(question["entities"][-1])
        assert question["golden_answers"] == [answer.name, answer.alias]


def test_right_demonstration_follows_the_names_that_the_passages_write(hard_world):
    question = next(one for one in questions(hard_world) if set(one["entities"][1:-1]) - set(hard_world.entities))
    turns = demonstrate(hard_world, question, "right", random.Random(0)).turns
    assert [TagProtocol().parse(turn).content for turn in turns] == question["entities"]


def test_namesakes_are_additional_and_nothing_is_about_them(hard_world):
    extra = {name for entity in namesakes(hard_world) for name in entity.names}
    assert len(namesakes(hard_world)) == 50
    assert len(hard_world.corpus) == 200 + 80 + 80 + 50
    assert not extra & {name for entity in hard_world.entities.values() for name in entity.facts.values()}
    assert not extra & {name for question in questions(hard_world) for name in question["entities"]}


def test_passage_of_a_namesake_holds_both_words_of_a_name_and_not_the_name(hard_world):
    others = [name for entity in hard_world.entities.values() if entity.split for name in entity.names]
    for entity in namesakes(hard_world):
        seconds = {name.split()[1] for name in entity.facts.values()}
        first = entity.name.split()[0]
        shadowed = {name for name in others if name.split()[0] == first and name.split()[1] in seconds}
        assert shadowed - set(entity.facts.values())


def test_namesakes_are_found_near_the_top(hard_world, hard_retriever):
    titles = {f'"{entity.name}"' for entity in namesakes(hard_world)}
    names = [name for entity in hard_world.entities.values() if entity.split for name in entity.names]
    found = hard_retriever.search(names, 3)
    assert sum(any(passage.title in titles for passage in passages) for passages in found) >= 50


def test_namesakes_do_without_aliases():
    world = SearchWorld(1, num_distractors=40, **SMALL)
    assert [entity.alias for entity in namesakes(world)] == [None] * 40


def test_chain_world_holds_people_only_with_facts_about_some_relations(chain_world):
    entities = list(chain_world.entities.values())
    assert len(entities) == 500
    assert {entity.kind for entity in entities} == {"person"}
    assert {len(entity.facts) for entity in entities} == {3}
    assert {relation for entity in entities for relation in entity.facts} == set(CHAIN_RELATIONS["person"])


def test_relations_of_chains_are_words_of_their_own():
    words = {word.lower() for lists in NAME_WORDS.values() for one in lists for word in one}
    assert len(CHAIN_RELATIONS["person"]) == 10
    assert not words & set(CHAIN_RELATIONS["person"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hops": ()}, r"`hops` must be different numbers from 1 to 7, .* got \(\)"),
        ({"hops": (2, 2)}, r"`hops` must be different numbers"),
        ({"hops": (0, 1)}, r"`hops` must be different numbers"),
        ({"hops": (8,)}, r"`hops` must be different numbers from 1 to 7, the number of relations, got \(8,\)"),
        ({"hops": (3, 4), "num_test_questions": 1}, r"`num_test_questions` must be at least 2, .* got 1"),
        (
            {"hops": (7,), "num_people": 20, "num_places": 20, "num_works": 20, "num_test_questions": 40},
            r"only \d+ test questions of 7 hops, but 40 are needed",
        ),
        ({"aliases": True, "num_places": 201}, r"`num_places` must be from 20 to 200 with `aliases`, got 201"),
        ({"num_distractors": 361}, r"`num_distractors` must be from 0 to 360, got 361"),
        ({"num_distractors": -1}, r"`num_distractors` must be from 0 to 360, got -1"),
        ({"facts_per_entity": 3}, r"`facts_per_entity` must be from 2 to 2, .* got 3"),
        ({"facts_per_entity": 1}, r"`facts_per_entity` must be from 2 to 2, .* got 1"),
        ({"relations": {"person": RELATIONS["person"]}}, r"`relations` must lead from and to the same kinds"),
        ({"relations": {}}, r"`relations` must lead from and to the same kinds"),
        (
            {"relations": CHAIN_RELATIONS, "facts_per_entity": 10, "num_people": 20},
            r"too few of `num_people`, `num_places` or `num_works`",
        ),
    ],
)
def test_impossible_worlds_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SearchWorld(**{**SMALL, **arguments})
