"""Repeated questions, and training questions in test data."""

from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from tspo_trl.answers import normalize_answer
from tspo_trl.data.overlap import count_duplicates, drop_rows, find_leaks, merge_duplicates

from .question_files import question

TEXTS = st.text("aAb?! ", min_size=1, max_size=4)
ROWS = st.lists(st.builds(question, TEXTS, TEXTS), min_size=1, max_size=8)


def dataset(*rows):
    return Dataset.from_list(list(rows))


def test_question_stays_once_whatever_its_case_and_punctuation():
    rows = [question("Who wrote Emma?", "Jane Austen"), question("b?"), question("who wrote  emma", "Jane Austen")]
    merged = merge_duplicates(dataset(*rows))
    assert merged.dataset.to_list() == rows[:2]
    assert (merged.repeated, merged.merged) == (1, 0)


def test_first_row_takes_the_further_answers_of_later_ones():
    rows = [
        question("Who?", "Austen", id="1", data_source="nq"),
        question("who", "the austen", "Jane Austen", id="2", data_source="hotpotqa"),
        question("WHO", "Miss Austen", id="3", data_source="hotpotqa"),
        question("who", "Jane Austen", id="4", data_source="hotpotqa"),
    ]
    merged = merge_duplicates(dataset(*rows))
    expected = question("Who?", "Austen", "Jane Austen", "Miss Austen", id="1", data_source="nq")
    assert merged.dataset.to_list() == [expected]
    assert merged.dataset.column_names == list(expected)
    assert (merged.repeated, merged.merged) == (1, 2)


def test_answers_of_punctuation_are_compared_as_they_are():
    merged = merge_duplicates(dataset(question("Sign?", "!"), question("sign", "?"), question("sign", "!")))
    assert merged.dataset["golden_answers"][0] == ["!", "?"]


def test_questions_that_normalise_to_nothing_are_not_the_same():
    rows = [question("???", "x"), question("The?", "x"), question("???", "x")]
    merged = merge_duplicates(dataset(*rows))
    assert merged.dataset.to_list() == rows
    assert (merged.repeated, merged.merged, count_duplicates(dataset(*rows))) == (0, 0, 0)
    assert find_leaks(dataset(*rows), {"nq": dataset(*rows)}) == {"nq": []}


@settings(deadline=None)
@given(ROWS)
def test_no_question_stands_twice_and_no_answer_is_lost(rows):
    merged = merge_duplicates(dataset(*rows))
    kept = [normalize_answer(row["question"]) for row in merged.dataset]
    named = [text for text in kept if text]
    assert len(named) == len(set(named))
    assert len(kept) + merged.repeated + merged.merged == len(rows)
    assert merged.repeated + merged.merged == count_duplicates(dataset(*rows))
    for row in rows:
        if text := normalize_answer(row["question"]):
            answers = merged.dataset[kept.index(text)]["golden_answers"]
            assert normalize_answer(row["golden_answers"][0]) in map(normalize_answer, answers)


def test_duplicates_are_counted_from_the_second_on():
    assert count_duplicates(dataset(question("a1"), question("A1?"), question("a1!"), question("b1"))) == 2


def test_leaks_are_the_training_rows_of_each_test_set():
    train = dataset(question("who?"), question("where?"), question("when?"), question("Where"))
    tests = {"nq": dataset(question("WHERE"), question("how?")), "popqa": dataset(question("who"), question("where"))}
    assert find_leaks(train, tests) == {"nq": [1, 3], "popqa": [0, 1, 3]}


def test_dropped_rows_leave_the_others_in_order():
    kept = drop_rows(dataset(question("a"), question("b"), question("c")), [1])
    assert list(kept["question"]) == ["a", "c"]
