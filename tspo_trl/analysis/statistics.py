"""Statistics of trajectory files as one JSON object."""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..answers import Match
from ..credit import trajectory_kinds
from .options import ViewOptions
from .reading import read_trajectories, series_name, trajectory_files
from .rollouts import Rollout, summarize
from .signal import learning_signal, mean, share

KINDS = ("complete_failure", "near_miss", "complete_success", "success_without_retrieval")
KIND_LABELS = {kind: kind.replace("_", " ") for kind in KINDS}


def analyze(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    success_threshold: float = 1.0,
    match: Match = "token",
    match_boolean_answers: bool = False,
) -> dict[str, Any]:
    """
    Analyze trajectory files. `docs/analysis.md` defines each number.

    Args:
        paths (`str`, `os.PathLike` or sequence of them):
            Trajectory files, or folders of them: a run's `trajectories/`, or the folder of the run.
        success_threshold, match, match_boolean_answers (*optional*):
            See [`~tspo_trl.viewer.ViewOptions`].

    Returns:
        `dict`: JSON values over all files. With several files, `files` has the same values for each path.

    Raises:
        `FileNotFoundError`: If a path does not exist, or a folder has no trajectory file.
        `ValueError`: If a file is empty, a line is not a trajectory, or an argument is invalid.

    Example:

    ```python
    >>> from tspo_trl.analysis import analyze

    >>> analyze("out/trajectories/step_000010.jsonl")["near_miss"]
    0.288
    ```
    """
    options = ViewOptions(success_threshold, match, match_boolean_answers)
    files = trajectory_files(paths)
    groups: dict[Hashable, int] = {}
    rollouts = {path: _read(path, groups, options) for path in files}
    result = statistics(rollouts, success_threshold)
    if len(files) > 1:
        result["files"] = {str(path): statistics({path: rollouts[path]}, success_threshold) for path in files}
    return result


def _read(path: Path, groups: dict[Hashable, int], options: ViewOptions) -> list[Rollout]:
    """Read the rollouts of a file and add its groups to `groups`, which numbers the groups of all files."""
    rollouts = []
    for record in read_trajectories(path):
        key = record.group_key
        group = -1 if key is None else groups.setdefault((path, key), len(groups))
        rollouts.append(summarize(record, group, options))
    return rollouts


def statistics(files: Mapping[Path, Sequence[Rollout]], success_threshold: float) -> dict[str, Any]:
    """Return the statistics of the rollouts of all `files` as JSON values. A mean or share of nothing is `None`."""
    rollouts = [rollout for one in files.values() for rollout in one]
    kinds = _kinds(rollouts, success_threshold)
    return {
        "n": len(rollouts),
        "unscorable": sum(math.isnan(rollout.outcome) for rollout in rollouts),
        **_kind_shares(kinds),
        **_evidence_statistics(rollouts, kinds),
        **learning_signal(rollouts, success_threshold),
        **_behaviour_statistics(rollouts),
        **_comparison_with_records(rollouts),
        "steps": _step_statistics(files, success_threshold),
    }


def _kinds(rollouts: Sequence[Rollout], success_threshold: float) -> dict[str, Tensor]:
    """Return a boolean mask over the rollouts for each kind."""
    successes = torch.tensor([rollout.success for rollout in rollouts], dtype=torch.float64)
    first_hits = torch.tensor([rollout.first_hit for rollout in rollouts])
    return trajectory_kinds(successes, first_hits, success_threshold)


def _kind_shares(kinds: Mapping[str, Tensor]) -> dict[str, float | None]:
    counts = {kind: int(kinds[kind].sum()) for kind in KINDS}
    return {kind: share(count, sum(counts.values())) for kind, count in counts.items()}


def _evidence_statistics(rollouts: Sequence[Rollout], kinds: Mapping[str, Tensor]) -> dict[str, Any]:
    counts = {kind: int(kinds[kind].sum()) for kind in KINDS}
    turns_left = torch.tensor([rollout.num_turns - 1 - rollout.first_hit for rollout in rollouts], dtype=torch.float64)
    scorable_turns = sum(rollout.num_turns for rollout in rollouts if not math.isnan(rollout.outcome))
    return {
        "near_misses_of_failures": share(counts["near_miss"], counts["near_miss"] + counts["complete_failure"]),
        "first_occurrence_turn": _first_occurrence_counts(rollouts),
        "turns_after_first_occurrence": {
            kind: mean(turns_left[kinds[kind]].tolist()) for kind in ("near_miss", "complete_success")
        },
        "turns_with_latent_reward": share(counts["near_miss"], scorable_turns),
        "gold_in_question": mean([rollout.has_gold_in_question for rollout in rollouts]),
    }


def _first_occurrence_counts(rollouts: Sequence[Rollout]) -> dict[str, int]:
    counts = Counter(rollout.first_hit for rollout in rollouts)
    return {**{str(turn): counts[turn] for turn in range(max(counts) + 1)}, "never": counts[-1]}


def _behaviour_statistics(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    # Turns without a recorded action count neither as valid nor as invalid.
    known = [rollout for rollout in rollouts if rollout.has_known_actions]
    queries = sum(rollout.num_queries for rollout in rollouts)
    reasons = Counter(rollout.end_reason for rollout in rollouts)
    return {
        "turns_per_rollout": mean([rollout.num_turns for rollout in rollouts]),
        "searches_per_rollout": mean([rollout.num_searches for rollout in known]),
        "duplicate_queries": share(sum(rollout.num_duplicate_queries for rollout in rollouts), queries),
        "rollouts_with_duplicate_queries": mean([rollout.num_duplicate_queries > 0 for rollout in rollouts]),
        "rollouts_with_forged_tags": mean([rollout.has_forged_tags for rollout in rollouts]),
        "invalid_turns": share(sum(one.num_invalid_turns for one in known), sum(one.num_turns for one in known)),
        "end_reasons": {reason: count / len(rollouts) for reason, count in reasons.most_common()},
    }


def _comparison_with_records(rollouts: Sequence[Rollout]) -> dict[str, int]:
    outcomes = [one.outcome_differs for one in rollouts if one.outcome_differs is not None]
    first_hits = [one.first_hit_differs for one in rollouts if one.first_hit_differs is not None]
    return {
        "recorded_outcomes": len(outcomes),
        "recorded_outcomes_that_differ": sum(outcomes),
        "recorded_first_occurrences": len(first_hits),
        "recorded_first_occurrences_that_differ": sum(first_hits),
    }


def _step_statistics(files: Mapping[Path, Sequence[Rollout]], success_threshold: float) -> list[dict[str, Any]]:
    """Compute the kinds at each recorded step of each series: a run's training, or one of its evaluations."""
    steps = defaultdict[tuple[str, int], list[Rollout]](list)
    for path, rollouts in files.items():
        series = str(path.parent / series_name(path))
        for rollout in rollouts:
            if rollout.step is not None:
                steps[series, rollout.step].append(rollout)
    return [
        {"series": series, "step": step, "n": len(rollouts), **_kind_shares(_kinds(rollouts, success_threshold))}
        for (series, step), rollouts in sorted(steps.items())
    ]
