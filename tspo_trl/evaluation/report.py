"""The report of an evaluation as JSON, Markdown and CSV, with a row for each dataset and each average.

The same scores and settings give the same bytes, so an interrupted and resumed evaluation ends in the same files as an
uninterrupted one. `docs/evaluation.md` documents the keys of the JSON.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..trainer.scores import SCORES
from .bootstrap import CONFIDENCE, RESAMPLES, SEED, Array, Estimate, estimate_all
from .folder import write_text
from .published import NOTE, published_rows
from .scores import DatasetScores, dataset_order
from .tables import Table, interval_text, label, number_text

if TYPE_CHECKING:
    from rich.console import Console

AVERAGES = ("macro", "macro_without_bamboogle")


def make_report(
    scores: Mapping[str, DatasetScores],
    settings: Mapping[str, Any] | None = None,
    *,
    missing: Mapping[str, int] | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Any]:
    """
    Average the scores of an evaluation.

    Args:
        scores (mapping of `str` to [`~tspo_trl.evaluation.scores.DatasetScores`]):
            Scores by dataset from [`~tspo_trl.evaluation.scores.read_scores`].
        settings (mapping, *optional*):
            Settings of the evaluation as JSON values.
        missing (mapping of `str` to `int`, *optional*):
            Number of questions of each dataset without an answer because the search or the endpoint failed. They do
            not count in any score.
        resamples (`int`, *optional*, defaults to 1000):
            Number of bootstrap resamples.
        seed (`int`, *optional*, defaults to 0):
            Seed of the bootstrap.

    Returns:
        `dict`: JSON values only, with the keys `questions`, `missing`, `datasets`, `macro`, `macro_without_bamboogle`,
        `published`, `settings` and `bootstrap`.

    Raises:
        ValueError: A number in `missing` is negative, or `resamples` is less than 1.
    """
    missing = missing or {}
    for name, count in missing.items():
        if count < 0:
            raise ValueError(f"missing[{name!r}] is {count}, but a number of questions must be 0 or more.")
    names = dataset_order({*scores, *(name for name, count in missing.items() if count)})
    values = {name: scores[name].values if name in scores else np.empty((0, len(SCORES))) for name in names}
    counts = {name: {"n": len(values[name]), "missing": missing.get(name, 0)} for name in names}

    def row(estimate: Estimate, averaged: Sequence[str]) -> dict[str, Any]:
        total = {key: sum(counts[name][key] for name in averaged) for key in ("n", "missing")}
        low, high = estimate.interval()
        return total | score_values(mean=estimate.mean, low=low, high=high)

    return {
        "questions": sum(count["n"] for count in counts.values()),
        "missing": sum(count["missing"] for count in counts.values()),
        **estimate_all(values, resamples=resamples, seed=seed).rows(row),
        "published": {"note": NOTE, "rows": published_rows(names)},
        "settings": None if settings is None else dict(settings),
        "bootstrap": {"resamples": resamples, "seed": seed, "confidence": CONFIDENCE},
    }


def write_report(folder: str | Path, report: dict[str, Any]) -> None:
    """
    Write `report.json`, `report.md` and `report.csv`.

    Each file appears whole or not at all, and replaces an earlier one.

    Args:
        folder (`str` or `Path`):
            An existing folder.
        report (`dict`):
            Report from [`make_report`].
    """
    texts = {
        "report.json": json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "report.md": report_markdown(report),
        "report.csv": report_csv(report),
    }
    for name, text in texts.items():
        write_text(Path(folder) / name, text)


def print_report(console: "Console", report: dict[str, Any]) -> None:
    """
    Print the report without its settings.

    Args:
        console (`rich.console.Console`):
            Console to print on.
        report (`dict`):
            Report from [`make_report`].
    """
    _score_table(report).print(console)
    for line in (_answered_line(report), _method_line(report)):
        console.print(line, markup=False, highlight=False)
    if report["published"]["rows"]:
        text = f"\n{report['published']['note']} Exact match (sources are in report.md):"
        console.print(text, markup=False, highlight=False)
        _published_table(report, has_sources=False).print(console)


def report_markdown(report: dict[str, Any]) -> str:
    """Return the report of [`make_report`] as Markdown."""
    parts = [
        "# Evaluation\n",
        _score_table(report).to_markdown(),
        _answered_line(report) + "\n",
        _method_line(report) + "\n",
    ]
    if report["published"]["rows"]:
        parts += ["## Published elsewhere\n", f"{NOTE} Exact match:\n", _published_table(report).to_markdown()]
    if report["settings"]:
        lines = [f"- {key}: `{json.dumps(value, ensure_ascii=False)}`\n" for key, value in report["settings"].items()]
        parts += ["## Settings\n", "".join(lines)]
    return "\n".join(parts)


def report_csv(report: dict[str, Any]) -> str:
    """
    Return the rows of a report as CSV, without published results.

    Args:
        report (`dict`):
            Report from [`make_report`].

    Returns:
        `str`: mean, lower and upper end of each score. Missing values are empty cells.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [(score, key) for score in SCORES for key in ("mean", "low", "high")]
    names = [score if key == "mean" else f"{score}_{key}" for score, key in columns]
    writer.writerow(["dataset", "questions", "missing", *names])
    for name, row in table_rows(report):
        writer.writerow([name, row["n"], row["missing"], *(row[score][key] for score, key in columns)])
    return text.getvalue()


