"""Reads trajectory files as groups of credited rollouts.

Rewards and advantages come from the file. If it records none (evaluations of a finished model, files from elsewhere),
they are computed with TSPO's defaults.
"""

import math
import os
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..analysis.options import ViewOptions
from ..analysis.reading import Record, read_trajectories, series_name
from ..analysis.rollouts import Rollout, summarize
from ..credit import group_advantages, names_of_kinds, turn_rewards
from ..credit.advantages import SIGNAL


@dataclass(frozen=True)
class CreditedRollout:
    """
    One rollout with the credit of its turns.

    Args:
        record ([`~tspo_trl.analysis.reading.Record`]):
            Line of the file.
        summary ([`~tspo_trl.analysis.rollouts.Rollout`]):
            The rollout in numbers.
        first_hit (`int`):
            Turn of the first occurrence as the file records it, or else as found. -1 for never.
        kind (`str`, *optional*):
            Kind of trajectory, see [`~tspo_trl.credit.trajectory_kinds`], or `None` if the rollout is unscorable.
        rewards (`tuple[float | None, ...]`):
            Reward of each turn, or `None` if the rollout is unscorable.
        advantages (`tuple[float | None, ...]`):
            Advantage of each turn, or `None` if there is no group to compare with.
    """

    record: Record
    summary: Rollout
    first_hit: int
    kind: str | None
    rewards: tuple[float | None, ...]
    advantages: tuple[float | None, ...]


@dataclass(frozen=True)
class Group:
    """
    Rollouts of one question.

    Args:
        series (`str`):
            Name of the file's series, see [`series_names`].
        rollouts (`tuple[CreditedRollout, ...]`):
            One or more rollouts.
        has_recorded_credit (`bool`):
            Whether rewards and advantages come from the file.
    """

    series: str
    rollouts: tuple[CreditedRollout, ...]
    has_recorded_credit: bool

    @property
    def question(self) -> str:
        """The question, empty if the file has none."""
        return self.rollouts[0].record.question or ""

    @property
    def golden_answers(self) -> list[str]:
        """Gold answers."""
        return self.rollouts[0].record.golden_answers

    @property
    def step(self) -> int | None:
        """Training step."""
        return self.rollouts[0].record.step

    @property
    def has_signal(self) -> bool:
        """Whether any turn has an advantage other than 0."""
        return any(abs(advantage or 0.0) > SIGNAL for one in self.rollouts for advantage in one.advantages)

    @property
    def is_all_wrong(self) -> bool:
        """Whether the group has scorable rollouts and all of them are wrong."""
        kinds = {one.kind for one in self.rollouts} - {None}
        return bool(kinds) and kinds <= {"complete_failure", "near_miss"}


def load_groups(path: Path, series: str, options: ViewOptions) -> list[Group]:
    """
    Read a trajectory file as groups.

    Args:
        path (`Path`):
            Trajectory file.
        series (`str`):
            Name of its series, see [`series_names`].
        options ([`~tspo_trl.viewer.ViewOptions`]):
            Definitions of correct rollouts and of evidence.

    Returns:
        `list[Group]`: in the file's order. A rollout without a known group is a group of one.

    Raises:
        ValueError: The file is empty, or a line is not a trajectory.
    """
    groups = defaultdict[Hashable, list[Record]](list)
    for number, record in enumerate(read_trajectories(path)):
        key = record.group_key
        groups[number if key is None else (key,)].append(record)
    return [_credited(records, number, series, options) for number, records in enumerate(groups.values())]


def series_names(files: Sequence[Path]) -> list[str]:
    """
    Name the series of each file: a run's training, one of its evaluations, or another file.

    Args:
        files (sequence of `Path`):
            Trajectory files.

    Returns:
        `list[str]`: `"training"` for `step_000010.jsonl`, `"eval"` for `eval_step_000010.jsonl`, or else the file's
        name. If the files are in several folders, each name starts with the part of the path that differs.
    """
    stems = [series_name(path) or "training" for path in files]
    folders = [path.resolve().parent for path in files]
    if len(set(folders)) == 1:
        return stems
    common = os.path.commonpath(folders)
    runs = [Path(os.path.relpath(folder, common)) for folder in folders]
    runs = [run.parent if run.name == "trajectories" else run for run in runs]
    return [f"{run.as_posix()}: {stem}" for run, stem in zip(runs, stems, strict=True)]


def _credited(records: Sequence[Record], number: int, series: str, options: ViewOptions) -> Group:
    summaries = [summarize(record, number, options) for record in records]
    outcomes = torch.tensor([one.outcome for one in summaries], dtype=torch.float64)
    hits = [
        one.first_hit if record.first_occurrence is None else record.first_occurrence
        for record, one in zip(records, summaries, strict=True)
    ]
    successes = torch.tensor([one.success for one in summaries], dtype=torch.float64)
    kinds = names_of_kinds(successes, torch.tensor(hits), options.success_threshold)
    turns = [record.trajectory.turns for record in records]
    has_recorded_credit = any(turn.advantage is not None for one in turns for turn in one)
    if has_recorded_credit:
        credit = [([turn.reward for turn in one], [turn.advantage for turn in one]) for one in turns]
    else:
        credit = _credit(outcomes, successes, hits, [len(one) for one in turns], options.success_threshold)
    rollouts = [
        CreditedRollout(record, summary, hit, kind, tuple(rewards), tuple(advantages))
        for record, summary, hit, kind, (rewards, advantages) in zip(
            records, summaries, hits, kinds, credit, strict=True
        )
    ]
    return Group(series, tuple(rollouts), has_recorded_credit)


def _credit(
    outcomes: torch.Tensor,
    successes: torch.Tensor,
    hits: Sequence[int],
    num_turns: Sequence[int],
    success_threshold: float,
) -> list[tuple[list[float | None], list[float | None]]]:
    """Compute the rewards and advantages of each rollout's turns with TSPO's defaults."""
    advantages = group_advantages(
        outcomes,
        torch.tensor(num_turns),
        torch.tensor(hits),
        len(hits),
        latent_in_mixed_groups=False,
        success_threshold=success_threshold,
        successes=successes,
    ).tolist()
    rows = zip(outcomes.tolist(), successes.tolist(), num_turns, hits, advantages, strict=True)
    return [
        (
            _rewards(outcome, success, turns, hit, success_threshold),
            advantage[:turns] if len(hits) > 1 else [None] * turns,
        )
        for outcome, success, turns, hit, advantage in rows
    ]


def _rewards(outcome: float, success: float, num_turns: int, hit: int, success_threshold: float) -> list[float | None]:
    if math.isnan(outcome):
        return [None] * num_turns
    first_hit = None if hit < 0 else hit
    return [*turn_rewards(outcome, num_turns, first_hit, success_threshold=success_threshold, success=success)]
