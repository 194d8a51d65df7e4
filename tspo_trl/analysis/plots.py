"""Plots of an analysis as PNG files."""

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from .statistics import KIND_LABELS, KINDS

NAMES = ("kinds.png", "first_occurrence.png", "kinds_by_step.png")
_COLORS = ("tab:red", "tab:orange", "tab:green", "tab:blue")


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise `FileExistsError` if `folder` is a file, or if it has plots and `overwrite` is `False`."""
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file. Choose another folder for the plots.")
    existing = [name for name in NAMES if (folder / name).exists()]
    if existing and not overwrite:
        raise FileExistsError(f"{folder / existing[0]} exists already. Choose another folder, or pass --overwrite.")


def save_plots(analysis: dict[str, Any], folder: Path) -> list[Path]:
    """
    Draw the kinds of trajectory, the first occurrences and, if steps are recorded, the kinds by training step.

    Existing plots are replaced, or removed if this analysis does not draw them.

    Args:
        analysis (`dict`):
            Result of [`~tspo_trl.analysis.analyze`].
        folder (`Path`):
            Folder of the plots, created if it is missing.

    Returns:
        `list[Path]`: the files written.
    """
    figures = {"kinds.png": _kinds_figure(analysis), "first_occurrence.png": _first_occurrence_figure(analysis)}
    if analysis["steps"]:
        figures["kinds_by_step.png"] = _steps_figure(analysis["steps"])
    folder.mkdir(parents=True, exist_ok=True)
    for name in set(NAMES) - set(figures):
        (folder / name).unlink(missing_ok=True)
    return [_save(figure, folder / name) for name, figure in figures.items()]


def _save(figure: Figure, path: Path) -> Path:
    unfinished = path.with_name(path.name + ".part")
    figure.savefig(unfinished, dpi=150, format="png")
    return unfinished.replace(path)


def _kinds_figure(analysis: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    bars = axes.bar([label.replace(" ", "\n", 1) for label in KIND_LABELS.values()], _shares(analysis), color=_COLORS)
    axes.bar_label(bars, fmt="{:.1%}")
    axes.set(ylabel="share of scorable rollouts", ylim=(0, 1), title=f"{analysis['n']:,} rollouts")
    return figure


def _first_occurrence_figure(analysis: dict[str, Any]) -> Figure:
    counts = analysis["first_occurrence_turn"]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    bars = axes.bar(list(counts), list(counts.values()), color=["tab:blue"] * (len(counts) - 1) + ["tab:gray"])
    axes.bar_label(bars)
    axes.set(xlabel="turn whose evidence first contains a gold answer", ylabel="rollouts")
    return figure


def _steps_figure(steps: list[dict[str, Any]]) -> Figure:
    """Draw one panel for training and one for each evaluation."""
    series = defaultdict[str, list[dict[str, Any]]](list)
    for row in steps:
        series[row["series"]].append(row)
    figure = Figure(figsize=(8, 1 + 3 * len(series)), layout="constrained")
    panels = figure.subplots(len(series), squeeze=False)[:, 0]
    for axes, (name, rows) in zip(panels, series.items(), strict=True):
        steps, shares = [row["step"] for row in rows], zip(*map(_shares, rows), strict=True)
        for label, color, values in zip(KIND_LABELS.values(), _COLORS, shares, strict=True):
            axes.plot(steps, values, ".-", label=label, color=color)
        axes.set(xlabel="training step", ylabel="share of rollouts", ylim=(0, 1), title=name)
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _shares(row: dict[str, Any]) -> list[float]:
    """Return the shares of the kinds. NaN, which is not drawn, if no rollout can be scored."""
    return [math.nan if row[kind] is None else row[kind] for kind in KINDS]
