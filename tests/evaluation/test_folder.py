"""The folder of a run that can be resumed."""

import pytest

from tspo_trl.evaluation.folder import check_folder, claim_folder, read_json


def test_new_folder_keeps_the_settings(tmp_path):
    claim_folder(tmp_path / "runs" / "a", {"seed": 3, "limits": (1, 2)}, "evaluation")
    assert read_json(tmp_path / "runs" / "a" / "settings.json") == {"seed": 3, "limits": [1, 2]}


def test_folder_of_the_same_settings_may_be_gone_on_with(tmp_path):
    claim_folder(tmp_path, {"seed": 0}, "evaluation")
    (tmp_path / "index").mkdir()
    claim_folder(tmp_path, {"seed": 0}, "evaluation")
    assert (tmp_path / "index").is_dir()


def test_folder_of_other_settings_is_refused_with_the_difference(tmp_path):
    claim_folder(tmp_path, {"seed": 1, "limits": (1, 2)}, "evaluation")
    with pytest.raises(FileExistsError, match=r"other settings \(seed=1 there, 2 here\)\. Choose another --output"):
        claim_folder(tmp_path, {"seed": 2, "limits": (1, 2)}, "evaluation")


def test_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"does not belong to this evaluation\. Choose another --output"):
        claim_folder(tmp_path, {"seed": 0}, "evaluation")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_folder_of_a_run_that_was_killed_before_it_wrote_its_settings_is_taken(tmp_path):
    (tmp_path / "settings.json.part").write_text('{"seed"', encoding="utf-8")
    claim_folder(tmp_path, {"seed": 0}, "evaluation")
    assert read_json(tmp_path / "settings.json") == {"seed": 0}


def test_check_makes_no_folder(tmp_path):
    check_folder(tmp_path / "a", {"seed": 0}, "evaluation")
    assert not (tmp_path / "a").exists()


def test_setting_that_one_run_does_not_have_is_a_difference(tmp_path):
    claim_folder(tmp_path, {"seed": 1}, "evaluation")
    with pytest.raises(FileExistsError, match=r"backend=None there, 'vllm' here"):
        claim_folder(tmp_path, {"seed": 1, "backend": "vllm"}, "evaluation")
