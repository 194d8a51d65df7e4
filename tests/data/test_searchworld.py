"""SearchWorld: the same world from the same seed, disjoint questions, and no answer in fewer searches than hops."""

import hashlib
import json
import subprocess
import sys
from collections import Counter

import pytest

from tspo_trl.answers import contains_answer
from tspo_trl.data import SearchWorld
from tspo_trl.data.names import NAME_WORDS
from tspo_trl.data.searchworld import RELATIONS

SMALL = {"num_people": 100, "num_places": 40, "num_works": 40, "num_train_questions": 30, "num_test_questions": 9}


def test_same_seed_makes_the_same_world_in_another_process():
    world = SearchWorld(seed=5, **SMALL)
    code = (
        "import json; from tspo_trl.data import SearchWorld; "
        f"w = SearchWorld(seed=5, **{SMALL}); print(json.dumps([w.corpus, w.train_questions, w.test_questions]))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(other) == [world.corpus, world.train_questions, world.test_questions]


@pytest.mark.parametrize(
    ("seed", "digest"),
    [
        (0, "2f67283b54abcc499fd2da3256d5e93f9610690fb463735a79216c862ddc3a33"),
        (1, "4473132e03c13b1a844db6ccdef7088c7abd1e6d56c3354d360ce888710393df"),
    ],
)
def test_default_worlds_stay_the_same(seed, digest):
    world = SearchWorld(seed)
    records = json.dumps([world.corpus, world.train_questions, world.test_questions])
    assert hashlib.sha256(records.encode()).hexdigest() == digest


def test_another_seed_makes_another_world():
    assert SearchWorld(seed=5, **SMALL).corpus != SearchWorld(seed=6, **SMALL).corpus


def test_sizes_are_as_asked():
    world = SearchWorld(**SMALL)
    assert Counter(entity.kind for entity in world.entities.values()) == {"person": 100, "place": 40, "work": 40}
    assert len(world.corpus) == 180
    assert (len(world.train_questions), len(world.test_questions)) == (30, 9)


def test_questions_have_one_two_and_three_hops_equally_often():
    world = SearchWorld(**SMALL)
    assert Counter(question["hops"] for question in world.train_questions) == {1: 10, 2: 10, 3: 10}
    assert Counter(question["hops"] for question in world.test_questions) == {1: 3, 2: 3, 3: 3}


def test_ids_and_questions_are_unique(world):
    questions = world.train_questions + world.test_questions
    assert len({question["id"] for question in questions}) == len(questions)
    assert len({question["question"] for question in questions}) == len(questions)


def test_entities_of_train_and_test_questions_are_disjoint(world):
    train = {name for question in world.train_questions for name in question["entities"]}
    test = {name for question in world.test_questions for name in question["entities"]}
    assert train
    assert test
    assert not train & test


def test_path_of_a_question_follows_the_facts_of_the_world(world):
    for question in world.train_questions + world.test_questions:
        *asked, answer = question["entities"]
        name = asked[0]
        for relation in question["relations"]:
            name = world.entities[name].facts[relation]
        assert name == answer == question["golden_answers"][0]
        assert len(question["relations"]) == question["hops"] == len(asked)
        assert question["prompt"] == f"Question: {question['question']}\n"
        assert question["question"].endswith("'s ".join((asked[0], *question["relations"])) + "?")


def test_passage_states_its_own_facts_under_its_title(world):
    for passage, entity in zip(world.corpus, world.entities.values(), strict=True):
        title, text = passage["contents"].split("\n")
        assert title == f'"{entity.name}"'
        assert set(entity.facts) == set(RELATIONS[entity.kind])
        assert all(f"{relation} {name}" in text for relation, name in entity.facts.items())


def test_search_for_a_name_finds_its_passage_first(world, world_retriever):
    names = list(world.entities)
    found = world_retriever.search(names, 1)
    assert [passages[0].title for passages in found] == [f'"{name}"' for name in names]


@pytest.mark.parametrize("k", [2, 3])
def test_answer_takes_as_many_searches_as_hops(world, world_retriever, k):
    for question in world.train_questions + world.test_questions:
        *earlier, last = question["entities"][:-1]
        *before, found = world_retriever.search([*earlier, last], k)
        gold = question["golden_answers"]
        assert any(contains_answer(passage.text, gold) for passage in found)
        assert not any(contains_answer(passage.text, gold) for passages in before for passage in passages)


def test_question_itself_does_not_find_a_later_answer(world, world_retriever):
    questions = [question for question in world.test_questions if question["hops"] > 1]
    results = world_retriever.search([question["question"] for question in questions], 2)
    for question, passages in zip(questions, results, strict=True):
        assert not any(contains_answer(passage.text, question["golden_answers"]) for passage in passages)


def test_answer_never_stands_in_the_question(world):
    for question in world.train_questions + world.test_questions:
        assert not contains_answer(question["question"], question["golden_answers"])


def test_no_word_names_two_things():
    words = [word.lower() for lists in NAME_WORDS.values() for words in lists for word in words]
    assert len(set(words)) == len(words)
    assert not {"who", "what", "is", "had", "and"} & set(words)
    assert not {relation for kind in RELATIONS.values() for relation in kind} & set(words)


def test_saved_files_hold_the_world(tmp_path):
    world = SearchWorld(**SMALL)
    world.save(tmp_path / "new" / "folder")
    for name, records in (
        ("corpus", world.corpus),
        ("train", world.train_questions),
        ("test", world.test_questions),
    ):
        lines = (tmp_path / "new" / "folder" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == records


def test_saving_overwrites_nothing(tmp_path):
    (tmp_path / "test.jsonl").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"test\.jsonl exist already"):
        SearchWorld(**SMALL).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["test.jsonl"]
    assert (tmp_path / "test.jsonl").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_people": 19}, r"`num_people` must be from 20 to 1024, got 19"),
        ({"num_places": 401}, r"`num_places` must be from 20 to 400, got 401"),
        ({"num_works": 0}, r"`num_works` must be from 20 to 400, got 0"),
        ({"num_train_questions": 2}, r"`num_train_questions` must be at least 3.* got 2"),
        ({"num_test_questions": 0}, r"`num_test_questions` must be at least 3.* got 0"),
        ({"test_share": 1.0}, r"`test_share` must be from 0.1 to 0.9, got 1.0"),
        ({"num_test_questions": 3000}, r"only \d+ test questions of 1 hops, but 1000 are needed"),
    ],
)
def test_impossible_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SearchWorld(**{**SMALL, **arguments})
