"""SearchWorld: a small closed world to learn searching in (ours).

A seeded generator of people, places and works, of the relations between them, of a corpus with one short passage for
each, and of questions of one to three hops: "Who is Silver Harbor's author's mentor?". Each passage states only the
relations of its own subject, so a question of n hops takes n searches. Training and test questions are about disjoint
entities, whose names are made of the same words: what is learned on the one has to carry over to the other.
"""

import json
import os
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from .names import NAME_WORDS

RELATIONS: dict[str, dict[str, str]] = {
    "person": {"mentor": "person", "birthplace": "place", "debut": "work"},
    "place": {"founder": "person", "anthem": "work"},
    "work": {"author": "person", "setting": "place"},
}
"""Relations of each kind of entity, and the kind that each leads to: a passage tells of each kind once."""

MAX_HOPS = 3

Split = Literal["train", "test"]
Chain = tuple[tuple[str, ...], tuple[str, ...]]
"""Names, the answer last, and the relation that leads from each to the next."""


@dataclass(frozen=True)
class Entity:
    """
    A person, place or work.

    Args:
        name (`str`):
            Its name, unique in the world.
        kind (`str`):
            `"person"`, `"place"` or `"work"`.
        split (`str`):
            `"train"` or `"test"`: which questions may be about it.
        facts (`dict[str, str]`):
            For each relation of its kind, the name of the entity that it leads to, in the order of the passage.
    """

    name: str
    kind: str
    split: Split
    facts: dict[str, str]

    @property
    def passage(self) -> str:
        """The text of its passage: `Ada Abbot had debut Paper Lion, birthplace Port Lorne and mentor Otto Gibbs.`"""
        *first, last = [f"{relation} {name}" for relation, name in self.facts.items()]
        return f"{self.name} had {', '.join(first)} and {last}."


