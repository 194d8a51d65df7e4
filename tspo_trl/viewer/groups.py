"""Trajectory files as groups of credited rollouts: what the report and the console view show.

Rewards and advantages are those that the file records. Where it records none (evaluations of a finished model, files
from elsewhere), they are what TSPO's defaults would have given, and the group says so.
"""

import math
import os
import re
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..analysis.reading import Record, read_trajectories
from ..analysis.rollouts import Rollout, summarize
from ..answers import Match
from ..credit import group_advantages, names_of_kinds, turn_rewards
from ..credit.advantages import SIGNAL


@dataclass(frozen=True)
class ViewOptions:
    """
    What counts as correct and as evidence where a file does not say.

    Args:
        success_threshold (`float`, *optional*, defaults to `1.0`):
            Least outcome of a correct rollout.
        match (`str`, *optional*, defaults to `"token"`):
            How a gold answer is looked for in the evidence: `"token"` or `"substring"`, see
            [`~tspo_trl.answers.contains_answer`].
        match_boolean_answers (`bool`, *optional*, defaults to `False`):
            Whether gold answers that are only *yes*, *no* or *noanswer* may match.

    Raises:
        ValueError: `success_threshold` is NaN.
    """

    success_threshold: float = 1.0
    match: Match = "token"
    match_boolean_answers: bool = False

    def __post_init__(self) -> None:
        if math.isnan(self.success_threshold):
            raise ValueError("success_threshold must be a number, got nan.")


@dataclass(frozen=True)
class CreditedRollout:
    """
    One rollout with the credit of its turns.

    Args:
        record ([`~tspo_trl.analysis.reading.Record`]):
            The line of the file.
        summary ([`~tspo_trl.analysis.rollouts.Rollout`]):
            The rollout in numbers.
        kind (`str`, *optional*):
            Which of the four kinds of trajectory it is, see [`~tspo_trl.credit.trajectory_kinds`]; `None` where
            it is unscorable.
        rewards (`tuple[float | None, ...]`):
            Reward of each turn, `None` where the rollout is unscorable.
        advantages (`tuple[float | None, ...]`):
            Advantage of each turn, `None` where there is no group to compare it with.
    """

    record: Record
    summary: Rollout
    kind: str | None
    rewards: tuple[float | None, ...]
    advantages: tuple[float | None, ...]

    @property
    def first_hit(self) -> int:
        """Turn of the first occurrence, -1 for never: as recorded, else as found."""
        return self.summary.first_hit if self.record.first_occurrence is None else self.record.first_occurrence


@dataclass(frozen=True)
class Group:
    """
    The rollouts of one question.

    Args:
        series (`str`):
            What the file is of: `"training"`, or the name of an evaluation or a file; with several folders, theirs
            before it.
        rollouts (`tuple[CreditedRollout, ...]`):
            At least one.
        has_recorded_credit (`bool`):
            Whether rewards and advantages are the file's own.
    """

    series: str
    rollouts: tuple[CreditedRollout, ...]
    has_recorded_credit: bool

    @property
    def question(self) -> str:
        """The question, empty where the file has none."""
        return self.rollouts[0].record.question or ""

    @property
    def golden_answers(self) -> list[str]:
        """Accepted answers."""
        return self.rollouts[0].record.golden_answers

    @property
    def step(self) -> int | None:
        """Training step."""
        return self.rollouts[0].record.step

    @property
    def has_signal(self) -> bool:
        """Whether any turn has an advantage that moves the policy."""
        return any(abs(advantage or 0.0) > SIGNAL for one in self.rollouts for advantage in one.advantages)

    @property
    def is_all_wrong(self) -> bool:
        """Whether there are scorable rollouts in it, and none is correct."""
        kinds = {one.kind for one in self.rollouts} - {None}
        return bool(kinds) and kinds <= {"complete_failure", "near_miss"}


