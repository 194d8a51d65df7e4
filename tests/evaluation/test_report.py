"""The report of an evaluation."""

import csv
import io
import json

import numpy as np
import pytest
from rich.console import Console

from tspo_trl.data import BENCHMARKS
from tspo_trl.evaluation.report import make_report, print_report, report_csv, report_markdown, write_report
from tspo_trl.evaluation.scores import DatasetScores, read_scores
from tspo_trl.trainer.scores import SCORES

from .answer_lines import line, write_lines


def scores_of(**exact_match):
    """Scores by dataset from the exact match of each question. F1 is half of it, and there are two searches."""
    datasets = {}
    for name, column in exact_match.items():
        values = np.zeros((len(column), len(SCORES)))
        values[:, SCORES.index("exact_match")] = column
        values[:, SCORES.index("f1")] = np.array(column) / 2
        values[:, SCORES.index("searches")] = 2
        ids = [str(number) for number in range(len(column))]
        datasets[name] = DatasetScores(ids, np.zeros(len(column), dtype=np.uint64), values)
    return datasets


def seven():
    return scores_of(**{name: [1, 0] for name in BENCHMARKS})


def printed(report):
    out = io.StringIO()
    print_report(Console(file=out, width=80), report)
    return out.getvalue()


def test_rows_are_means_by_dataset_and_their_averages():
    report = make_report(scores_of(nq=[1, 0, 0, 0], musique=[1, 1], bamboogle=[0, 0]))
    assert {name: row["exact_match"]["mean"] for name, row in report["datasets"].items()} == {
        "nq": 0.25,
        "musique": 1.0,
        "bamboogle": 0.0,
    }
    assert report["datasets"]["nq"]["f1"]["mean"] == 0.125
    assert report["datasets"]["nq"]["searches"] == {"mean": 2.0, "low": 2.0, "high": 2.0}
    assert report["macro"]["exact_match"]["mean"] == pytest.approx(1.25 / 3)
    assert report["macro_without_bamboogle"]["exact_match"]["mean"] == pytest.approx(1.25 / 2)


def test_counts_are_of_the_questions_that_a_row_is_made_of():
    report = make_report(scores_of(nq=[1, 0, 0], bamboogle=[0, 0]), missing={"nq": 4, "bamboogle": 0})
    assert (report["questions"], report["missing"]) == (5, 4)
    counts = [
        (report["datasets"]["nq"]["n"], report["datasets"]["nq"]["missing"]),
        (report["datasets"]["bamboogle"]["n"], report["datasets"]["bamboogle"]["missing"]),
        (report["macro"]["n"], report["macro"]["missing"]),
        (report["macro_without_bamboogle"]["n"], report["macro_without_bamboogle"]["missing"]),
    ]
    assert counts == [(3, 4), (2, 0), (5, 4), (3, 4)]


def test_order_is_that_of_the_field_whatever_the_order_of_the_scores():
    report = make_report(scores_of(own=[1, 0], bamboogle=[1, 0], popqa=[1, 0], nq=[1, 0]))
    assert list(report["datasets"]) == ["nq", "popqa", "bamboogle", "own"]


def test_a_dataset_with_nothing_but_missing_questions_has_a_row_without_numbers():
    report = make_report(scores_of(nq=[1, 0]), missing={"popqa": 3})
    assert report["datasets"]["popqa"]["exact_match"] == {"mean": None, "low": None, "high": None}
    assert report["macro"]["exact_match"]["mean"] is None
    assert "| popqa | 0 | 3 | - |" in report_markdown(report)


def test_a_negative_number_of_missing_questions_is_an_error():
    with pytest.raises(ValueError, match=r"missing\['nq'\] is -1"):
        make_report(scores_of(nq=[1, 0]), missing={"nq": -1})


def test_missing_questions_are_stated_in_every_form():
    report = make_report(scores_of(nq=[1, 0]), missing={"nq": 1234})
    text = "2 questions answered, 1,234 missing: their search or endpoint failed, and they count in no score."
    assert text in report_markdown(report)
    assert text in " ".join(printed(report).split())
    assert report["missing"] == 1234
    assert [row["missing"] for row in csv.DictReader(io.StringIO(report_csv(report)))] == ["1234", "1234"]


def test_that_none_is_missing_is_stated_too():
    assert "2 questions answered, none missing." in report_markdown(make_report(scores_of(nq=[1, 0])))


def test_markdown_shows_mean_and_interval():
    report = make_report(scores_of(nq=[1, 0]))
    report["datasets"]["nq"]["exact_match"] = {"mean": 0.5, "low": 0.1234, "high": 0.9}
    assert "| nq | 2 | 0 | 0.500 [0.123, 0.900] | 0.250 [" in report_markdown(report)


