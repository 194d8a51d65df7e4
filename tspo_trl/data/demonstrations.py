"""Demonstrations of right and wrong searching in a [`SearchWorld`].

A habit is a way to handle a question. `"right"` searches hop by hop and answers. The others are mistakes for a policy
to unlearn. Some find nothing, and some are near misses: they find the evidence and answer wrongly.
"""

import functools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..protocols.tags import TagProtocol
from ..search.base import Retriever, SearchError
from .searchworld import SearchWorld
from .tokenizer import name_tokens

HABITS: dict[str, str] = {
    "right": "follows every relation of the question and answers",
    "stops_early": "omits the last search and answers with its query",
    "misreads": "finds the last passage and answers with another name in it (a near miss)",
    "misreads_subject": "finds the last passage and answers with its subject (a near miss)",
    "searches_on": "finds the answer, searches for it and answers with a name in its passage (a near miss)",
    "wanders": "follows a wrong relation on the way",
    "wanders_on": "follows a wrong relation on the way, and one more at the end",
    "repeats": "repeats the first search, finds the last passage with its last search, and searches again instead of "
    "answering (a near miss)",
}


@dataclass(frozen=True)
class Demonstration:
    """
    Texts of a demonstration.

    Args:
        prompt (`str`):
            Prompt of the question.
        turns (`tuple[str, ...]`):
            Text of each turn. All turns but the last search. The last one answers, or asks for a search after the last
            possible one.
    """

    prompt: str
    turns: tuple[str, ...]


def demonstrate(
    world: SearchWorld, question: Mapping[str, Any], habit: str, generator: random.Random, *, max_turns: int = 4
) -> Demonstration:
    """
    Demonstrate a habit on a question.

    A turn names a relation and the name that it reads for it in the last passage. Then it searches for the name or
    answers with it: `<think> mentor Otto Gibbs </think><search> Otto Gibbs </search>`.

    Args:
        world ([`SearchWorld`]):
            World of the question.
        question (`dict`):
            Question of the world.
        habit (`str`):
            One of [`HABITS`]. On a question of one hop, `"wanders"` is `"misreads"` and `"wanders_on"` is
            `"searches_on"`.
        generator (`random.Random`):
            Source of wrong relations.
        max_turns (`int`, *optional*, defaults to `4`):
            Turns of a rollout that may search, for `"repeats"`.

    Returns:
        [`Demonstration`]

    Raises:
        ValueError: The habit is unknown, or, for `"repeats"`, the question has more hops than `max_turns`.
    """
    if habit not in HABITS:
        raise ValueError(f"`habit` must be one of {', '.join(HABITS)}, got {habit!r}.")
    if habit == "repeats":
        return _repeat(world, question, max_turns, generator)
    relations = list(question["relations"])
    if habit == "stops_early":
        relations.pop()
    elif habit == "misreads" or (habit == "wanders" and len(relations) == 1):
        relations[-1] = _other_relation(world, question["entities"][-2], relations[-1], generator)
    elif habit == "searches_on" or (habit == "wanders_on" and len(relations) == 1):
        relations.append(_other_relation(world, question["entities"][-1], None, generator))
    elif habit in ("wanders", "wanders_on"):
        hop = generator.randrange(len(relations) - 1)
        relations[hop] = _other_relation(world, question["entities"][hop], relations[hop], generator)
        # `_turns` replaces it if the last entity does not have it.
        relations += [relations[0]] if habit == "wanders_on" else []
    turns = _turns(world, question["entities"][0], relations, generator)
    if habit == "misreads_subject":
        relation, subject = relations[-1], question["entities"][-2]
        turns = (*turns[:-1], f"<think> {relation} {subject} </think><answer> {subject} </answer>")
    return Demonstration(question["prompt"], turns)


def _repeat(
    world: SearchWorld, question: Mapping[str, Any], max_turns: int, generator: random.Random
) -> Demonstration:
    """Spend all spare searches on the first name, and search for the answer at the end."""
    spare = max_turns - question["hops"]
    if spare < 0:
        raise ValueError(f"`max_turns` must be at least the question's {question['hops']} hops, got {max_turns}.")
    searches = _turns(world, question["entities"][0], question["relations"], generator, last_action="search")
    return Demonstration(question["prompt"], (searches[0],) * spare + searches)


