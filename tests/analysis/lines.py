"""Makes lines of trajectory files."""

from tspo_trl.trajectory import Trajectory, Turn, trajectory_to_dict, write_json_lines


def own(found=(None,), *, end_reason="answered", prediction="London", queries=None, text="", **record):
    """
    A line of this package's files. `found` has the result of each turn's search; the last turn answers.

    The gold answer is Paris. The line has `outcome` and `first_occurrence` only if they are given.
    """
    *searches, _ = found
    queries = queries or [(f"query {i}",) for i in range(len(searches))]
    turns = [
        Turn(text, (0, 1), action="search", queries=asked, feedback=got, evidence=got)
        for asked, got in zip(queries, searches, strict=True)
    ]
    last = Turn(text, (1, 2), action="answer" if prediction else None, content=prediction)
    question = {"question": "Capital of France?", "golden_answers": ["Paris"]}
    return trajectory_to_dict(Trajectory((*turns, last), end_reason), **{**question, **record})


def plain(found=(None,), *, prediction="London", texts=None, **record):
    """A line of the plain form, with the same elements."""
    texts = texts or ["<|begin_of_query|> capital <|end_of_query|>"] * (len(found) - 1) + ["<answer> x </answer>"]
    turns = [{"text": text, "feedback": got} for text, got in zip(texts, found, strict=True)]
    question = {"question": "Capital of France?", "golden_answers": ["Paris"]}
    return {**question, "prediction": prediction, **record, "turns": turns}


def file_of(folder, *lines, name="step_000001.jsonl"):
    """A file of lines."""
    write_json_lines(folder / name, lines)
    return folder / name
