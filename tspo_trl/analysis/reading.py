"""Reads trajectory files line by line.

A line has one of two forms:

- The form of `trajectories/*.jsonl` of a training run or an evaluation. It has an `end_reason`.
- The plain form `{"question", "golden_answers", "prediction", "em", "turns": [{"text", "feedback"}]}`. `feedback` is
  the text that the search returned after that turn, or `null` if the turn did not search.
"""

import math
import os
import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short
from types import NoneType
from typing import Any

from ..rollout.tool_results import evidence_in_feedback
from ..trajectory import Action, Trajectory, Turn, numbered_json_lines, trajectory_from_dict

_OUTCOMES = ("outcome", "em")
_SUCCESSES = ("success", "outcome", "em")  # files without a success reward
_PLAIN_KEYS = ("question", "golden_answers", "prediction", "turns")
# R1-Searcher's tags and Search-R1's.
_QUERY = re.compile(r"<\|begin_of_query\|>(.*?)<\|end_of_query\|>|<search>(.*?)</search>", re.DOTALL)


@dataclass(frozen=True)
class Record:
    """
    One line of a trajectory file.

    Args:
        question (`str`, *optional*):
            The question.
        golden_answers (`list[str]`):
            Gold answers.
        prediction (`str`, *optional*):
            The rollout's answer.
        outcome (`float`, *optional*):
            Recorded outcome reward. NaN if it is `null` (unscorable), `None` if the line has none.
        success (`float`, *optional*):
            Recorded success reward, which says whether the rollout is correct. As `outcome`.
        first_occurrence (`int`, *optional*):
            Recorded turn of the first occurrence. -1 for never, `None` if the line has none.
        step (`int`, *optional*):
            Training step.
        group (`int`, *optional*):
            Number of the group within its batch.
        trajectory ([`~tspo_trl.trajectory.Trajectory`]):
            Turns of the rollout. In the plain form the spans are unknown (`(0, 0)`), and the reason for ending may be
            `"unknown"`.
    """

    question: str | None
    golden_answers: list[str]
    prediction: str | None
    outcome: float | None
    success: float | None
    first_occurrence: int | None
    step: int | None
    group: int | None
    trajectory: Trajectory

    @property
    def group_key(self) -> Hashable:
        """
        Key of the rollout's group within a file, or `None` if the line names neither group nor question.

        The key includes the question, because an evaluation numbers its groups from 0 in every batch.
        """
        if self.group is None and self.question is None:
            return None
        return self.step, self.group, self.question


def trajectory_files(paths: str | os.PathLike | Sequence[str | os.PathLike]) -> list[Path]:
    """
    List the trajectory files at some paths.

    Args:
        paths (`str`, `os.PathLike` or sequence of them):
            Files or folders. A folder stands for the `*.jsonl` files in its folder `trajectories`, or in itself if it
            has no such folder.

    Returns:
        `list[Path]`: each file once, and the files of a folder by name.

    Raises:
        `FileNotFoundError`: If a path does not exist, or a folder has no trajectory file.
        `ValueError`: If there is no path.
    """
    if not paths:
        raise ValueError("There is nothing to analyze. Pass trajectory files or the folder of a run.")
    files: dict[Path, Path] = {}
    for path in map(Path, [paths] if isinstance(paths, str | os.PathLike) else paths):
        for file in _files_at(path):
            files.setdefault(file.resolve(), file)
    return list(files.values())


def _files_at(path: Path) -> list[Path]:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. Pass a trajectory file or the folder of a run.")
    if not path.is_dir():
        return [path]
    folder = path / "trajectories" if (path / "trajectories").is_dir() else path
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise FileNotFoundError(f"{folder} has no *.jsonl. Pass a trajectory file or the folder of a run.")
    return files


def series_name(path: Path) -> str:
    """Return the name of a trajectory file without its step: empty for training, or such as `"eval"`."""
    return re.sub(r"_?step_\d+$", "", path.stem)


