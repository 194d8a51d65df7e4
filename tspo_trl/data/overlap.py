"""Repeated questions in a dataset, or in training and test data.

Two questions are the same if they are equal after [`~tspo_trl.answers.normalize_answer`], which drops case,
punctuation and articles. A question that normalises to nothing has no duplicates.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from datasets import Dataset

from ..answers import normalize_answer


class Merged(NamedTuple):
    """
    A dataset without repeated questions.

    Args:
        dataset ([`~datasets.Dataset`]):
            The first row of each question.
        repeated (`int`):
            Number of dropped rows with a known question and no new gold answers.
        merged (`int`):
            Number of dropped rows with a known question and new gold answers, which the first row received.
    """

    dataset: Dataset
    repeated: int
    merged: int


def merge_duplicates(dataset: Dataset) -> Merged:
    """
    Keep one row of each question, with the gold answers of all its rows.

    Args:
        dataset ([`~datasets.Dataset`]):
            Dataset with `question` and `golden_answers`. Other columns keep the first row's values.

    Returns:
        [`Merged`]: rows in their order. Gold answers of the first row come first, then new ones of later rows.
        Answers are compared after normalisation.
    """
    first_rows: dict[str, int] = {}
    kept, repeated, merged = [], 0, 0
    golden_answers = dataset["golden_answers"][:]
    for row, question in enumerate(_normalized_questions(dataset)):
        first = first_rows.setdefault(question, row) if question else row
        if first == row:
            kept.append(row)
        elif further := _further_answers(golden_answers[first], golden_answers[row]):
            golden_answers[first] = golden_answers[first] + further
            merged += 1
        else:
            repeated += 1
    if merged:
        dataset = _with_golden_answers(dataset, golden_answers)
    return Merged(dataset.select(kept), repeated, merged)


def count_duplicates(dataset: Dataset) -> int:
    """Count the rows of a dataset with the `question` of an earlier row."""
    questions = [question for question in _normalized_questions(dataset) if question]
    return len(questions) - len(set(questions))


def find_leaks(train: Dataset, tests: Mapping[str, Dataset]) -> dict[str, list[int]]:
    """
    Find training questions in test data.

    Args:
        train ([`~datasets.Dataset`]):
            Training data.
        tests (mapping from `str` to [`~datasets.Dataset`]):
            Test data by name.

    Returns:
        `dict[str, list[int]]`: rows of `train` with a test question, in order, by name of the test data.
    """
    rows_of: dict[str, list[int]] = {}
    for row, question in enumerate(_normalized_questions(train)):
        if question:
            rows_of.setdefault(question, []).append(row)
    return {
        name: sorted(row for question in set(_normalized_questions(test)) for row in rows_of.get(question, ()))
        for name, test in tests.items()
    }


def drop_rows(dataset: Dataset, rows: Iterable[int]) -> Dataset:
    """Return a dataset without the rows at the given positions."""
    dropped = set(rows)
    return dataset.select([row for row in range(len(dataset)) if row not in dropped])


def _normalized_questions(dataset: Dataset) -> list[str]:
    return [normalize_answer(question) for question in dataset["question"][:]]


def _further_answers(known: list[str], others: list[str]) -> list[str]:
    """Return the new ones of `others`. Answers that normalise to nothing are compared unchanged."""
    seen = {normalize_answer(answer) or answer for answer in known}
    return [answer for answer in others if (normalize_answer(answer) or answer) not in seen]


def _with_golden_answers(dataset: Dataset, golden_answers: list[list[str]]) -> Dataset:
    columns, feature = dataset.column_names, dataset.features["golden_answers"]
    dataset = dataset.remove_columns("golden_answers").add_column("golden_answers", golden_answers, feature=feature)
    return dataset.select_columns(columns)
