"""Makes the report: one JSON value that the web page and the console show.

The overview counts every trajectory. The groups are limited in number, so that a browser can open the report of a run
of any length.
"""

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..analysis.options import ViewOptions
from ..analysis.reading import trajectory_files
from ..analysis.signal import learning_signal, mean, share
from ..analysis.statistics import KIND_LABELS, KINDS
from .evidence import passages
from .groups import CreditedRollout, Group, load_groups, series_names

LIMIT = 10_000
LABELS: dict[str, Any] = {
    "kinds": KIND_LABELS,
    "end_reasons": {
        "answered": "It gave an answer",
        "max_turns": "It searched in its last turn, in which nothing is searched",
        "max_length": "It ran out of tokens",
        "no_action": "Its last turn had neither a search nor an answer",
        "search_failed": "A search failed: the rollout counts in no baseline and in no loss",
        "generated": "It was generated without search",
        "unknown": "The file does not say why it ended",
    },
    "computed_credit": "The file records no advantages. Rewards and advantages are those of TSPO's defaults.",
}


def make_report(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    options: ViewOptions | None = None,
    *,
    limit: int = LIMIT,
) -> dict[str, Any]:
    """
    Read trajectory files into a report.

    Args:
        paths (`str`, `os.PathLike` or sequence of them):
            Trajectory files, or folders of them, see [`~tspo_trl.analysis.reading.trajectory_files`].
        options ([`~tspo_trl.viewer.ViewOptions`], *optional*):
            Definitions of correct rollouts and of evidence, for files that record neither.
        limit (`int`, *optional*, defaults to 10,000):
            Approximate number of trajectories to keep. If there are more, every second, third, ... step is kept,
            counted from the last step of each series. If the last steps alone have more, every second, third, ... of
            their groups is kept.

    Returns:
        `dict`: JSON values. `n` counts the trajectories, `kept` those in `groups`. `steps` has an entry for each
        series and step: `n` and `groups`, the mean `outcome`, the shares of the four kinds among scorable rollouts,
        `all_wrong` (share of the groups), `with_signal` and `with_signal_grpo` (shares of the groups of more than
        one), and `turns` and `searches` per rollout. A mean or share of nothing is `None`. `groups` has the groups
        with their rollouts and turns. The `evidence` of a turn is an index into `evidences`. `labels` has texts for
        kinds, reasons for ending and computed credit.

    Raises:
        FileNotFoundError: A path does not exist, or a folder has no trajectory file.
        ValueError: A file is empty, a line is not a trajectory, or `limit` is below 1.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}.")
    options = options or ViewOptions()
    files = trajectory_files(paths)
    names = series_names(files)
    kept = _kept_files(files, names, limit)
    every = math.ceil(sum(kept.values()) / limit)  # above 1 if the last files alone exceed the limit
    evidences = Evidences(options)
    steps: list[dict[str, Any]] = []
    groups: list[dict[str, Any]] = []
    for path, series in zip(files, names, strict=True):
        of_file = load_groups(path, series, options)
        steps += _step_entries(of_file, options)
        if path in kept:
            groups += [_group_entry(group, evidences) for group in of_file[::every]]
    return {
        "n": sum(entry["n"] for entry in steps),
        "kept": sum(len(entry["rollouts"]) for entry in groups),
        "steps": sorted(steps, key=_order),
        "groups": sorted(groups, key=_order),
        "evidences": evidences.entries,
        "labels": LABELS,
    }


class Evidences:
    """
    Distinct evidences of a report. The rollouts of a group often read the same.

    Args:
        options ([`~tspo_trl.viewer.ViewOptions`]):
            Says how gold answers match.

    Attributes:
        entries (`list[list[dict]]`):
            Passages of each evidence, see [`~tspo_trl.viewer.evidence.passages`].
    """

    def __init__(self, options: ViewOptions):
        self._options = options
        self._places: dict[tuple[str, tuple[str, ...]], int] = {}
        self.entries: list[list[dict[str, Any]]] = []

    def place(self, evidence: str, golden_answers: Sequence[str]) -> int:
        """Return the index in `entries` of an evidence in which these answers are marked."""
        key = (evidence, tuple(golden_answers))
        if key not in self._places:
            self._places[key] = len(self.entries)
            self.entries.append(passages(evidence, golden_answers, self._options))
        return self._places[key]


def _order(entry: dict[str, Any]) -> tuple[bool, str, int]:
    """Sort training before evaluations, then by step."""
    return not entry["series"].endswith("training"), entry["series"], -1 if entry["step"] is None else entry["step"]


def _kept_files(files: Sequence[Path], names: Sequence[str], limit: int) -> dict[Path, int]:
    """Return the files of which groups are kept, with their numbers of lines. The last file of a series is kept."""
    of_series = defaultdict[str, list[Path]](list)
    for path, series in zip(files, names, strict=True):
        of_series[series].append(path)
    lines = {path: _count_lines(path) for path in files}
    longest = max(len(paths) for paths in of_series.values())
    for stride in range(1, longest + 1):
        kept = {path: lines[path] for paths in of_series.values() for path in paths[::-1][::stride]}
        if sum(kept.values()) <= limit:
            break
    return kept


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _step_entries(groups: Sequence[Group], options: ViewOptions) -> Iterator[dict[str, Any]]:
    """Yield one entry per step. Groups without a step are one entry."""
    steps = defaultdict[int | None, list[Group]](list)
    for group in groups:
        steps[group.step].append(group)
    for step, of_step in steps.items():
        rollouts = [rollout for group in of_step for rollout in group.rollouts]
        kinds = [rollout.kind for rollout in rollouts if rollout.kind is not None]
        outcomes = [rollout.summary.outcome for rollout in rollouts]
        compared = [group for group in of_step if len(group.rollouts) > 1]
        summaries = [rollout.summary for rollout in rollouts]
        yield {
            "series": of_step[0].series,
            "step": step,
            "n": len(rollouts),
            "groups": len(of_step),
            "outcome": mean([outcome for outcome in outcomes if not math.isnan(outcome)]),
            **{kind: share(kinds.count(kind), len(kinds)) for kind in KINDS},
            "all_wrong": share(sum(group.is_all_wrong for group in of_step), len(of_step)),
            "with_signal": share(sum(group.has_signal for group in compared), len(compared)),
            "with_signal_grpo": learning_signal(summaries, options.success_threshold)["groups_with_signal_grpo"],
            "turns": mean([one.num_turns for one in summaries]),
            "searches": mean([one.num_searches for one in summaries]),
        }


def _group_entry(group: Group, evidences: Evidences) -> dict[str, Any]:
    return {
        "series": group.series,
        "step": group.step,
        "question": group.question,
        "golden_answers": group.golden_answers,
        "has_recorded_credit": group.has_recorded_credit,
        "has_signal": group.has_signal,
        "is_all_wrong": group.is_all_wrong,
        "rollouts": [_rollout_entry(rollout, group.golden_answers, evidences) for rollout in group.rollouts],
    }


def _rollout_entry(rollout: CreditedRollout, golden_answers: Sequence[str], evidences: Evidences) -> dict[str, Any]:
    outcome = rollout.summary.outcome
    credit = zip(rollout.record.trajectory.turns, rollout.rewards, rollout.advantages, strict=True)
    return {
        "kind": rollout.kind,
        "outcome": None if math.isnan(outcome) else outcome,
        "first_occurrence": None if rollout.first_hit < 0 else rollout.first_hit,
        "prediction": rollout.record.prediction,
        "end_reason": rollout.record.trajectory.end_reason,
        "turns": [
            {
                "text": turn.text,
                "action": turn.action,
                "queries": turn.queries,
                "evidence": None if turn.evidence is None else evidences.place(turn.evidence, golden_answers),
                "feedback": turn.feedback if turn.evidence is None else None,
                "reward": reward,
                "advantage": advantage,
            }
            for turn, reward, advantage in credit
        ],
    }
