"""Other implementations of the answer metrics: one from their definitions, and the official scripts where present."""

import os
import string
from importlib.util import module_from_spec, spec_from_file_location

import pytest

SQUAD_SCRIPT = "SQUAD_SCRIPT"
"""Variable for the path of SQuAD's `evaluate-v1.1.py` or of `squad/compute_score.py` in `huggingface/evaluate`."""

SQUAD_V2_SCRIPT = "SQUAD_V2_SCRIPT"
"""Variable for the path of SQuAD's `evaluate-v2.0.py` or of `squad_v2/compute_score.py` in `huggingface/evaluate`."""

SEARCH_R1_SCRIPT = "SEARCH_R1_SCRIPT"
"""Variable for the path of Search-R1's `verl/utils/reward_score/qa_em.py`."""


def official_script(variable):
    """Load the script at the path in an environment variable. Skip the test if the variable is not set."""
    if variable not in os.environ:
        pytest.skip(f"{variable} is not set to the path of an official script")
    spec = spec_from_file_location(variable.lower(), os.environ[variable])
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reference_tokens(text):
    """Words of a text of printable ASCII: lower case, no punctuation, no articles."""
    kept = [character for character in text.lower() if character not in string.punctuation]
    return [word for word in "".join(kept).split() if word not in ("a", "an", "the")]


def reference_exact_match(prediction, golden_answers):
    """1 if the words are those of a gold answer."""
    if prediction is None:
        return 0.0
    return float(any(reference_tokens(prediction) == reference_tokens(gold) for gold in golden_answers))


def reference_f1(prediction, golden_answers):
    """Harmonic mean of precision and recall of words, matched one to one, the best over the gold answers."""
    return max(_reference_f1(prediction, gold) for gold in golden_answers) if prediction is not None else 0.0


def reference_cover_exact_match(prediction, golden_answers, match):
    """1 if the prediction contains a gold answer's words (or characters, for substrings), or both are empty."""
    if prediction is None:
        return 0.0
    words = reference_tokens(prediction)
    for gold in map(reference_tokens, golden_answers):
        if not gold or not words:
            found = gold == words
        elif match == "substring":
            found = " ".join(gold) in " ".join(words)
        else:
            found = any(words[start : start + len(gold)] == gold for start in range(len(words)))
        if found:
            return 1.0
    return 0.0


def _reference_f1(prediction, gold):
    predicted, left = reference_tokens(prediction), reference_tokens(gold)
    if not predicted or not left:
        return float(predicted == left)
    num_gold, num_common = len(left), 0
    for word in predicted:
        if word in left:
            left.remove(word)
            num_common += 1
    if num_common == 0:
        return 0.0
    precision, recall = num_common / len(predicted), num_common / num_gold
    return 2 * precision * recall / (precision + recall)
