"""Questions with gold answers in one schema, from JSON lines or parquet in FlashRAG's or Search-R1's form."""

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from ..trajectory import numbered_json_lines
from .benchmarks import BENCHMARKS
from .search_r1 import from_search_r1, is_search_r1

SCHEMA = pa.schema(
    {"id": pa.string(), "question": pa.string(), "golden_answers": pa.list_(pa.string()), "data_source": pa.string()}
)

_JSON_LINES = (".jsonl", ".json")
_PARQUET = ".parquet"
_BATCH = 1000  # a row of FlashRAG's 2WikiMultiHopQA has 4 kB of passages, which are dropped
_SPLITS = ("train", "dev", "test", "validation")


def load_questions(path: str | os.PathLike) -> Dataset:
    """
    Load a file of questions.

    Rows are in FlashRAG's form, with `question` and `golden_answers`, or in Search-R1's, with `reward_model` and
    `prompt`. A single gold answer becomes a list, and blank or repeated gold answers are removed.

    Args:
        path (`str` or `os.PathLike`):
            File to read: JSON lines (`.jsonl` or `.json`) or `.parquet`. Other keys than those below are left out.

    Returns:
        [`~datasets.Dataset`]: columns `id`, `question`, `golden_answers` (a non-empty list of strings) and
        `data_source`. `id` defaults to the position in the file. `data_source` defaults to the name of the file, or of
        its folder in FlashRAG's layout, such as `nq/test.jsonl`. A `prompt` (a text or messages) is kept, except for
        Search-R1's, which equals the protocol's.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file has another type, is damaged or empty, a row is malformed or lacks a key, or only some
            rows have a `prompt`. The message names the file and the line (for parquet, the row).
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"No file of questions at {path}. Pass the path of a JSON lines or parquet file.")
    source = default_data_source(path)
    records = enumerate(_read_records(path))
    tables, prompts = [], []
    while batch := list(islice(records, _BATCH)):
        rows = [_read_row(record, position, where, source) for position, (where, record) in batch]
        tables.append(_to_table(rows, path))
        prompts += [_read_prompt(record, where) for _, (where, record) in batch]
    if not tables:
        raise ValueError(f"{path} contains no questions. Pass a file with one row for each question.")
    table = pa.concat_tables(tables)
    return Dataset(table if prompts.count(None) == len(prompts) else _with_prompts(table, prompts, path))


def default_data_source(path: Path) -> str:
    """
    Return the default `data_source` of a file.

    Args:
        path (`Path`):
            The file.

    Returns:
        `str`: name of the folder in FlashRAG's layout, `<set>/<split>.jsonl`, else of the file without its suffix.
    """
    folder = path.absolute().parent.name
    return folder if path.stem in _SPLITS and folder in BENCHMARKS else path.stem


def _read_records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Return the rows of a file with their places for messages."""
    if path.suffix in _JSON_LINES:
        return ((f"{path}, line {number}", record) for number, record in numbered_json_lines(path))
    if path.suffix != _PARQUET:
        raise ValueError(f"{path} is neither JSON lines (.jsonl, .json) nor .parquet. Convert or rename it.")
    return ((f"{path}, row {number}", record) for number, record in enumerate(_read_parquet(path), start=1))


def _read_parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if name != "metadata"]  # large and unused
            for batch in file.iter_batches(_BATCH, columns=names):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as parquet ({error}). Check that it is complete.") from error


def _read_row(record: Mapping[str, Any], position: int, where: str, source: str) -> dict[str, Any]:
    if is_search_r1(record):
        record = from_search_r1(record, where)
    for key in ("question", "golden_answers"):
        if key not in record:
            raise ValueError(f"{where} has no `{key}`, but {sorted(record)}. Add `{key}` or rename a key.")
    question, id, data_source = record["question"], record.get("id"), record.get("data_source") or source
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"{where} has {question!r} as `question`. Fix or drop it.")
    if not isinstance(id, str | int | None):
        raise ValueError(f"{where} has {id!r} as `id`. It must be a text or a whole number.")
    if not isinstance(data_source, str):
        raise ValueError(f"{where} has {data_source!r} as `data_source`. It must be a name, such as 'nq'.")
    return {
        "id": str(position if id is None else id),
        "question": question,
        "golden_answers": _read_golden_answers(record["golden_answers"], where),
        "data_source": data_source,
    }


def _read_golden_answers(value: Any, where: str) -> list[str]:
    if isinstance(value, str) and value.strip().startswith("[") and value.strip().endswith("]"):
        raise ValueError(
            f"{where} has the text {value!r} as `golden_answers`, which looks like a printed list. Write it as a list."
        )
    answers = [value] if isinstance(value, str) else value
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise ValueError(
            f'{where} has {value!r} as `golden_answers`. It must be a list of strings, such as ["Paris"]: fix or drop'
            " that row."
        )
    distinct = list(dict.fromkeys(answer for answer in answers if answer.strip()))
    if not distinct:
        raise ValueError(f"{where} has {value!r} as `golden_answers`, so no answer would be right. Fix or drop it.")
    return distinct


def _read_prompt(record: Mapping[str, Any], where: str) -> str | list | None:
    prompt = None if is_search_r1(record) else record.get("prompt")
    is_text = isinstance(prompt, str) and prompt.strip()
    is_chat = isinstance(prompt, list) and prompt and all(isinstance(one, Mapping) and "role" in one for one in prompt)
    if prompt is not None and not is_text and not is_chat:
        raise ValueError(f"{where} has {prompt!r} as `prompt`. It must be a text, or a list of messages.")
    return prompt


def _to_table(rows: list[dict[str, Any]], path: Path) -> pa.Table:
    try:
        return pa.Table.from_pylist(rows, schema=SCHEMA)
    except UnicodeEncodeError as error:
        raise _not_unicode(error, path) from error


def _with_prompts(table: pa.Table, prompts: list[str | list | None], path: Path) -> pa.Table:
    if None in prompts:
        raise ValueError(
            f"{path} has prompts, but its question {prompts.index(None) + 1} has none. Give a prompt to every row or "
            "to no row."
        )
    try:
        return table.append_column("prompt", pa.array(prompts))
    except UnicodeEncodeError as error:
        raise _not_unicode(error, path) from error
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(
            f"{path} has prompts of several forms ({error}). Make each a text, or each a list of messages."
        ) from error


def _not_unicode(error: UnicodeEncodeError, path: Path) -> ValueError:
    return ValueError(
        f"{path} contains {error.object!r}, a text with half a surrogate pair, which is not Unicode. Fix or drop it."
    )
