"""A tokenizer for SearchWorld, made locally.

Qwen2's tokenizer over single bytes, with a token of its own for each word of the world, together with the space before
it, and for what the protocol writes around words, so that rollouts are short. Every text decodes to itself, byte for
byte.
"""

from tokenizers import AddedToken
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Tokenizer

from ..protocols.tags import TagProtocol
from .entities import RELATIONS, Relations
from .names import NAME_WORDS

MAX_PASSAGES = 9


def searchworld_tokenizer(relations: Relations = RELATIONS) -> Qwen2Tokenizer:
    """
    Make the tokenizer.

    It is of Qwen2's class, so that `AutoTokenizer` finds it beside a saved Qwen2 model.

    Args:
        relations (mapping of `str` to mappings, *optional*, defaults to [`RELATIONS`]):
            The world's relations, each of which gets a token.

    Returns:
        [`~transformers.Qwen2Tokenizer`]: about 520 tokens, with an end-of-sequence token and another one for padding,
        without a chat template.
    """
    alphabet = {character: i for i, character in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Qwen2Tokenizer(vocab=alphabet, merges=[], eos_token="<|endoftext|>", pad_token="<|pad|>")
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (*_fixed_phrases(), *_words(relations))])
    return tokenizer


def name_tokens() -> list[list[tuple[str, ...]]]:
    """
    The tokens of the words of names.

    Returns:
        `list[list[tuple[str, ...]]]`: for each list of [`NAME_WORDS`], for each of its words, the tokens that stand
        for it: with a space before it, and, where it begins a name, as a title begins.
    """
    return [
        [(f" {word}", f' "{word}') if position == 0 else (f" {word}",) for word in words]
        for pair in NAME_WORDS.values()
        for position, words in enumerate(pair)
    ]


def _fixed_phrases() -> list[str]:
    """What the protocol writes around words."""
    protocol = TagProtocol()
    frame = protocol.render([])
    return [
        protocol.invalid_action().text,
        frame.opening,
        frame.closing,
        *(f"{before}Doc {i}(Title:" for i in range(1, MAX_PASSAGES + 1) for before in ("", "\n")),
        *("<search>", " </search>", "<answer>", " </answer>", "<think>", " </think>"),
        *("Question:", "'s", '")'),
    ]


def _words(relations: Relations) -> list[str]:
    names = [token for words in name_tokens() for tokens in words for token in tokens]
    relation_words = [relation for kind in relations.values() for relation in kind]
    return [*names, *(f" {word}" for word in (*relation_words, "Who", "What", "is", "had", "and"))]
