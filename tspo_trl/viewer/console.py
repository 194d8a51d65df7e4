"""Prints a report of [`~tspo_trl.viewer.make_report`]: the overview, the groups, and a group turn by turn.

Texts of trajectories are printed literally. Rich reads no markup in them, and characters that control a terminal or
the direction of writing are shown as escapes.
"""

import re
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..analysis.report import number, percent
from ..analysis.statistics import KIND_LABELS, KINDS
from .report import LABELS

MAX_STEPS = 20  # in the overview; of more steps, 20 are shown, spread evenly

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_KIND_STYLES = dict(zip(KINDS, ("red", "yellow", "green", "cyan"), strict=True))
_GOLD = "bold black on yellow"


def print_overview(console: Console, report: dict[str, Any]) -> None:
    """Print outcomes, kinds of trajectory and signal by step."""
    steps = report["steps"]
    console.print(Text(f"{report['n']:,} trajectories in {sum(entry['groups'] for entry in steps):,} groups"))
    shown = _spread(steps)
    table = Table(box=box.SIMPLE, caption=f"{len(shown)} of {len(steps):,} steps" if len(shown) < len(steps) else None)
    table.add_column("step", no_wrap=True)
    for name in ("rollouts", "outcome", *KIND_LABELS.values(), "with signal", "to GRPO"):
        table.add_column(name, justify="right")
    for entry in shown:
        shares = [percent(entry[name]) for name in (*KINDS, "with_signal", "with_signal_grpo")]
        table.add_row(_step_name(entry), f"{entry['n']:,}", number(entry["outcome"]), *shares)
    console.print(table)


def print_groups(console: Console, report: dict[str, Any]) -> None:
    """Print a table of the groups with their numbers for [`print_group`]."""
    if report["kept"] < report["n"]:
        console.print(Text(f"Groups of {report['kept']:,} of the trajectories, spread evenly:"))
    table = Table(box=box.SIMPLE)
    table.add_column("group", justify="right")
    table.add_column("step", no_wrap=True)
    table.add_column("question", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("rollouts")
    table.add_column("signal")
    for place, group in enumerate(report["groups"]):
        signal = "yes" if group["has_signal"] else "no"
        table.add_row(str(place), _step_name(group), _line(group["question"]), _kind_counts(group), signal)
    console.print(table)


def print_group(console: Console, report: dict[str, Any], place: int) -> None:
    """Print the rollouts of the group number `place` turn by turn. Raise `ValueError` if there is no such group."""
    groups = report["groups"]
    if not 0 <= place < len(groups):
        raise ValueError(
            f"group must be between 0 and {len(groups) - 1}, got {place}. Leave it out to list all groups."
        )
    group = groups[place]
    console.print(_line(group["question"] or "(no question)", "bold"))
    console.print(Text("Gold: ").append(_line(" / ".join(group["golden_answers"]), "bold")))
    console.print(_step_name(group))
    if not group["has_recorded_credit"]:
        console.print(Text(LABELS["computed_credit"], style="dim"))
    for i, rollout in enumerate(group["rollouts"], start=1):
        _print_rollout(console, rollout, i, report["evidences"])


def _print_rollout(console: Console, rollout: dict[str, Any], i: int, evidences: Sequence[Any]) -> None:
    console.print(Text(f"\nRollout {i}: ", style="bold").append(_kind_name(rollout["kind"])))
    for k, turn in enumerate(rollout["turns"]):
        _print_turn(console, turn, k, k == rollout["first_occurrence"], evidences)
    reason = rollout["end_reason"]
    ending = _line(f"{LABELS['end_reasons'].get(reason, 'It ended')} ({reason}). Answer:").append(" ")
    ending.append(_line("none" if rollout["prediction"] is None else rollout["prediction"], "bold"))
    console.print(_indented(ending.append(f". Outcome: {number(rollout['outcome'])}."), 2))


def _print_turn(console: Console, turn: dict[str, Any], k: int, is_hit: bool, evidences: Sequence[Any]) -> None:
    heading = Text(f"Turn {k} ", style="bold")
    heading.append(_line(turn["action"] or "no action", "not bold"))
    heading.append(f"  reward {number(turn['reward'])}  advantage ", style="not bold")
    heading.append(_signed(turn["advantage"]), style=_advantage_style(turn["advantage"]))
    console.print(_indented(heading.append("  first occurrence" if is_hit else "", style="bold yellow"), 2))
    console.print(_indented(_block(turn["text"].strip() or "(nothing)"), 4))
    for query in turn["queries"]:
        console.print(_indented(Text("Query: ").append(_line(query, "bold cyan")), 4))
    if turn["evidence"] is not None:
        console.print(_indented(_evidence(evidences[turn["evidence"]]), 6))
    elif turn["feedback"] is not None:
        console.print(_indented(_block(turn["feedback"].strip(), "dim"), 6))


def _evidence(passages: Sequence[dict[str, Any]]) -> Text:
    """Join the pieces of an evidence and mark the gold answers, which are every second piece."""
    text = Text()
    for passage in passages:
        for pieces, style in ((passage["heading"], "italic"), (passage["text"], "")):
            for i, piece in enumerate(pieces):
                text.append(_block(piece, _GOLD if i % 2 else style))
    text.rstrip()
    return text


def _line(text: str, style: str = "") -> Text:
    """Return a text as one line."""
    return _block(" ".join(text.split()), style)


def _block(text: str, style: str = "") -> Text:
    """Return a text with escapes for the characters that control a terminal."""
    return Text(_CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text), style=style)


def _indented(text: Text, width: int) -> Padding:
    return Padding(text, (0, 0, 0, width), expand=False)


def _spread(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Choose at most `MAX_STEPS` steps, with the first and the last."""
    if len(steps) <= MAX_STEPS:
        return list(steps)
    return [steps[i * (len(steps) - 1) // (MAX_STEPS - 1)] for i in range(MAX_STEPS)]


def _step_name(entry: dict[str, Any]) -> Text:
    return _line(entry["series"] if entry["step"] is None else f"{entry['series']} {entry['step']}")


def _kind_counts(group: dict[str, Any]) -> Text:
    kinds = [rollout["kind"] for rollout in group["rollouts"]]
    counts = [Text(f"{kinds.count(kind)} ").append(_kind_name(kind)) for kind in (*KINDS, None) if kind in kinds]
    return Text(", ").join(counts)


def _kind_name(kind: str | None) -> Text:
    if kind is None:
        return Text("unscorable", style="dim")
    return Text(KIND_LABELS[kind], style=_KIND_STYLES[kind])


def _advantage_style(advantage: float | None) -> str:
    if not advantage:
        return "not bold"
    return "bold green" if advantage > 0 else "bold red"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"
