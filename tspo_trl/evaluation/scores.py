"""The scores of an evaluation, read from its trajectory files.

Of each line only the id, the scores, and a digest of question and gold answers stay in memory. The questions of a
dataset are put in the order of their ids, so that the same answers give the same report however the files are cut.
"""

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..trainer.metrics import SCORES
from ..trajectory import numbered_json_lines
from .folder import SETTINGS_NAME, read_json

logger = logging.getLogger(__name__)

DATASETS = ("nq", "triviaqa", "popqa", "hotpotqa", "2wikimultihopqa", "musique", "bamboogle")
"""The seven evaluation sets of the field, in the order of its tables."""

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
            What tells whether two questions of one id are the same: a hash of question and gold answers.
        values (`np.ndarray` of shape `(N, S)`, float64):
            The scores, in the order of [`~tspo_trl.trainer.metrics.SCORES`].
    """

    ids: list[str]
    digests: NDArray[np.uint64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)


def read_scores(path: str | os.PathLike) -> dict[str, DatasetScores]:
    """
    Read the scores of an evaluation.

    A last line without its newline that is not valid JSON was being written when the run was killed: it is passed over
    with a warning.

    Args:
        path (`str` or `os.PathLike`):
            Folder of an evaluation, or one trajectory file.

    Returns:
        `dict[str, DatasetScores]`: by dataset, in the order of the field's tables, others after them by name.

    Raises:
        FileNotFoundError: There is nothing at `path`.
        ValueError: A file is no trajectory file of an evaluation, or a question stands twice.
    """
    files: dict[tuple[str, str], Path] = {}
    rows: dict[str, list[_Row]] = {}
    for file in _trajectory_files(Path(path)):
        for number, record in numbered_json_lines(file, may_be_cut_off=True):
            _check_record(record, f"{file}, line {number}")
            name, id = str(record["data_source"]), str(record["id"])
            if (name, id) in files:
                raise ValueError(
                    f"Question {id!r} of {name} stands in {files[name, id]} and again in {file}, line {number}: "
                    "remove one of the two lines."
                )
            files[name, id] = file
            scores = [float(record[score]) for score in SCORES]
            rows.setdefault(name, []).append((id, _digest(record), scores))
    return {name: _dataset_scores(rows[name]) for name in dataset_order(rows)}


def read_settings(path: str | os.PathLike) -> dict[str, Any] | None:
    """
    The settings that an evaluation was made with.

    Args:
        path (`str` or `os.PathLike`):
            Folder of an evaluation, or one trajectory file.

    Returns:
        `dict` or `None`: `None` where they are not known, as for a file.
    """
    settings = Path(path) / SETTINGS_NAME
    return read_json(settings) if settings.is_file() else None


def dataset_order(names: Iterable[str]) -> list[str]:
    """
    Names of datasets in the order of a table.

    Args:
        names (iterable of `str`):
            The names, each once.

    Returns:
        `list[str]`: the seven sets of the field first, in the field's order, then the others by name.
    """
    rank = {name: position for position, name in enumerate(DATASETS)}
    return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))


def _trajectory_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.exists():
        raise FileNotFoundError(f"There is no evaluation at {path}. Pass its folder or a trajectory file.")
    if not (path / "trajectories").is_dir():
        raise ValueError(
            f"{path} is no evaluation: it has no folder `trajectories`. Make one with `tspo-trl evaluate`."
        )
    return sorted((path / "trajectories").glob("*.jsonl"))


def _check_record(record: dict[str, Any], place: str) -> None:
    if missing := [key for key in _KEYS if key not in record]:
        raise ValueError(
            f"{place} is no line of an evaluation: it has no {', '.join(missing)}. Pass what "
            "`tspo-trl evaluate` wrote."
        )
    for score in SCORES:
        value = record[score]
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{place}: `{score}` is {value!r}, expected a finite number.")


def _digest(record: dict[str, Any]) -> int:
    """The order of gold answers does not count."""
    text = json.dumps([record["question"], sorted(map(str, record["golden_answers"]))])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _dataset_scores(rows: list[_Row]) -> DatasetScores:
    rows.sort()
    ids, digests, values = zip(*rows, strict=True)
    return DatasetScores(list(ids), np.array(digests, dtype=np.uint64), np.array(values, dtype=np.float64))
