"""One figure per regime: learning curves, near misses and complete failures, and searches per rollout."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .estimates import estimate, trailing_means
from .summary import BASELINE, METHOD, Cell, Regime

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMOOTHED = 3  # steps averaged for each point of a curve
PALETTE = 128  # colors in a file: it takes a third of the space of a full-color file
COLORS = {BASELINE: "tab:gray", METHOD: "tab:blue", "additive": "tab:orange"}
_STYLES = {"near_miss": "-", "complete_failure": ":"}


def save_figures(regimes: Sequence[Regime], folder: Path) -> list[Path]:
    """
    Draw each regime.

    Args:
        regimes (`Sequence[Regime]`):
            The regimes to draw.
        folder (`Path`):
            Folder for the PNG files. It is created if it is missing, and figures with the same name are replaced.

    Returns:
        `list[Path]`: the files `reproduction-REGIME.png`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [_save(regime, folder / f"reproduction-{regime.name}.png") for regime in regimes]


def _save(regime: Regime, path: Path) -> Path:
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    learning, kinds, searches = figure.subplots(1, 3)
    _draw_learning(learning, regime)
    _draw_kinds(kinds, regime)
    _draw_searches(searches, regime)
    for axes in (learning, kinds, searches):
        axes.set_xlabel("training step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=150, format="png")
    unfinished = path.with_name(path.name + ".part")
    Image.open(drawn).convert("RGB").quantize(PALETTE).save(unfinished, format="png", optimize=True)
    return unfinished.replace(path)


def _draw_learning(axes: "Axes", regime: Regime) -> None:
    """Exact match of the training batches, with intervals."""
    for variant, color in COLORS.items():
        if variant in regime.cells:
            steps, means, margins = _curve(regime.cells[variant], "exact_match")
            axes.plot(steps, means, color=color, label=variant)
            axes.fill_between(steps, means - margins, means + margins, color=color, alpha=0.2, linewidth=0)
    axes.set(title=regime.name, ylabel="exact match, new training questions")
    axes.set_ylim(0, 1)


def _draw_kinds(axes: "Axes", regime: Regime) -> None:
    """Near misses and complete failures of GRPO and TSPO."""
    for variant in (BASELINE, METHOD):
        for kind, style in _STYLES.items():
            if variant in regime.cells:
                steps, means, _ = _curve(regime.cells[variant], kind)
                label = f"{variant}, {kind.replace('_', ' ')}"
                axes.plot(steps, means, style, color=COLORS[variant], label=label)
    axes.set(ylabel="share of rollouts", ylim=(0, 1))


def _draw_searches(axes: "Axes", regime: Regime) -> None:
    for variant, color in COLORS.items():
        if variant in regime.cells:
            steps, means, _ = _curve(regime.cells[variant], "searches")
            axes.plot(steps, means, color=color, label=variant, linewidth=1.2)
    axes.set(ylabel="searches per rollout")


def _curve(cell: Cell, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps, means over seeds of the smoothed curves, and margins of their intervals (0 for a single seed)."""
    curves = [trailing_means(run.curves[name], SMOOTHED) for run in cell.runs]
    points = [estimate(values) for values in zip(*curves, strict=True)]
    margins = [0.0 if point.margin is None else point.margin for point in points]
    steps = np.arange(SMOOTHED, SMOOTHED + len(points))
    return steps, np.array([point.mean for point in points]), np.array(margins)
