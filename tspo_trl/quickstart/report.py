"""Results of a quickstart run: summary, learning curve, and one trajectory before and after training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from ..trajectory import read_json_lines

CURVES = {
    "rewards/exact_match_reward/mean": "exact match",
    "tspo/near_miss": "near misses",
    "tspo/all_wrong_groups": "all-wrong groups",
    "tspo/groups_without_signal": "groups without signal",
}


def plot_learning_curve(log_history: Sequence[dict[str, Any]], report: dict[str, Any], path: Path) -> None:
    """Draw the trainer's log and the held-out exact match of the report as a PNG file."""
    from matplotlib.figure import Figure

    rows = [row for row in log_history if "tspo/near_miss" in row]
    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    for key, label in CURVES.items():
        axes.plot(steps, [row[key] for row in rows], label=f"{label} (training questions)", alpha=0.8)
    held_out = [report["exact_match_before"], report["exact_match_after"]]
    axes.plot([0, report["steps"]], held_out, "k^", label="exact match (held-out questions)", clip_on=False)
    axes.set(xlabel="training step", ylabel="share", ylim=(0, 1), title=f"SearchWorld, {report['method'].upper()}")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    figure.savefig(path, dpi=150)


def solved_pair(before: Path, after: Path) -> tuple[dict, dict] | None:
    """
    Find a question that the policy answered wrongly before training and correctly after. Near misses come first.

    Args:
        before (`Path`):
            Trajectory file of the evaluation before training.
        after (`Path`):
            Trajectory file of the evaluation after training.

    Returns:
        `tuple[dict, dict]` or `None`: two trajectory records of one question.
    """
    solved = {r["question"]: r for r in read_json_lines(after) if r["outcome"] and r["first_occurrence"] is not None}
    failed = [r for r in read_json_lines(before) if not r["outcome"] and r["question"] in solved]
    failed.sort(key=lambda record: record["first_occurrence"] is None)  # stable: near misses first
    return (failed[0], solved[failed[0]["question"]]) if failed else None


def print_trajectory(console: Console, title: str, record: dict[str, Any]) -> None:
    """Print a line of a trajectory file turn by turn with its credit."""
    console.print(Text(title, style="bold"))
    console.print(Text(f"  {record['question']}  (gold: {', '.join(record['golden_answers'])})"))
    for number, turn in enumerate(record["turns"]):
        is_hit = number == record["first_occurrence"]
        credit = f"reward {turn['reward']:.2f}" + (", first occurrence" if is_hit else "")
        console.print(Text(f"  turn {number}: {turn['text'].strip()}").append(f"   [{credit}]", style="green"))
        if turn["evidence"] is not None:
            console.print(Text("    " + turn["evidence"].replace("\n", "\n    "), style="dim"))
    ending = "right" if record["outcome"] else "wrong"
    console.print(
        Text(f"  {record['end_reason']}, {ending}\n", style="bold green" if record["outcome"] else "bold red")
    )


def print_summary(console: Console, report: dict[str, Any], output: Path) -> None:
    """Print the metrics before and after training."""
    console.print(
        f"{report['method'].upper()}, {report['steps']} steps, {report['num_test_questions']} held-out questions, "
        f"{report['seconds']:.0f} s"
    )
    for name in ("exact_match", "greedy_exact_match", "retrieval_rate"):
        console.print(f"  {name:<20} {report[f'{name}_before']:.3f} -> {report[f'{name}_after']:.3f}")
    console.print(f"  {output}/report.json, {output}/learning_curve.png, {output}/training/trajectories")
    console.print(f"See every trajectory: tspo-trl view {output}/training")