def load_groups(path: Path, series: str, options: ViewOptions) -> list[Group]:
    """
    Read a trajectory file as groups.

    Args:
        path (`Path`):
            The file.
        series (`str`):
            What it is of, see [`series_names`].
        options ([`ViewOptions`]):
            What counts as correct and as evidence.

    Returns:
        `list[Group]`: in the file's order; a rollout of which nothing tells the group is one of its own.

    Raises:
        ValueError: The file is empty, or a line is no trajectory.
    """
    groups = defaultdict[Hashable, list[Record]](list)
    for number, record in enumerate(read_trajectories(path)):
        key = record.group_key
        groups[number if key is None else (key,)].append(record)
    return [_credited(records, number, series, options) for number, records in enumerate(groups.values())]


def series_names(files: Sequence[Path]) -> list[str]:
    """
    Name what each file is of, as a run names its files.

    Args:
        files (sequence of `Path`):
            Trajectory files.

    Returns:
        `list[str]`: `"training"` for `step_000010.jsonl`, `"eval"` for `eval_step_000010.jsonl`, else the file's name;
        before it, where the files are of several runs, the part of their paths by which these differ.
    """
    stems = [re.sub(r"_?step_\d+$", "", path.stem) or "training" for path in files]
    folders = [path.resolve().parent for path in files]
    if len(set(folders)) == 1:
        return stems
    common = os.path.commonpath(folders)
    runs = [Path(os.path.relpath(folder, common)) for folder in folders]
    runs = [run.parent if run.name == "trajectories" else run for run in runs]
    return [f"{run.as_posix()}: {stem}" for run, stem in zip(runs, stems, strict=True)]


def _credited(records: Sequence[Record], number: int, series: str, options: ViewOptions) -> Group:
    summaries = [
        summarize(
            record,
            number,
            success_threshold=options.success_threshold,
            match=options.match,
            match_boolean_answers=options.match_boolean_answers,
        )
        for record in records
    ]
    outcomes = torch.tensor([one.outcome for one in summaries], dtype=torch.float64)
    hits = [
        one.first_hit if record.first_occurrence is None else record.first_occurrence
        for record, one in zip(records, summaries, strict=True)
    ]
    kinds = names_of_kinds(outcomes, torch.tensor(hits), options.success_threshold)
    turns = [record.trajectory.turns for record in records]
    has_recorded_credit = any(turn.advantage is not None for one in turns for turn in one)
    if has_recorded_credit:
        credit = [([turn.reward for turn in one], [turn.advantage for turn in one]) for one in turns]
    else:
        credit = _credit(outcomes, hits, [len(one) for one in turns], options.success_threshold)
    rollouts = [
        CreditedRollout(record, summary, kind, tuple(rewards), tuple(advantages))
        for record, summary, kind, (rewards, advantages) in zip(records, summaries, kinds, credit, strict=True)
    ]
    return Group(series, tuple(rollouts), has_recorded_credit)


def _credit(
    outcomes: torch.Tensor, hits: Sequence[int], num_turns: Sequence[int], success_threshold: float
) -> list[tuple[list[float | None], list[float | None]]]:
    """Rewards and advantages of every rollout's turns with TSPO's defaults."""
    advantages = group_advantages(
        outcomes,
        torch.tensor(num_turns),
        torch.tensor(hits),
        len(hits),
        latent_in_mixed_groups=False,
        success_threshold=success_threshold,
    ).tolist()
    return [
        (
            _rewards(outcome, turns, hit, success_threshold),
            advantage[:turns] if len(hits) > 1 else [None] * turns,
        )
        for outcome, turns, hit, advantage in zip(outcomes.tolist(), num_turns, hits, advantages, strict=True)
    ]


def _rewards(outcome: float, num_turns: int, hit: int, success_threshold: float) -> list[float | None]:
    if math.isnan(outcome):
        return [None] * num_turns
    return list(turn_rewards(outcome, num_turns, None if hit < 0 else hit, success_threshold=success_threshold))
