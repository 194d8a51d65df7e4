"""The people, places and works of a SearchWorld (ours).

Each has a passage that states only its own relations. What is drawn comes from one seeded generator in a fixed order,
so that the same arguments make the same entities everywhere.
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
"""The name of an entity and, where it has one, its alias."""

RELATIONS: dict[str, dict[str, str]] = {
    "person": {"mentor": "person", "birthplace": "place", "debut": "work"},
    "place": {"founder": "person", "anthem": "work"},
    "work": {"author": "person", "setting": "place"},
}
"""Relations of each kind of entity, and the kind that each leads to: a passage tells of each kind once."""

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
"""Ten relations from person to person, for long chains of different relations."""

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Entity:
    """
    A person, place or work.

    Args:
        name (`str`):
            Its name, unique in the world.
        kind (`str`):
            `"person"`, `"place"` or `"work"`.
        split (`str` or `None`):
            `"train"` or `"test"`: which questions may be about it. `None` for a namesake, which none is about.
        facts (`dict[str, str]`):
            For each of its relations, the name of the entity that it leads to, in the order and with the name of the
            passage.
        alias (`str`, *optional*):
            Its second name, unique in the world too. It shares the first word with the name.
    """

    name: str
    kind: str
    split: Split | None
    facts: dict[str, str]
    alias: str | None = None

    @property
    def names(self) -> Names:
        """Its name and, where it has one, its alias."""
        return (self.name,) if self.alias is None else (self.name, self.alias)

    @property
    def passage(self) -> str:
        """
        The text of its passage: `Ada Abbot had debut Paper Lion, birthplace Port Lorne and mentor Otto Gibbs.`

        With an alias it begins `Ada Abbot is Ada Shaw and Ada Shaw had debut`: said twice, as the name in title and
        text, the alias finds the passage before those that only mention it.
        """
        *first, last = [f"{relation} {name}" for relation, name in self.facts.items()]
        subject = self.name if self.alias is None else f"{self.name} is {self.alias} and {self.alias}"
        return f"{subject} had {', '.join(first)} and {last}."


class EntityMaker:
    """
    Makes the entities of one world, and then namesakes of them.

    Args:
        generator (`random.Random`):
            Draws everything.
        relations (mapping of `str` to mappings):
            As [`RELATIONS`].
        sizes (mapping of `str` to `int`):
            Number of entities of each kind of `relations`.
        test_share (`float`):
            Share of the entities in the `"test"` split.
        aliases (`bool`):
            Whether each has an alias.
        facts_per_entity (`int` or `None`):
            Number of facts of each, about relations drawn for it; `None` for all relations of its kind.
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
        # Else a passage with a word three times might be found before the one that is about the name.
        self._distinct_words = aliases or facts_per_entity is not None
        self._taken = {name for members in self._members.values() for names in members for name in names}

    def entities(self) -> Iterator[Entity]:
        """Entities in random order; relations stay within a split."""
        everyone = [(names, kind, split) for (kind, split), members in self._members.items() for names in members]
        self._generator.shuffle(everyone)
        for names, kind, split in everyone:
            facts = self._make_facts(self._draw_relations(kind), split, [names])
            yield Entity(names[0], kind, split, facts, *names[1:])

    def namesakes(self, entities: Sequence[Entity], number: int) -> list[Entity]:
        """
        Make entities whose passages hold both words of another's name without being about it.

        A namesake begins with the first word of that name, and one of its facts is about an entity with the second
        word: `Ada Price had mentor Otto Abbot` for `Ada Abbot`. Its own second word is of any kind, so that there are
        enough names: `Amber Price`, `North Song`. Its relations are those of a kind that has one to that one's kind.

        Args:
            entities (sequence of [`Entity`]):
                Whose namesakes to make, each at most one.
            number (`int`):
                How many.

        Returns:
            `list[Entity]`

        Raises:
            ValueError: There are not enough names for so many.
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
        """One namesake of an entity; `None` where no name is left for it."""
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
        """Names and aliases. They share the first word: no other passage holds the words of one of them so often."""
        first_words, second_words = NAME_WORDS[kind]
        pairs: list[Names] = []
        for first in first_words:
            names = [f"{first} {second}" for second in self._generator.sample(second_words, len(second_words))]
            pairs += zip(names[::2], names[1::2], strict=True)
        return self._generator.sample(pairs, number)

    def _take_free_name(self, first: str) -> Names:
        """A name that nothing has yet, with a second word of any kind; none where all are taken."""
        second_words = [word for kind in self._relations for word in NAME_WORDS[kind][1]]
        free = [name for second in second_words if (name := f"{first} {second}") not in self._taken]
        if not free:
            return ()
        name = self._generator.choice(free)
        self._taken.add(name)
        return (name,)

    def _draw_relations(self, kind: str) -> dict[str, str]:
        """Relations of one entity in random order, and the kinds that they lead to."""
        targets = self._relations[kind]
        number = len(targets) if self._facts_per_entity is None else self._facts_per_entity
        return {relation: targets[relation] for relation in self._generator.sample(list(targets), number)}

    def _make_facts(self, relations: Mapping[str, str], split: Split, excluded: Sequence[Names]) -> dict[str, str]:
        """One fact for each relation, each about another entity, which is called by any of its names."""
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
    """One of the names at random; nothing is drawn where there is only one."""
    return names[0] if len(names) == 1 else generator.choice(names)
