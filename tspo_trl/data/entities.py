"""The people, places and works of a SearchWorld.

Each has a passage that states only its relations. One seeded generator draws everything in a fixed order, so the same
arguments make the same entities everywhere.
"""

import functools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from .names import NAME_WORDS

Relations = Mapping[str, Mapping[str, str]]
Names = tuple[str, ...]
"""The name of an entity and its alias, if it has one."""

RELATIONS: dict[str, dict[str, str]] = {
    "person": {"mentor": "person", "birthplace": "place", "debut": "work"},
    "place": {"founder": "person", "anthem": "work"},
    "work": {"author": "person", "setting": "place"},
}
"""Relations of each kind of entity, and the kind that each leads to. A passage names each kind once."""

CHAIN_RELATIONS: dict[str, dict[str, str]] = {
    "person": {
        "mentor": "person",
        "rival": "person",
        "neighbor": "person",
        "tailor": "person",
        "doctor": "person",
        "lawyer": "person",
        "tutor": "person",
        "patron": "person",
        "editor": "person",
        "barber": "person",
    }
}
"""Ten relations between people, for long chains of different relations."""

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Entity:
    """
    A person, place or work.

    Args:
        name (`str`):
            Name, unique in the world.
        kind (`str`):
            `"person"`, `"place"` or `"work"`.
        split (`str` or `None`):
            `"train"` or `"test"`, the split of questions about it. `None` for a namesake, which has no questions.
        facts (`dict[str, str]`):
            Names of other entities by relation, as in the passage and in its order.
        alias (`str`, *optional*):
            Second name, unique in the world. It has the same first word as the name.
    """

    name: str
    kind: str
    split: Split | None
    facts: dict[str, str]
    alias: str | None = None

    @property
    def names(self) -> Names:
        """Name and, if there is one, alias."""
        return (self.name,) if self.alias is None else (self.name, self.alias)

    @property
    def passage(self) -> str:
        """
        Text of the passage: `Ada Abbot had debut Paper Lion, birthplace Port Lorne and mentor Otto Gibbs.`

        With an alias, it begins `Ada Abbot is Ada Shaw and Ada Shaw had debut`. The alias occurs twice, like the name
        in title and text, so a search for it ranks this passage before those that only mention it.
        """
        *first, last = [f"{relation} {name}" for relation, name in self.facts.items()]
        subject = self.name if self.alias is None else f"{self.name} is {self.alias} and {self.alias}"
        return f"{subject} had {', '.join(first)} and {last}."