def read_trajectories(path: Path) -> Iterator[Record]:
    """
    Read a trajectory file. Blank lines and an incomplete last line are skipped.

    Args:
        path (`Path`):
            File to read.

    Returns:
        iterator of [`Record`]

    Raises:
        `ValueError`: If the file has no trajectory, or a line is not a trajectory. The message names the line.
    """
    is_empty = True
    for number, line in numbered_json_lines(path, may_be_cut_off=True):
        try:
            record = _read_record(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        yield record
        is_empty = False
    if is_empty:
        raise ValueError(f"{path} has no trajectory. Pass a file with one JSON object per line.")


def _read_record(record: dict[str, Any]) -> Record:
    is_own = "end_reason" in record
    if not is_own and any(key not in record for key in _PLAIN_KEYS):
        raise ValueError(
            f"not a trajectory: it has the keys {short(sorted(record))}. Expected a line of this package's trajectory "
            f"files or the keys {', '.join(_PLAIN_KEYS)}."
        )
    _check_turns(record)
    return Record(
        question=_value(record, "question", str),
        golden_answers=_golden_answers(record),
        prediction=_value(record, "prediction", str),
        outcome=_reward(record, _OUTCOMES),
        success=_reward(record, _SUCCESSES),
        first_occurrence=_first_occurrence(record),
        step=_value(record, "step", int),
        group=_value(record, "group", int),
        trajectory=_own_trajectory(record) if is_own else _plain_trajectory(record),
    )


def _value(record: dict[str, Any], key: str, *types: type) -> Any:
    """Return the value of a key, or `None` if it is absent or null."""
    value = record.get(key)
    if not isinstance(value, (*types, NoneType)):
        names = " or ".join(one.__name__ for one in types)
        raise ValueError(f"`{key}` is {short(value)}, expected {names} or null.")
    return value


def _check_turns(record: dict[str, Any]) -> None:
    turns = record.get("turns")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError(f"`turns` is {short(turns)}, expected a list of at least one object.")
    for turn in turns:
        if not isinstance(turn.get("text"), str):
            raise ValueError(f"`text` of a turn is {short(turn.get('text'))}, expected a string.")
        _value(turn, "feedback", str)
        _value(turn, "evidence", str)


def _golden_answers(record: dict[str, Any]) -> list[str]:
    answers = record.get("golden_answers")
    if not isinstance(answers, list) or not answers or not all(isinstance(answer, str) for answer in answers):
        raise ValueError(f"`golden_answers` is {short(answers)}, expected a list of at least one string.")
    return answers


def _reward(record: dict[str, Any], keys: Sequence[str]) -> float | None:
    key = next((key for key in keys if key in record), None)
    if key is None:
        return None
    value = _value(record, key, int, float)
    if value is None:
        return math.nan
    try:
        reward = float(value)
    except OverflowError:
        reward = math.inf
    if not math.isfinite(reward):
        raise ValueError(f"`{key}` is {short(value)}, expected a finite number, or null for an unscorable rollout.")
    return reward


def _first_occurrence(record: dict[str, Any]) -> int | None:
    if "first_occurrence" not in record:
        return None
    turn = _value(record, "first_occurrence", int)
    return -1 if turn is None else turn


def _own_trajectory(record: dict[str, Any]) -> Trajectory:
    if not isinstance(record["end_reason"], str):
        raise ValueError(f"`end_reason` is {short(record['end_reason'])}, expected a string.")
    try:
        trajectory = trajectory_from_dict(record)
    except (KeyError, TypeError) as error:
        raise ValueError(f"its turns are not those of this package's trajectory files ({error!r}).") from error
    for query in (query for turn in trajectory.turns for query in turn.queries):
        if not isinstance(query, str):
            raise ValueError(f"`queries` of a turn has {short(query)}, expected strings.")
    return trajectory


def _plain_trajectory(record: dict[str, Any]) -> Trajectory:
    *others, last = [_plain_turn(turn) for turn in record["turns"]]
    has_answered = record["prediction"] is not None
    if has_answered and last.feedback is None:
        last = Turn(last.text, last.token_span, action="answer", content=record["prediction"])
    return Trajectory((*others, last), "answered" if has_answered else "unknown")


def _plain_turn(turn: dict[str, Any]) -> Turn:
    feedback = turn.get("feedback")
    queries = tuple((first or second).strip() for first, second in _QUERY.findall(turn["text"]))
    # A turn searched if its text has a query or something came back.
    action: Action | None = "search" if queries or feedback is not None else None
    return Turn(
        turn["text"],
        (0, 0),
        action=action,
        content="\n".join(queries) or None,
        queries=queries,
        feedback=feedback,
        evidence=None if feedback is None else evidence_in_feedback(feedback),
    )
