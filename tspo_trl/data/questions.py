"""Questions with gold answers, from JSON lines."""

import os
from pathlib import Path

from datasets import Dataset

from ..trajectory import read_json_lines
from ..validation import check_golden_answers


def load_questions(path: str | os.PathLike) -> Dataset:
    """
    Load a file of questions, one JSON object a line, with `question` and `golden_answers` (FlashRAG's form).

    Args:
        path (`str` or `os.PathLike`):
            File to read. Other keys than `id`, `question` and `golden_answers` are left out.

    Returns:
        [`~datasets.Dataset`]: columns `id`, `question` and `golden_answers`. A question without `id` gets its position
        in the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is empty, or a line is malformed or lacks a key; the message names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No file of questions at {path}. Give the path of a JSON lines file.")
    rows = []
    for position, record in enumerate(read_json_lines(path)):
        where = f"{path}, record {position + 1}"
        for key in ("question", "golden_answers"):
            if key not in record:
                raise ValueError(f"{where} has no `{key}`, but {sorted(record)}. Add it or rename the key.")
        if not isinstance(record["question"], str) or not record["question"].strip():
            raise ValueError(f"{where} has {record['question']!r} as `question`. Fix or drop that line.")
        check_golden_answers([record["golden_answers"]], where)
        rows.append(
            {
                "id": str(record.get("id", position)),
                "question": record["question"],
                "golden_answers": list(record["golden_answers"]),
            }
        )
    if not rows:
        raise ValueError(f"{path} holds no question. Give a file with one JSON object a line.")
    return Dataset.from_list(rows)
