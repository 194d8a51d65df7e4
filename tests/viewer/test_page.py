"""The report is one complete file and never replaces another kind of file."""

import re
from pathlib import Path

import pytest

from tspo_trl.viewer import make_report, write_report
from tspo_trl.viewer.page import default_title, render_page

from ..analysis.lines import file_of
from .credited import near_miss, success


@pytest.fixture
def file(tmp_path):
    return file_of(tmp_path, near_miss(question="</script><b>"))


def test_the_page_asks_for_nothing_beside_it(file):
    page = render_page(make_report(file), "A run")
    assert "default-src 'none'" in page
    assert re.findall(r"""(?:src|href)="(?!#|data:)[^"]*""", page) == []
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page) == []


def test_no_text_of_a_trajectory_ends_the_data(file):
    page = render_page(make_report(file), "</title>")
    assert page.count("</script>") == 2
    assert page.count("</title>") == 1
    assert "\\u003c/script>\\u003cb>" in page


def test_the_same_files_make_the_same_page(file):
    assert render_page(make_report(file), "A run") == render_page(make_report(file), "A run")


def test_a_report_is_replaced_by_a_newer_one(file, tmp_path):
    output = write_report(file, tmp_path / "new" / "report.html")
    before = output.read_text(encoding="utf-8")
    file_of(tmp_path, success())
    assert write_report(file, output) == output
    assert output.read_text(encoding="utf-8") != before
    assert [path.name for path in output.parent.iterdir()] == ["report.html"]


def test_another_file_is_not_replaced(file, tmp_path):
    mine = tmp_path / "mine.html"
    mine.write_text("<p>mine</p>", encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"mine.html exists and is not a report"):
        write_report(file, mine)
    assert mine.read_text(encoding="utf-8") == "<p>mine</p>"


def test_a_folder_is_no_place_for_a_report(file, tmp_path):
    with pytest.raises(FileExistsError, match="is not a report"):
        write_report(file, tmp_path)


@pytest.mark.parametrize("path", ["runs/mine", "runs/mine/trajectories", "runs/mine/training/trajectories"])
def test_title_is_the_name_of_the_run(path):
    assert default_title(Path(path)) == "mine"
    assert default_title([path, "runs/other", path]) == "mine, other"