def _other_relation(world: SearchWorld, name: str, relation: str | None, generator: random.Random) -> str:
    return generator.choice([other for other in world.entity(name).facts if other != relation])


def _turns(
    world: SearchWorld, name: str, relations: Sequence[str], generator: random.Random, last_action: str = "answer"
) -> tuple[str, ...]:
    """Follow relations from a name. A relation that an entity does not have is replaced by one that it has."""
    if not relations:
        return (f"<answer> {name} </answer>",)
    turns = [f"<search> {name} </search>"]
    for hop, relation in enumerate(relations, start=1):
        facts = world.entity(name).facts
        relation = relation if relation in facts else generator.choice(list(facts))
        name, action = facts[relation], last_action if hop == len(relations) else "search"
        turns.append(f"<think> {relation} {name} </think><{action}> {name} </{action}>")
    return tuple(turns)


def encode_demonstrations(
    demonstrations: Sequence[Demonstration],
    tokenizer: PreTrainedTokenizerBase,
    retriever: Retriever,
    *,
    top_k: int,
    generator: random.Random,
    rename: bool = True,
) -> list[dict[str, list[int]]]:
    """
    Turn demonstrations into training examples with the tokens of rollouts.

    Prompt, turns and feedbacks are encoded one by one and joined. The feedback contains the retriever's results.

    Args:
        demonstrations (sequence of [`Demonstration`]):
            Demonstrations to encode.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer from [`searchworld_tokenizer`].
        retriever ([`~tspo_trl.search.Retriever`]):
            Retriever of the world's corpus.
        top_k (`int`):
            Passages per search.
        generator (`random.Random`):
            Source of new names.
        rename (`bool`, *optional*, defaults to `True`):
            If `True`, the words of names are permuted in each example. A model then cannot memorize facts, and must
            read names from passages.

    Returns:
        `list[dict]`: `input_ids` and `labels`. Labels of prompts and feedbacks are -100.

    Raises:
        [`~tspo_trl.search.SearchError`]: A search failed.
    """
    protocol = TagProtocol()
    # The last turn of a demonstration is never searched, even if its text is that of a search.
    queries = {turn: protocol.parse(turn).content or "" for one in demonstrations for turn in one.turns[:-1]}
    distinct = list(dict.fromkeys(queries.values()))
    results = retriever.search(distinct, top_k) if distinct else []
    if any(passages is None for passages in results):
        raise SearchError("A search failed, so a demonstration would have no feedback. Check the retriever.")
    feedback = {query: protocol.render(passages or []).text for query, passages in zip(distinct, results, strict=True)}

    @functools.cache
    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    examples = []
    for one in demonstrations:
        input_ids = list(encode(one.prompt))
        labels = [-100] * len(input_ids)
        for turn in one.turns[:-1]:
            read = encode(feedback[queries[turn]])
            input_ids += encode(turn) + read
            labels += encode(turn) + [-100] * len(read)
        input_ids += encode(one.turns[-1])
        labels += encode(one.turns[-1])
        examples.append({"input_ids": input_ids, "labels": labels})
    if rename:
        _rename(examples, tokenizer, generator)
    return examples


def _rename(
    examples: list[dict[str, list[int]]], tokenizer: PreTrainedTokenizerBase, generator: random.Random
) -> None:
    """Permute the name words of each example within their lists."""
    vocabulary = tokenizer.get_vocab()
    lists = [[[vocabulary[token] for token in tokens] for tokens in words] for words in name_tokens()]
    for example in examples:
        renamed: dict[int, int] = {}
        for words in lists:
            for old, new in zip(words, generator.sample(words, len(words)), strict=True):
                renamed.update(zip(old, new, strict=True))
        for column, ids in example.items():
            example[column] = [renamed.get(i, i) for i in ids]
