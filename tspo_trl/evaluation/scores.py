"""The scores of an evaluation, read from its trajectory files.

Only the id, the scores and a digest of question and gold answers of each line stay in memory. Questions of a dataset
are sorted by id, so the report does not depend on the order of lines and files.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.benchmarks import BENCHMARKS
from ..trainer.scores import SCORES
from ..trajectory import numbered_json_lines
from .folder import ANSWERS_NAME, SETTINGS_NAME, answer_files, read_json

_KEYS = ("data_source", "id", "question", "golden_answers", *SCORES)

_Row = tuple[str, int, list[float]]


@dataclass(frozen=True)
class DatasetScores:
    """
    Scores of the questions of one dataset.

    Args:
        ids (`list[str]`):
            Ids of N questions, sorted.
        digests (`np.ndarray` of shape `(N,)`, uint64):
            Hash of the question and gold answers of each id.
        values (`np.ndarray` of shape `(N, S)`, float64):
            Scores in the order of [`~tspo_trl.trainer.scores.SCORES`].
    """

    ids: list[str]
    digests: NDArray[np.uint64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)


def read_scores(path: str | os.PathLike) -> dict[str, DatasetScores]:
    """
    Read the scores of an evaluation.

    A killed run may leave an incomplete last line. It is skipped with a warning.

    Args:
        path (`str` or `os.PathLike`):
            Folder of an evaluation, or one trajectory file.

    Returns:
        `dict[str, DatasetScores]`: scores by dataset, in the order of [`dataset_order`].

    Raises:
        FileNotFoundError: `path` does not exist.
        ValueError: A file is not a trajectory file of an evaluation, or a question occurs twice.
    """
    files: dict[tuple[str, str], Path] = {}
    rows: dict[str, list[_Row]] = {}
    for file in _trajectory_files(Path(path)):
        for number, record in numbered_json_lines(file, may_be_cut_off=True):
            _check_record(record, f"{file}, line {number}")
            name, id = str(record["data_source"]), str(record["id"])
            if (name, id) in files:
                raise ValueError(
                    f"Question {id!r} of {name} is in {files[name, id]} and again in {file}, line {number}. Remove "
                    "one of the two lines."
                )
            files[name, id] = file
            scores = [float(record[score]) for score in SCORES]
            rows.setdefault(name, []).append((id, _digest(record), scores))
    return {name: _dataset_scores(rows[name]) for name in dataset_order(rows)}


def read_settings(path: str | os.PathLike) -> dict[str, Any] | None:
    """
    Read the settings of an evaluation.

    Args:
        path (`str` or `os.PathLike`):
            Folder of an evaluation, or one trajectory file.

    Returns:
        `dict` or `None`: the settings, `None` for a file or a folder without settings.
    """
    settings = Path(path) / SETTINGS_NAME
    return read_json(settings) if settings.is_file() else None


def dataset_order(names: Iterable[str]) -> list[str]:
    """
    Sort names of datasets for a table.

    Args:
        names (iterable of `str`):
            Distinct names.

    Returns:
        `list[str]`: the sets of [`~tspo_trl.data.BENCHMARKS`] in their order, then the others by name.
    """
    rank = {name: position for position, name in enumerate(BENCHMARKS)}
    return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))


def _trajectory_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.exists():
        raise FileNotFoundError(f"There is no evaluation at {path}. Pass its folder or a trajectory file.")
    if not (path / ANSWERS_NAME).is_dir():
        raise ValueError(
            f"{path} is not an evaluation: it has no folder `{ANSWERS_NAME}`. Make one with `tspo-trl evaluate`."
        )
    return answer_files(path)


def _check_record(record: dict[str, Any], place: str) -> None:
    if missing := [key for key in _KEYS if key not in record]:
        raise ValueError(
            f"{place} is not a line of an evaluation: it has no {', '.join(missing)}. Pass the output of "
            "`tspo-trl evaluate`."
        )
    for score in SCORES:
        value = record[score]
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{place}: `{score}` is {value!r}, expected a finite number.")


def _digest(record: dict[str, Any]) -> int:
    """Hash question and gold answers. The order of the gold answers does not count."""
    text = json.dumps([record["question"], sorted(map(str, record["golden_answers"]))])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _dataset_scores(rows: list[_Row]) -> DatasetScores:
    rows.sort()
    ids, digests, values = zip(*rows, strict=True)
    return DatasetScores(list(ids), np.array(digests, dtype=np.uint64), np.array(values, dtype=np.float64))