def test_markdown_shows_a_mean_alone_where_there_is_no_interval():
    assert "| own | 1 | 0 | 1.000 | 0.500 |" in report_markdown(make_report(scores_of(own=[1])))


def test_settings_are_shown_as_json():
    report = make_report(scores_of(own=[1, 0]), settings={"model": "m", "limits": {"max_turns": 4}})
    assert report["settings"] == {"model": "m", "limits": {"max_turns": 4}}
    assert '## Settings\n\n- model: `"m"`\n- limits: `{"max_turns": 4}`\n' in report_markdown(report)


def test_csv_holds_the_numbers_of_every_row_unrounded():
    report = make_report(scores_of(nq=[1, 0, 0], bamboogle=[1]))
    rows = list(csv.DictReader(io.StringIO(report_csv(report))))
    assert [row["dataset"] for row in rows] == ["nq", "bamboogle", "macro", "macro_without_bamboogle"]
    assert float(rows[0]["exact_match"]) == 1 / 3
    assert float(rows[0]["exact_match_high"]) == report["datasets"]["nq"]["exact_match"]["high"]
    assert (rows[1]["exact_match"], rows[1]["exact_match_low"]) == ("1.0", "")


def test_published_numbers_stand_below_and_are_marked():
    markdown = report_markdown(make_report(seven()))
    table, _, below = markdown.partition("## Published elsewhere")
    assert "Search-R1" not in table
    assert "not measured with this code. For orientation only" in below
    assert "| Search-R1 3B base, GRPO | 0.421 | 0.583 | 0.413 | 0.297 | 0.274 | 0.066 | 0.128 | 0.312 |" in below
    assert "Search-R1, arXiv 2503.09516 |" in below


def test_published_numbers_are_no_rows_of_ours():
    report = make_report(seven())
    assert list(report["datasets"]) == list(BENCHMARKS)
    assert len(report["published"]["rows"]) == 8
    assert "Search-R1" not in report_csv(report)


def test_published_average_is_left_out_of_a_part_of_the_seven():
    markdown = report_markdown(make_report(scores_of(nq=[1, 0], own=[1, 0])))
    assert "| published elsewhere | nq | source |" in markdown
    assert "| Search-R1 3B base, GRPO | 0.421 | Search-R1" in markdown


def test_nothing_is_published_on_other_datasets():
    report = make_report(scores_of(own=[1, 0]))
    assert "ublished" not in report_markdown(report)
    assert "ublished" not in printed(report)


def test_a_name_may_hold_markup_and_bars():
    report = make_report(scores_of(**{"my|set [red]": [1, 0]}))
    assert "| my\\|set [red] | 2 |" in report_markdown(report)
    assert "my|set [red]" in printed(report)


def test_a_narrow_console_loses_nothing():
    text = printed(make_report(seven(), missing={"nq": 1}))
    assert "…" not in text
    assert "arXiv" not in text  # the sources are in report.md, because they would make the table too wide
    for part in ("macro without bamboogle", "2wikimultihopqa", "SkyRL plain GRPO 3B instruct, 3 turns"):
        assert part in text


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scores", [{}, scores_of(nq=[1]), scores_of(nq=[1, 1], bamboogle=[])])
def test_few_questions_leave_no_nan(tmp_path, scores):
    write_report(tmp_path, make_report(scores))
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "nan" not in (tmp_path / "report.csv").read_text(encoding="utf-8")
    json.loads(text)


def test_files_hold_the_report_and_no_unfinished_file_is_left(tmp_path):
    report = make_report(seven(), settings={"model": "müller"})
    write_report(tmp_path, report)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.csv", "report.json", "report.md"]
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == report
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == report_markdown(report)
    assert (tmp_path / "report.csv").read_text(encoding="utf-8") == report_csv(report)


def test_a_report_that_cannot_be_written_leaves_the_earlier_one(tmp_path):
    write_report(tmp_path, make_report(seven()))
    before = (tmp_path / "report.json").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(tmp_path, make_report(scores_of(nq=[1, 0]), settings={"temperature": float("nan")}))
    assert (tmp_path / "report.json").read_bytes() == before


def test_the_same_answers_give_the_same_bytes_however_the_files_are_cut(tmp_path):
    lines = [line(str(number), float(number % 3 == 0), f1=number / 40) for number in range(40)]
    write_lines(tmp_path / "one" / "trajectories" / "process_0.jsonl", *lines)
    write_lines(tmp_path / "two" / "trajectories" / "process_0.jsonl", *lines[25:])
    write_lines(tmp_path / "two" / "trajectories" / "process_1.jsonl", *reversed(lines[:25]))
    for folder in (tmp_path / "one", tmp_path / "two"):
        write_report(folder, make_report(read_scores(folder), settings={"model": "m"}))
    for name in ("report.json", "report.md", "report.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
