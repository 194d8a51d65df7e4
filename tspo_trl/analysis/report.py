"""Tables of an analysis."""

import os
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from .statistics import KIND_LABELS, KINDS


def print_report(console: Console, analysis: dict[str, Any]) -> None:
    """Print the result of [`~tspo_trl.analysis.analyze`] as tables."""
    table = Table(show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right", overflow="fold")
    for section in _sections(analysis):
        for label, value in section:
            table.add_row(label, value)
        table.add_section()
    console.print(table)
    if not analysis["groups"]:
        console.print(
            "The learning signal of GRPO and TSPO is not known: there is no group of two or more rollouts. None is "
            "recorded, and no question occurs several times in a file."
        )
    if "files" in analysis:
        console.print(_file_table(analysis["files"]))


def _sections(analysis: dict[str, Any]) -> Iterator[list[tuple[str, str]]]:
    yield [("rollouts", f"{analysis['n']:,}"), ("unscorable", f"{analysis['unscorable']:,}")]
    yield [(label, percent(analysis[kind])) for kind, label in KIND_LABELS.items()]
    yield [
        ("near misses of failures", percent(analysis["near_misses_of_failures"])),
        ("turns with latent reward", percent(analysis["turns_with_latent_reward"])),
        *((f"first occurrence: {_turn(turn)}", f"{n:,}") for turn, n in analysis["first_occurrence_turn"].items()),
        *(
            (f"turns after it: {KIND_LABELS[kind]}", number(mean))
            for kind, mean in analysis["turns_after_first_occurrence"].items()
        ),
        ("gold answer in question", percent(analysis["gold_in_question"])),
    ]
    yield list(_signal_rows(analysis))
    yield list(_behaviour_rows(analysis))
    yield [
        (f"recorded {what} that differ", f"{analysis[f'{key}_that_differ']:,} of {analysis[key]:,}")
        for key, what in (("recorded_outcomes", "outcomes"), ("recorded_first_occurrences", "first occurrences"))
        if analysis[key]
    ]


def _signal_rows(analysis: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "groups", f"{analysis['groups']:,}"
    if not analysis["groups"]:
        return
    for method in ("grpo", "tspo"):
        yield f"groups with signal: {method.upper()}", percent(analysis[f"groups_with_signal_{method}"])
        yield f"turns with signal: {method.upper()}", percent(analysis[f"turns_with_signal_{method}"])
    yield "all-wrong groups", percent(analysis["all_wrong_groups"])
    yield "of these with signal: TSPO", percent(analysis["all_wrong_groups_with_signal_tspo"])


def _behaviour_rows(analysis: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "turns per rollout", number(analysis["turns_per_rollout"])
    yield "searches per rollout", number(analysis["searches_per_rollout"])
    yield "duplicate queries", percent(analysis["duplicate_queries"])
    yield "rollouts with duplicate queries", percent(analysis["rollouts_with_duplicate_queries"])
    yield "rollouts with forged tags", percent(analysis["rollouts_with_forged_tags"])
    yield "turns without a valid action", percent(analysis["invalid_turns"])
    for reason, value in analysis["end_reasons"].items():
        yield f"ended: {reason}", percent(value)


def _file_table(files: dict[str, dict[str, Any]]) -> Table:
    folder = os.path.commonpath([os.path.abspath(path) for path in files])
    table = Table(title=folder)
    table.add_column("file", overflow="fold")
    for name in ("rollouts", "failure", "near miss", "success", "no retrieval"):
        table.add_column(name, justify="right")
    for path, one in files.items():
        table.add_row(os.path.relpath(path, folder), f"{one['n']:,}", *(percent(one[kind]) for kind in KINDS))
    return table


def _turn(turn: str) -> str:
    return turn if turn == "never" else f"turn {turn}"


def percent(value: float | None) -> str:
    """Format a share as a percentage, or as a dash if it is `None`."""
    return "-" if value is None else f"{100 * value:.1f}%"


def number(value: float | None) -> str:
    """Format a number with two decimals, or as a dash if it is `None`."""
    return "-" if value is None else f"{value:.2f}"
