"""SearchWorld: a small closed world for learning to search.

A seeded generator makes people, places and works, their relations, a corpus with one short passage for each, and
questions of several hops: "Who is Silver Harbor's author's mentor?". Each passage states only the relations of its
subject, so a question of n hops takes n searches. Training and test questions are about disjoint entities with names
of the same words, so a policy cannot answer test questions from memory.

By default, questions have one to three hops. Longer questions, second names, distracting passages and long chains of
relations between people make harder worlds.
"""

import os
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..trajectory import write_json_lines
from .entities import CHAIN_RELATIONS, RELATIONS, Entity, EntityMaker, Relations, Split, any_name
from .names import NAME_WORDS

__all__ = ["CHAIN_RELATIONS", "RELATIONS", "Entity", "SearchWorld"]

Chain = tuple[tuple[str, ...], tuple[str, ...]]
"""Names, the answer last, and the relations from each to the next."""

_MAX_ENUMERATED_HOPS = 4
_WALKS_PER_CHAIN = 300
"""Maximum number of random walks for each longer chain."""

_TOP_PASSAGES = 3
"""Passages per search for which longer chains rule out answers with fewer searches than hops."""


class SearchWorld:
    """
    A closed world with a corpus and questions.

    The same arguments make the same world in every process.

    Args:
        seed (`int`, *optional*, defaults to `0`):
            Seed of the generator.
        num_people (`int`, *optional*, defaults to `500`):
            Number of people, 20 to 1024, or to 512 with `aliases`.
        num_places (`int`, *optional*, defaults to `200`):
            Number of places, 20 to 400, or to 200 with `aliases`. Ignored if `relations` has none.
        num_works (`int`, *optional*, defaults to `200`):
            Number of works, 20 to 400, or to 200 with `aliases`. Ignored if `relations` has none.
        num_train_questions (`int`, *optional*, defaults to `2000`):
            Number of training questions, distributed evenly over `hops`.
        num_test_questions (`int`, *optional*, defaults to `240`):
            Number of test questions, distributed evenly over `hops`.
        test_share (`float`, *optional*, defaults to `0.3`):
            Share of the entities for test questions only, 0.1 to 0.9.
        hops (`tuple[int, ...]`, *optional*, defaults to `(1, 2, 3)`):
            Numbers of hops of the questions. The relations of a question are all different.
        aliases (`bool`, *optional*, defaults to `False`):
            If `True`, every entity has a second name with the same first word, which its passage states. Questions and
            other passages use either name.
        num_distractors (`int`, *optional*, defaults to `0`):
            Number of additional entities with both words of another entity's name in their passages. No question and
            no fact is about them. There is at most one for each entity.
        relations (mapping of `str` to mappings, *optional*, defaults to [`RELATIONS`]):
            Relations of each kind of entity in the world, and the kind that each relation leads to.
        facts_per_entity (`int`, *optional*):
            Number of facts of each entity, about randomly drawn relations. It is at least 2 and at most the smallest
            number of relations of a kind. By default, an entity has one fact for each relation of its kind.

    Attributes:
        entities (`dict[str, Entity]`): entities by name, without aliases, distractors last.
        corpus (`list[dict]`): passages in Search-R1's form, `{"id", "contents"}`.
        train_questions (`list[dict]`): `id`, `question`, `golden_answers` (all names of the answer), `hops`, `prompt`,
            `entities` (names on the path as question and passages use them, the answer last) and `relations` (one for
            each hop).
        test_questions (`list[dict]`): the same for testing.

    Raises:
        ValueError: An argument is out of its range, or the world is too small for the questions.
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
        hops: tuple[int, ...] = (1, 2, 3),
        aliases: bool = False,
        num_distractors: int = 0,
        relations: Relations = RELATIONS,
        facts_per_entity: int | None = None,
    ):
        _check_relations(relations, facts_per_entity)
        sizes = {"person": num_people, "place": num_places, "work": num_works}
        sizes = {kind: size for kind, size in sizes.items() if kind in relations}
        _check_sizes(sizes, aliases, num_distractors, test_share)
        _check_questions(hops, relations, num_train_questions, num_test_questions)
        generator = random.Random(seed)
        maker = EntityMaker(
            generator, relations, sizes, test_share=test_share, aliases=aliases, facts_per_entity=facts_per_entity
        )
        entities = list(maker.entities())
        entities += maker.namesakes(entities, num_distractors) if num_distractors else []
        self.entities = {entity.name: entity for entity in entities}
        self._by_name = {name: entity for entity in entities for name in entity.names}
        self._hops = hops
        self._index_passages()
        self.corpus = [
            {"id": str(i), "contents": f'"{entity.name}"\n{entity.passage}'}
            for i, entity in enumerate(self.entities.values())
        ]
        self.train_questions = self._make_questions(generator, "train", num_train_questions)
        self.test_questions = self._make_questions(generator, "test", num_test_questions)

    def entity(self, name: str) -> Entity:
        """
        Look up an entity.

        Args:
            name (`str`):
                Name or alias.

        Returns:
            [`Entity`]

        Raises:
            KeyError: No entity has this name.
        """
        return self._by_name[name]

    def save(self, directory: str | os.PathLike) -> None:
        """
        Write `corpus.jsonl`, `train.jsonl` and `test.jsonl`.

        Args:
            directory (`str` or `os.PathLike`):
                Folder of the files, made if it does not exist.

        Raises:
            FileExistsError: A file exists already. Nothing is written.
        """
        directory = Path(directory)
        files = {"corpus": self.corpus, "train": self.train_questions, "test": self.test_questions}
        paths = {name: directory / f"{name}.jsonl" for name in files}
        existing = [str(path) for path in paths.values() if path.exists()]
        if existing:
            raise FileExistsError(f"{', '.join(existing)} exist already. Remove them or choose another `directory`.")
        for name, records in files.items():
            write_json_lines(paths[name], records)

    def _make_questions(self, generator: random.Random, split: Split, number: int) -> list[dict[str, Any]]:
        """Make shuffled questions, distributed evenly over the numbers of hops."""
        questions = []
        for i, hops in enumerate(self._hops):
            wanted = (number + len(self._hops) - 1 - i) // len(self._hops)
            chains = list(islice(self._chains(generator, split, hops, wanted), wanted))
            if len(chains) < wanted:
                raise ValueError(
                    f"The world has only {len(chains)} {split} questions of {hops} hops, but {wanted} are needed for "
                    f"`num_{split}_questions={number}`. Ask for fewer questions or raise `num_people`, `num_places` "
                    "and `num_works`."
                )
            questions += [self._question(*chain) for chain in chains]
        generator.shuffle(questions)
        return [{"id": f"{split}-{i}", **question} for i, question in enumerate(questions)]

    def _chains(self, generator: random.Random, split: Split, hops: int, wanted: int) -> Iterator[Chain]:
        """Return chains of `hops` different relations without a shortcut, in random order."""
        members = [entity for entity in self.entities.values() if entity.split == split]
        starts: list[Chain] = [((any_name(generator, entity.names),), ()) for entity in members]
        if hops <= _MAX_ENUMERATED_HOPS:
            chains: Iterable[Chain] = self._shuffled_chains(generator, starts, hops)
        else:
            chains = self._walks(generator, starts, hops, wanted * _WALKS_PER_CHAIN)
        return (chain for chain in chains if not self._has_shortcut(chain[0]))

    def _shuffled_chains(self, generator: random.Random, starts: list[Chain], hops: int) -> list[Chain]:
        chains = starts
        for _ in range(hops):
            chains = [longer for chain in chains for longer in self._continuations(chain)]
        generator.shuffle(chains)
        return chains

    def _walks(self, generator: random.Random, starts: list[Chain], hops: int, number: int) -> Iterator[Chain]:
        """Yield new chains of `number` random walks. Long chains are too many to enumerate."""
        seen = set()
        for _ in range(number):
            chain = generator.choice(starts)
            while len(chain[1]) < hops and (continuations := self._continuations(chain)):
                chain = generator.choice(continuations)
            if len(chain[1]) == hops and chain not in seen:
                seen.add(chain)
                yield chain

    def _continuations(self, chain: Chain) -> list[Chain]:
        """Return the chains with one more hop, to a new entity by a new relation."""
        names, relations = chain
        visited = {name for one in names for name in self.entity(one).names}
        return [
            ((*names, following), (*relations, relation))
            for relation, following in self.entity(names[-1]).facts.items()
            if following not in visited and relation not in relations
        ]

    def _index_passages(self) -> None:
        """Index the passages by the words of their names, and by the entities that they name."""
        self._with_word: dict[str, set[str]] = defaultdict(set)
        self._with_entity: dict[str, set[str]] = defaultdict(set)
        for title, entity in self.entities.items():
            for name in (*entity.names, *entity.facts.values()):
                self._with_entity[self.entity(name).name].add(title)
                for word in name.split():
                    self._with_word[word].add(title)

    def _has_shortcut(self, chain: Sequence[str]) -> bool:
        """Return whether fewer searches than hops might find the answer by any of its names."""
        find = self._may_find if len(chain) - 1 <= _MAX_ENUMERATED_HOPS else self._likely_find
        answered = self._with_entity[self.entity(chain[-1]).name]
        return any(not answered.isdisjoint(find(name)) for name in chain[:-2])

    def _may_find(self, name: str) -> set[str]:
        """Return the passages with a word of a name. A search for the name finds no others."""
        first, second = name.split()
        return self._with_word[first] | self._with_word[second]

    def _likely_find(self, name: str) -> set[str]:
        """
        Return the passages with both words of a name if there are enough, because BM25 ranks them first.

        The words of a long chain are in almost all passages, so [`_may_find`] would exclude almost all long chains.
        """
        first, second = name.split()
        both = self._with_word[first] & self._with_word[second]
        return both if len(both) >= _TOP_PASSAGES else self._may_find(name)

    def _question(self, names: tuple[str, ...], relations: tuple[str, ...]) -> dict[str, Any]:
        answer = self.entity(names[-1])
        path = "'s ".join((names[0], *relations))
        question = f"{'Who' if answer.kind == 'person' else 'What'} is {path}?"
        return {
            "question": question,
            "golden_answers": list(answer.names),
            "hops": len(relations),
            "prompt": f"Question: {question}\n",
            "entities": list(names),
            "relations": list(relations),
        }


def _check_relations(relations: Relations, facts_per_entity: int | None) -> None:
    kinds = {target for targets in relations.values() for target in targets.values()}
    if not relations or set(relations) != kinds or not kinds <= set(NAME_WORDS):
        raise ValueError(
            f"`relations` must lead from and to the same kinds, out of {', '.join(NAME_WORDS)}, got {relations}."
        )
    fewest = min(len(targets) for targets in relations.values())
    if facts_per_entity is not None and not 2 <= facts_per_entity <= fewest:
        raise ValueError(
            f"`facts_per_entity` must be from 2 to {fewest}, the fewest relations of a kind, got {facts_per_entity}."
        )


def _check_sizes(sizes: dict[str, int], aliases: bool, num_distractors: int, test_share: float) -> None:
    arguments = {"person": "num_people", "place": "num_places", "work": "num_works"}
    for kind, size in sizes.items():
        first, second = NAME_WORDS[kind]
        largest = len(first) * len(second) // (1 + aliases)
        if not 20 <= size <= largest:
            condition = " with `aliases`" if aliases else ""
            raise ValueError(f"`{arguments[kind]}` must be from 20 to {largest}{condition}, got {size}.")
    if not 0 <= num_distractors <= sum(sizes.values()):
        raise ValueError(f"`num_distractors` must be from 0 to {sum(sizes.values())}, got {num_distractors}.")
    if not 0.1 <= test_share <= 0.9:
        raise ValueError(f"`test_share` must be from 0.1 to 0.9, got {test_share}.")


def _check_questions(
    hops: tuple[int, ...], relations: Relations, num_train_questions: int, num_test_questions: int
) -> None:
    most = len({relation for targets in relations.values() for relation in targets})
    if not hops or len(set(hops)) < len(hops) or not all(1 <= number <= most for number in hops):
        raise ValueError(f"`hops` must be different numbers from 1 to {most}, the number of relations, got {hops}.")
    for name, number in (("num_train_questions", num_train_questions), ("num_test_questions", num_test_questions)):
        if number < len(hops):
            raise ValueError(f"`{name}` must be at least {len(hops)}, one for each number of hops, got {number}.")
