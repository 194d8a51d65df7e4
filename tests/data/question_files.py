"""Files of questions for the tests."""

import json

import pyarrow as pa
import pyarrow.parquet as pq


def question(text, *answers, **others):
    """A row in FlashRAG's form."""
    return {"question": text, "golden_answers": list(answers) or ["yes"], **others}


def write_jsonl(path, *rows):
    """Write rows as JSON lines and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path, *rows):
    """Write rows as parquet and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def write_flashrag(folder):
    """
    Write two benchmarks in FlashRAG's layout and return the folder.

    Of its four training questions, one is repeated with another answer, and one is in the test set of nq.
    """
    write_jsonl(
        folder / "nq" / "train.jsonl", question("who wrote emma", "Austen", id="train_0"), question("why", "x")
    )
    write_jsonl(
        folder / "hotpotqa" / "train.jsonl",
        question("Where?", "there", id="train_0", metadata={"level": "easy"}),
        question("Who wrote Emma?", "Jane Austen", id="train_1", metadata={"level": "hard"}),
    )
    write_jsonl(folder / "nq" / "test.jsonl", question("Why?", "y"), question("Café?"), question("cafe"))
    write_jsonl(folder / "hotpotqa" / "dev.jsonl", question("How?", id="dev_0"))
    return folder