def table_rows(report: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """
    Return the rows of a report's table.

    Args:
        report (`dict`):
            Report from [`make_report`] or [`~tspo_trl.evaluation.compare.compare`].

    Returns:
        `list[tuple[str, dict]]`: name and values of each dataset, then of each average in the report.
    """
    return [*report["datasets"].items(), *((name, report[name]) for name in AVERAGES if report[name])]


def score_values(**columns: Array) -> dict[str, dict[str, float | None]]:
    """
    Return the values of each score as JSON values.

    Args:
        **columns (`np.ndarray` of shape `(S,)`):
            One value for each score, such as `mean`.

    Returns:
        `dict[str, dict]`: values by score and column, `None` for NaN.
    """
    return {
        score: {
            key: None if np.isnan(column[position]) else float(column[position]) for key, column in columns.items()
        }
        for position, score in enumerate(SCORES)
    }


def _score_table(report: dict[str, Any]) -> Table:
    rows = [
        [label(name), f"{row['n']:,}", f"{row['missing']:,}", *(_cell(row[score]) for score in SCORES)]
        for name, row in table_rows(report)
    ]
    return Table(["dataset", "questions", "missing", *map(label, SCORES)], rows)


def _cell(score: dict[str, float | None]) -> str:
    return f"{number_text(score['mean'])}\n{interval_text(score['low'], score['high'])}".strip()


def _answered_line(report: dict[str, Any]) -> str:
    answered = f"{report['questions']:,} questions answered"
    if not report["missing"]:
        return f"{answered}, none missing."
    return f"{answered}, {report['missing']:,} missing: their search or endpoint failed, and they count in no score."


def _method_line(report: dict[str, Any]) -> str:
    method = report["bootstrap"]
    return (
        f"Means over questions with {method['confidence']:.0%} bootstrap intervals ({method['resamples']:,} "
        f"resamples, seed {method['seed']}). Macro: average over datasets."
    )


def _published_table(report: dict[str, Any], *, has_sources: bool = True) -> Table:
    results = report["published"]["rows"]
    has_average = results[0]["average"] is not None
    header = ["published elsewhere", *results[0]["exact_match"], *["average"] * has_average, *["source"] * has_sources]
    rows = []
    for row in results:
        numbers = [*row["exact_match"].values(), *[row["average"]] * has_average]
        rows.append([row["name"], *map(number_text, numbers), *[row["source"]] * has_sources])
    return Table(header, rows)
