"""Plots are PNG files and never replace a user's files unasked."""

import pytest

from tspo_trl.analysis import analyze
from tspo_trl.analysis.plots import check_folder, save_plots

from .lines import file_of, own, plain


def test_plots_are_png_files_and_nothing_else_stays(tmp_path):
    lines = [own([None, None], step=1, outcome=0.0), own(step=2, outcome=None)]
    written = save_plots(analyze(file_of(tmp_path, *lines)), tmp_path / "new" / "plots")
    assert [path.name for path in written] == ["kinds.png", "first_occurrence.png", "kinds_by_step.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert sorted(tmp_path.glob("new/plots/*")) == sorted(written)


def test_kinds_by_step_are_drawn_where_steps_are_recorded(tmp_path):
    written = save_plots(analyze(file_of(tmp_path, plain())), tmp_path / "plots")
    assert [path.name for path in written] == ["kinds.png", "first_occurrence.png"]


def test_rollouts_of_no_kind_are_drawn_as_nothing(tmp_path):
    analysis = analyze(file_of(tmp_path, own(step=1, outcome=None)))
    assert len(save_plots(analysis, tmp_path / "plots")) == 3


def test_plot_of_an_earlier_analysis_does_not_stay_beside_those_of_this_one(tmp_path):
    save_plots(analyze(file_of(tmp_path, own(step=1))), tmp_path / "plots")
    written = save_plots(analyze(file_of(tmp_path, plain())), tmp_path / "plots")
    assert sorted(tmp_path.glob("plots/*")) == sorted(written)


@pytest.mark.parametrize("name", ["kinds.png", "first_occurrence.png", "kinds_by_step.png"])
def test_plot_that_exists_is_refused_unless_it_may_be_replaced(tmp_path, name):
    (tmp_path / name).write_text("thesis")
    with pytest.raises(FileExistsError, match=f"{name} exists already. Choose another folder, or pass --overwrite"):
        check_folder(tmp_path, overwrite=False)
    check_folder(tmp_path, overwrite=True)


def test_folder_with_other_files_is_welcome_and_a_file_is_not(tmp_path):
    (tmp_path / "notes.txt").touch()
    check_folder(tmp_path, overwrite=False)
    with pytest.raises(FileExistsError, match=r"notes\.txt is a file"):
        check_folder(tmp_path / "notes.txt", overwrite=False)
