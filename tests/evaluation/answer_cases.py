"""Predictions with gold answers, all of printable ASCII: hand-made ones and generated ones."""

import random
import string

HAND_MADE = [
    ("Beijing", ["Beijing"]),
    ("beijing.", ["Shanghai", "Beijing"]),
    ("Beijing, China", ["Beijing"]),
    ("the Fab Four", ["The Beatles", "Fab Four", "Beatles"]),
    ("yes", ["yes"]),
    ("Yes, he was.", ["yes"]),
    ("no", ["yes"]),
    ("North Dakota", ["no"]),
    ("noanswer", ["no answer"]),
    ("1,000", ["1000"]),
    ("1 000", ["1,000"]),
    ("3.14", ["314"]),
    ("$5 million", ["5 million"]),
    ("-7", ["7"]),
    ("1924", ["2"]),
    ("a_n apple", ["an apple"]),  # an article once the underscore is gone
    ("a-n apple", ["apple"]),
    ("(the) Beatles", ["Beatles"]),
    ("T.H.E. end", ["end"]),
    ("the theatre", ["theatre"]),
    ("an anthem", ["a anthem"]),
    ("snake_case", ["snake case", "snakecase"]),
    ("Jean-Luc", ["Jean Luc", "JeanLuc"]),
    ("O'Neill", ["ONeill"]),
    ("  New \t York\n", ["New York"]),
    ("to be or not to be", ["to be", "not to be"]),
    ("be be be", ["be"]),
    ("", ["Beijing"]),
    (" ", ["Beijing"]),
    ("the", ["Beijing"]),
    ("?!", ["Beijing"]),
    ("word " * 5000 + "end", ["word end", "word " * 4999]),
]

_ARTICLES = ["a", "an", "the", "The"]
_NAMES = ["Paris", "York", "U.S.", "O'Neill", "Jean-Luc", "snake_case", "King"]
_WORDS = [*_ARTICLES, *_NAMES, "new", "of", "no", "yes", "river", "anthem", "1924", "2", "1,000"]


def generated_cases(number, seed):
    """Gold answers of one to three aliases, and predictions that are mostly mutations of one of them."""
    generator = random.Random(seed)
    return [_case(generator) for _ in range(number)]


def _case(generator):
    golds = [_gold(generator) for _ in range(generator.randint(1, 3))]
    prediction = generator.choice(golds) if generator.random() < 0.9 else _gold(generator)
    for _ in range(generator.randint(0, 3)):
        prediction = generator.choice(_MUTATIONS)(generator, prediction)
    return prediction, golds


def _gold(generator):
    """Up to four words, not only articles."""
    words = generator.choices(_WORDS, k=generator.randint(0, 3))
    words.insert(generator.randint(0, len(words)), generator.choice(["Paris", "York", "no", "2", "1,000"]))
    return " ".join(words)


def _change_case(generator, text):
    return generator.choice([str.lower, str.upper, str.title, str.swapcase])(text)


def _insert(generator, text, piece):
    position = generator.randint(0, len(text))
    return text[:position] + piece + text[position:]


def _insert_word(generator, text):
    words = text.split(" ")
    words.insert(generator.randint(0, len(words)), generator.choice(_WORDS))
    return " ".join(words)


def _drop_word(generator, text):
    words = text.split(" ")
    del words[generator.randrange(len(words))]
    return " ".join(words)


def _insert_punctuation(generator, text):
    return _insert(generator, text, generator.choice(string.punctuation))


def _insert_white_space(generator, text):
    return _insert(generator, text, generator.choice(" \t\n"))


def _insert_letter(generator, text):
    return _insert(generator, text, generator.choice(string.printable))


def _empty(generator, text):
    return generator.choice(["", " ", "the", "A.", "..."])


_MUTATIONS = [_change_case, _insert_word, _drop_word, _insert_punctuation, _insert_white_space, _insert_letter] * 4
_MUTATIONS.append(_empty)