class EntityMaker:
    """
    Maker of the entities of one world and of their namesakes.

    Args:
        generator (`random.Random`):
            Source of all random draws.
        relations (mapping of `str` to mappings):
            Relations like [`RELATIONS`].
        sizes (mapping of `str` to `int`):
            Number of entities of each kind of `relations`.
        test_share (`float`):
            Share of the entities in the `"test"` split.
        aliases (`bool`):
            If `True`, each entity has an alias.
        facts_per_entity (`int` or `None`):
            Number of facts of each entity, about randomly drawn relations. `None` means all relations of its kind.
    """

    def __init__(
        self,
        generator: random.Random,
        relations: Relations,
        sizes: Mapping[str, int],
        *,
        test_share: float,
        aliases: bool,
        facts_per_entity: int | None,
    ):
        self._generator = generator
        self._relations = relations
        self._aliases = aliases
        self._facts_per_entity = facts_per_entity
        self._members: dict[tuple[str, Split], list[Names]] = {}
        for kind, size in sizes.items():
            names = self._draw_pairs(kind, size) if aliases else self._draw_names(kind, size)
            num_test = round(size * test_share)
            self._members[kind, "test"], self._members[kind, "train"] = names[:num_test], names[num_test:]
        # Otherwise a passage with a word three times might rank before the passage about the name.
        self._distinct_words = aliases or facts_per_entity is not None
        self._taken = {name for members in self._members.values() for names in members for name in names}

    def entities(self) -> Iterator[Entity]:
        """Yield the entities in random order. Relations stay within a split."""
        everyone = [(names, kind, split) for (kind, split), members in self._members.items() for names in members]
        self._generator.shuffle(everyone)
        for names, kind, split in everyone:
            facts = self._make_facts(self._draw_relations(kind), split, [names])
            yield Entity(names[0], kind, split, facts, *names[1:])

    def namesakes(self, entities: Sequence[Entity], number: int) -> list[Entity]:
        """
        Make namesakes: entities with passages that contain both words of another entity's name.

        A namesake has the first word of that name, and a fact about an entity with the second word: `Ada Price had
        mentor Otto Abbot` for `Ada Abbot`. Its second word may come from any kind, for enough names: `Amber Price`,
        `North Song`. Its relations are those of a kind with a relation to the other entity's kind.

        Args:
            entities (sequence of [`Entity`]):
                Entities, which get at most one namesake each.
            number (`int`):
                Number of namesakes.

        Returns:
            `list[Entity]`: the namesakes.

        Raises:
            ValueError: There are too few names.
        """
        shuffled = self._generator.sample(entities, len(entities))
        made = list(islice(filter(None, map(self._make_namesake, shuffled)), number))
        if len(made) < number:
            raise ValueError(
                f"The world has names for {len(made)} distractors only, but `num_distractors` is {number}. Ask for "
                "fewer, or change `num_people`, `num_places` and `num_works`."
            )
        return made

    def _make_namesake(self, entity: Entity) -> Entity | None:
        """Make a namesake of an entity, or return `None` if no name is left."""
        first, second = self._generator.choice(entity.names).split()
        kind, relation = next(
            (kind, relation)
            for kind, targets in self._relations.items()
            for relation, target in targets.items()
            if target == entity.kind
        )
        split: Split = "test" if entity.split == "test" else "train"
        others = [names for names in self._members[entity.kind, split] if names != entity.names]
        mentions = [(names, name) for names in others for name in names if name.split()[1] == second]
        if not mentions:
            return None
        own_names = [name for _ in range(1 + self._aliases) for name in self._take_free_name(first)]
        if len(own_names) < 1 + self._aliases:
            return None
        mentioned, mention = self._generator.choice(mentions)
        further = {other: to for other, to in self._draw_relations(kind).items() if other != relation}
        facts = self._make_facts(further, split, [tuple(own_names), mentioned, entity.names]) | {relation: mention}
        order = self._generator.sample(list(facts), len(facts))
        return Entity(own_names[0], kind, None, {one: facts[one] for one in order}, *own_names[1:])

    def _draw_names(self, kind: str, number: int) -> list[Names]:
        first, second = NAME_WORDS[kind]
        numbers = self._generator.sample(range(len(first) * len(second)), number)
        return [(f"{first[n // len(second)]} {second[n % len(second)]}",) for n in numbers]

    def _draw_pairs(self, kind: str, number: int) -> list[Names]:
        """Draw names with aliases. They share the first word, so no other passage has the words of one as often."""
        first_words, second_words = NAME_WORDS[kind]
        pairs: list[Names] = []
        for first in first_words:
            names = [f"{first} {second}" for second in self._generator.sample(second_words, len(second_words))]
            pairs += zip(names[::2], names[1::2], strict=True)
        return self._generator.sample(pairs, number)

    def _take_free_name(self, first: str) -> Names:
        """Take an unused name with a second word of any kind, or return nothing if all are used."""
        second_words = [word for kind in self._relations for word in NAME_WORDS[kind][1]]
        free = [name for second in second_words if (name := f"{first} {second}") not in self._taken]
        if not free:
            return ()
        name = self._generator.choice(free)
        self._taken.add(name)
        return (name,)

    def _draw_relations(self, kind: str) -> dict[str, str]:
        """Draw the relations of an entity in random order, with the kinds that they lead to."""
        targets = self._relations[kind]
        number = len(targets) if self._facts_per_entity is None else self._facts_per_entity
        return {relation: targets[relation] for relation in self._generator.sample(list(targets), number)}

    def _make_facts(self, relations: Mapping[str, str], split: Split, excluded: Sequence[Names]) -> dict[str, str]:
        """Make one fact for each relation, each about a different entity by any of its names."""
        facts: dict[str, str] = {}
        chosen = list(excluded)
        for relation, kind in relations.items():
            words = {word for names in chosen for word in _words(names)} if self._distinct_words else set()
            members = self._members[kind, split]
            others = [names for names in members if names not in chosen and words.isdisjoint(_words(names))]
            if not others:
                raise ValueError(
                    f"The world has too few of `num_people`, `num_places` or `num_works` for a {relation}."
                )
            chosen.append(self._generator.choice(others))
            facts[relation] = any_name(self._generator, chosen[-1])
        return facts


@functools.cache
def _words(names: Names) -> frozenset[str]:
    return frozenset(word for name in names for word in name.split())


def any_name(generator: random.Random, names: Names) -> str:
    """Return a random name. A single name needs no draw."""
    return names[0] if len(names) == 1 else generator.choice(names)
