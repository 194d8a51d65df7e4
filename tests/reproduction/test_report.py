"""Tables and figures of the reproduction."""

import itertools
import sys
from pathlib import Path
from random import Random

import pytest

from benchmarks.reproduction import report
from benchmarks.reproduction.estimates import Estimate, StepsToTarget
from benchmarks.reproduction.figures import COLORS, save_figures
from benchmarks.reproduction.report import (
    FIGURES,
    VARIANT_ORDER,
    cost_table,
    estimate_text,
    regimes_table,
    steps_text,
    variants_table,
)
from benchmarks.reproduction.summary import load_runs, summarize

from .run_files import write_run

SLOW, FAST = [0.0] * 5 + [0.5] * 5, [0.5] * 10


def cells(line):
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def rows(table):
    """Rows of a Markdown table as dictionaries."""
    header, _, *lines = table.splitlines()
    return [dict(zip(cells(header), cells(line), strict=True)) for line in lines]


@pytest.fixture
def folder(tmp_path):
    for seed, final in ((1, 0.4), (2, 0.6)):
        write_run(tmp_path, "misread-3", "grpo", seed, SLOW, final=final)
        write_run(tmp_path, "misread-3", "tspo", seed, FAST, final=final + 0.2)
    write_run(tmp_path, "misread-3", "prefix", 1, FAST, final=0.4, seconds=90.0)
    return tmp_path


def test_every_variant_has_its_place():
    from benchmarks.reproduction.variants import VARIANTS

    assert set(VARIANT_ORDER) == set(VARIANTS)


@pytest.mark.parametrize(
    ("estimate", "signed", "text"),
    [
        (None, False, "-"),
        (Estimate(float("nan"), None), False, "-"),
        (Estimate(0.5, None), False, "0.500"),
        (Estimate(0.5, 0.1), False, "0.500 [0.400, 0.600]"),
        (Estimate(0.05, 0.1), True, "+0.050 [-0.050, +0.150]"),
    ],
)
def test_estimate_as_text(estimate, signed, text):
    assert estimate_text(estimate, signed=signed) == text


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        (None, "-"),
        (StepsToTarget(12, 3, 3, 9, 15), "12 [9, 15] (3/3)"),
        (StepsToTarget(12.5, 2, 2, 9, 16), "12.5 [9, 16] (2/2)"),
        (StepsToTarget(None, 1, 3, 9, 9), "never [9, 9] (1/3)"),
        (StepsToTarget(None, 0, 3, None, None), "never (0/3)"),
    ],
)
def test_steps_as_text(steps, text):
    assert steps_text(steps) == text


def test_row_of_a_regime(folder):
    (row,) = rows(regimes_table(summarize(load_runs(folder), (), VARIANT_ORDER)))
    assert row == {
        "regime": "misread-3",
        "start EM": "0.030",
        "near misses at the start": "0.170",
        "all wrong in the first groups": "0.75",
        "GRPO: final EM": "0.500 [-0.771, 1.771]",
        "TSPO: final EM": "0.700 [-0.571, 1.971]",
        "difference": "+0.200 [+0.200, +0.200]",
        "GRPO: steps to its final EM": "10 [10, 10] (2/2)",
        "TSPO: steps to it": "5 [5, 5] (2/2)",
        "ratio": "0.50",
        "at most half the steps": "holds",
    }


def test_regime_without_grpo_has_a_row_too(tmp_path):
    write_run(tmp_path, "misread-3", "tspo", 1, FAST)
    (row,) = rows(regimes_table(summarize(load_runs(tmp_path))))
    assert (row["GRPO: final EM"], row["ratio"], row["at most half the steps"]) == ("-", "-", "unknown")


def test_rows_of_variants_come_in_order_with_what_runs_them_again(folder):
    (regime,) = summarize(load_runs(folder), (), VARIANT_ORDER)
    table = rows(variants_table(regime))
    assert [row["variant"] for row in table] == ["grpo", "tspo", "prefix"]
    run = "python -m benchmarks.reproduction.run --regime misread-3 --variant"
    assert table[1]["command"] == f"`for s in 1 2; do {run} tspo --seed $s; done`"
    assert table[2] == {
        "variant": "prefix",
        "seeds": "1",
        "final EM": "0.400",
        "difference": "+0.000",
        "area under the curve": "0.500",
        "difference of areas": "+0.250",
        "steps to an EM of 0.5": "5 [5, 5] (1/1)",
        "steps to GRPO's final EM": "5 [5, 5] (1/1)",
        "groups with signal, first 5 steps": "0.75",
        "groups with signal, all steps": "0.75",
        "searches per rollout": "1.00 → 1.00",
        "turns per rollout": "2.00 → 2.00",
        "command": f"`{run} prefix --seed 1`",
    }


def test_cost_of_all_runs(folder):
    assert [row["all runs"] for row in rows(cost_table(load_runs(folder)))] == [
        "5",
        "0.1 h",
        "66, at most 90",
        "900 MiB",
        "c0ffee",
        "torch 2.9",
    ]


def run_report(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["report", *map(str, arguments)])
    report.main()


def test_tables_and_figures_are_written(folder, monkeypatch):
    write_run(folder, FIGURES[0], "tspo", 1, FAST)
    output, figures = folder / "new" / "tables.md", folder / "images"
    run_report(monkeypatch, "--results", folder, "--output", output, "--figures", figures)
    headings = [line for line in output.read_text("utf-8").splitlines() if line.startswith("#")]
    assert headings == ["## Regimes", "## misread-0.3", "## misread-3", "## Cost"]
    (figure,) = figures.iterdir()
    assert figure.name == "reproduction-misread-0.3.png"
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_other_results_have_their_tables():
    folder = Path(report.__file__).parent.parent / "results" / "reproduction"
    text = report.report(load_runs(folder), [], folder)
    assert "| past-3 | grpo | 0.001 | 101 | 0.778 | 0.934 | 0.933 |" in text
    assert "| past-3 | tspo | +1.91 | +1.91 | -0.08 | -0.16 | -0.16 | -0.21 | -0.65 |" in text
    assert "| additive_credit | -0.078 | -0.0360 ± 0.0002 |" in text


def test_figure_is_small(tmp_path):
    random = Random(0)
    for variant, seed in itertools.product(COLORS, (1, 2)):
        curves = {name: [random.random() for _ in range(40)] for name in ("searches", "near_miss", "complete_failure")}
        write_run(tmp_path, "misread-3", variant, seed, [random.random() for _ in range(40)], **curves)
    (figure,) = save_figures(summarize(load_runs(tmp_path)), tmp_path / "images")
    assert figure.stat().st_size <= 120_000


def test_folder_without_runs_is_a_message(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run_report(monkeypatch, "--results", tmp_path / "nothing")
    assert "contains no run" in capsys.readouterr().err
