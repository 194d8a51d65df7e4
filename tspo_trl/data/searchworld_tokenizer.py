"""A tokenizer for SearchWorld, made locally.

One token for each word with the space before it, for each tag and for each fixed phrase of the protocol, so that
rollouts are short: a vocabulary of about 370. Every text of the world decodes to itself, byte for byte; a word that
the world does not have becomes the unknown token.
"""

import re

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ..protocol import TagProtocol
from .names import NAME_WORDS
from .searchworld import RELATIONS

MAX_PASSAGES = 9

END, PADDING, UNKNOWN = "<|endoftext|>", "<|pad|>", "<|unk|>"

# A title stands in quotes. A space behind the opening one gives a name the same tokens there as elsewhere.
_TITLE, _SPACED_TITLE = '(Title: "', '(Title: " '


def searchworld_tokenizer() -> PreTrainedTokenizerFast:
    """
    Make the tokenizer.

    Returns:
        [`~transformers.PreTrainedTokenizerFast`]: with an end-of-sequence, a padding and an unknown token, without a
        chat template.
    """
    phrases, words = _fixed_phrases(), _words()
    vocabulary = [END, PADDING, UNKNOWN, *phrases, *words]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Replace(_TITLE, _SPACED_TITLE)
    pieces = "|".join([*map(re.escape, phrases), r" ?\w+", r" ?[^\w\s]", r"\s"])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pieces), behavior="isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace(_SPACED_TITLE, _TITLE)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PADDING,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )


def _fixed_phrases() -> list[str]:
    """What the protocol writes around words; longer phrases first, since the first that fits is taken."""
    protocol = TagProtocol()
    frame = protocol.render([])
    phrases = [
        protocol.invalid_action().text,
        frame.opening,
        frame.closing,
        *(f"{before}Doc {i}{_SPACED_TITLE.rstrip()}" for i in range(1, MAX_PASSAGES + 1) for before in ("\n", "")),
        "<search>",
        " </search>",
        "<answer>",
        " </answer>",
        "<think>",
        " </think>",
        "Question:",
        "'s",
        '")',
    ]
    return sorted(phrases, key=len, reverse=True)


def _words() -> list[str]:
    names = [word for lists in NAME_WORDS.values() for words in lists for word in words]
    relations = [relation for kind in RELATIONS.values() for relation in kind]
    text = ["Who", "What", "is", "had", "and"]
    return [f" {word}" for word in (*names, *relations, *text)] + [",", ".", "?", "\n"]
