"""A tokenizer for SearchWorld, made locally.

It is Qwen2's tokenizer over single bytes. Each word of the world, with the space before it, and each phrase of the
protocol has its own token, so rollouts are short. Every text decodes to itself, byte for byte.
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
    Make the tokenizer. It has Qwen2's class, so `AutoTokenizer` finds it with a saved Qwen2 model.

    Args:
        relations (mapping of `str` to mappings, *optional*, defaults to [`RELATIONS`]):
            Relations of the world, which get a token each.

    Returns:
        [`~transformers.Qwen2Tokenizer`]: tokenizer of about 520 tokens, with different end-of-sequence and padding
        tokens and without a chat template.
    """
    alphabet = {character: i for i, character in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Qwen2Tokenizer(vocab=alphabet, merges=[], eos_token="<|endoftext|>", pad_token="<|pad|>")
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (*_fixed_phrases(), *_words(relations))])
    return tokenizer


def name_tokens() -> list[list[tuple[str, ...]]]:
    """
    Return the tokens of the words of names.

    Returns:
        `list[list[tuple[str, ...]]]`: tokens of each word, by list of [`NAME_WORDS`]. A word has a token for its
        use after a space. A first word of names has another one for the beginning of a title.
    """
    return [
        [(f" {word}", f' "{word}') if position == 0 else (f" {word}",) for word in words]
        for pair in NAME_WORDS.values()
        for position, words in enumerate(pair)
    ]


def _fixed_phrases() -> list[str]:
    """Return the phrases that the protocol writes around words."""
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