class SearchWorld:
    """
    A closed world with a corpus and questions.

    The same arguments make the same world in every process.

    Args:
        seed (`int`, *optional*, defaults to `0`):
            Seed of everything random.
        num_people (`int`, *optional*, defaults to `500`):
            Number of people, 20 to 1024.
        num_places (`int`, *optional*, defaults to `200`):
            Number of places, 20 to 400.
        num_works (`int`, *optional*, defaults to `200`):
            Number of works, 20 to 400.
        num_train_questions (`int`, *optional*, defaults to `2000`):
            Number of training questions, as many of one hop as of two and of three.
        num_test_questions (`int`, *optional*, defaults to `240`):
            Number of test questions, likewise.
        test_share (`float`, *optional*, defaults to `0.3`):
            Share of the entities that only test questions are about, between 0 and 1.

    Attributes:
        entities (`dict[str, Entity]`): the entities by name.
        corpus (`list[dict]`): passages in Search-R1's form, `{"id", "contents"}`.
        train_questions (`list[dict]`): `id`, `question`, `golden_answers`, `hops`, `prompt`, and the way to the
            answer: `entities` (names, the answer last) and `relations` (one for each hop).
        test_questions (`list[dict]`): likewise.

    Raises:
        ValueError: An argument is out of its range, or the world is too small for so many questions.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        num_people: int = 500,
        num_places: int = 200,
        num_works: int = 200,
        num_train_questions: int = 2000,
        num_test_questions: int = 240,
        test_share: float = 0.3,
    ):
        sizes = {"person": num_people, "place": num_places, "work": num_works}
        _check_sizes(sizes, num_train_questions, num_test_questions, test_share)
        generator = random.Random(seed)
        self.entities = {entity.name: entity for entity in _make_entities(generator, sizes, test_share)}
        self._mentions = _mentions(self.entities.values())
        self.corpus = [
            {"id": str(i), "contents": f'"{entity.name}"\n{entity.passage}'}
            for i, entity in enumerate(self.entities.values())
        ]
        self.train_questions = self._make_questions(generator, "train", num_train_questions)
        self.test_questions = self._make_questions(generator, "test", num_test_questions)

    def save(self, directory: str | os.PathLike) -> None:
        """
        Write `corpus.jsonl`, `train.jsonl` and `test.jsonl`.

        Args:
            directory (`str` or `os.PathLike`):
                Where to write; made if it is missing.

        Raises:
            FileExistsError: One of the files exists. Nothing is written then.
        """
        directory = Path(directory)
        files = {"corpus": self.corpus, "train": self.train_questions, "test": self.test_questions}
        paths = {name: directory / f"{name}.jsonl" for name in files}
        existing = [str(path) for path in paths.values() if path.exists()]
        if existing:
            raise FileExistsError(f"{', '.join(existing)} exist already. Remove them or choose another `directory`.")
        directory.mkdir(parents=True, exist_ok=True)
        for name, records in files.items():
            with paths[name].open("x", encoding="utf-8") as file:
                file.writelines(json.dumps(record) + "\n" for record in records)

    def _make_questions(self, generator: random.Random, split: Split, number: int) -> list[dict[str, Any]]:
        """As many questions of each number of hops, shuffled."""
        questions = []
        for hops in range(1, MAX_HOPS + 1):
            wanted = (number + MAX_HOPS - hops) // MAX_HOPS
            chains = list(islice(self._chains(generator, split, hops), wanted))
            if len(chains) < wanted:
                raise ValueError(
                    f"The world has only {len(chains)} {split} questions of {hops} hops, but {wanted} are needed for "
                    f"`num_{split}_questions={number}`. Ask for fewer questions or raise `num_people`, `num_places` "
                    "and `num_works`."
                )
            questions += [_question(entities, relations) for entities, relations in chains]
        generator.shuffle(questions)
        return [{"id": f"{split}-{i}", **question} for i, question in enumerate(questions)]

    def _chains(self, generator: random.Random, split: Split, hops: int) -> Iterator[Chain]:
        """Chains of `hops` different relations without a shortcut, in random order."""
        chains: list[Chain] = [((entity.name,), ()) for entity in self.entities.values() if entity.split == split]
        for _ in range(hops):
            chains = [
                ((*names, following), (*relations, relation))
                for names, relations in chains
                for relation, following in self.entities[names[-1]].facts.items()
                if following not in names and relation not in relations
            ]
        generator.shuffle(chains)
        return (chain for chain in chains if not self._has_shortcut(chain[0]))

    def _has_shortcut(self, chain: tuple[str, ...]) -> bool:
        """
        Whether fewer searches than hops might find the answer.

        A search for a name finds passages that hold words of it. So there is no shortcut where no passage with the
        answer holds a word of a name that is searched for before the last hop.
        """
        earlier = {word for name in chain[:-2] for word in name.split()}
        return any(not earlier.isdisjoint(words) for words in self._mentions[chain[-1]])


def _check_sizes(sizes: dict[str, int], num_train_questions: int, num_test_questions: int, test_share: float) -> None:
    arguments = {"person": "num_people", "place": "num_places", "work": "num_works"}
    for kind, size in sizes.items():
        first, second = NAME_WORDS[kind]
        if not 20 <= size <= len(first) * len(second):
            raise ValueError(f"`{arguments[kind]}` must be from 20 to {len(first) * len(second)}, got {size}.")
    for name, number in (("num_train_questions", num_train_questions), ("num_test_questions", num_test_questions)):
        if number < MAX_HOPS:
            raise ValueError(f"`{name}` must be at least {MAX_HOPS}, one for each number of hops, got {number}.")
    if not 0.1 <= test_share <= 0.9:
        raise ValueError(f"`test_share` must be from 0.1 to 0.9, got {test_share}.")


def _make_entities(generator: random.Random, sizes: dict[str, int], test_share: float) -> Iterator[Entity]:
    """Entities in random order; relations stay within a split."""
    members: dict[tuple[str, Split], list[str]] = {}
    for kind, size in sizes.items():
        first, second = NAME_WORDS[kind]
        numbers = generator.sample(range(len(first) * len(second)), size)
        names = [f"{first[n // len(second)]} {second[n % len(second)]}" for n in numbers]
        num_test = round(size * test_share)
        members[kind, "test"], members[kind, "train"] = names[:num_test], names[num_test:]
    everyone = [(name, kind, split) for (kind, split), names in members.items() for name in names]
    generator.shuffle(everyone)
    for name, kind, split in everyone:
        yield Entity(name, kind, split, _make_facts(generator, name, kind, split, members))


def _make_facts(
    generator: random.Random, name: str, kind: str, split: Split, members: dict[tuple[str, Split], list[str]]
) -> dict[str, str]:
    """One fact for each relation, in random order, each about another entity."""
    facts: dict[str, str] = {}
    for relation in generator.sample(list(RELATIONS[kind]), len(RELATIONS[kind])):
        others = [other for other in members[RELATIONS[kind][relation], split] if other not in (name, *facts.values())]
        facts[relation] = generator.choice(others)
    return facts


def _mentions(entities: Iterable[Entity]) -> dict[str, list[set[str]]]:
    """For each name, the name words of every passage that it stands in."""
    mentions = defaultdict(list)
    for entity in entities:
        names = [entity.name, *entity.facts.values()]
        words = {word for name in names for word in name.split()}
        for name in names:
            mentions[name].append(words)
    return mentions


def _question(entities: tuple[str, ...], relations: tuple[str, ...]) -> dict[str, Any]:
    kind = next(kind for kind, words in NAME_WORDS.items() if entities[-1].split()[0] in words[0])
    path = "'s ".join((entities[0], *relations))
    question = f"{'Who' if kind == 'person' else 'What'} is {path}?"
    return {
        "question": question,
        "golden_answers": [entities[-1]],
        "hops": len(relations),
        "prompt": f"Question: {question}\n",
        "entities": list(entities),
        "relations": list(relations),
    }
