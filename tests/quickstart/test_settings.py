"""A quickstart run's settings, and the folder that keeps them."""

import pytest

from tspo_trl.quickstart.settings import QuickstartSettings, claim_folder, read_json


@pytest.mark.parametrize(
    ("name", "value"),
    [("method", "ppo"), ("steps", 0), ("warm_start_steps", 0), ("groups", -1), ("num_generations", 1)],
)
def test_bad_setting_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*{value}"):
        QuickstartSettings(**{name: value})


def test_new_folder_keeps_the_settings(tmp_path):
    claim_folder(tmp_path / "runs" / "a", QuickstartSettings(seed=3, method="grpo"))
    kept = read_json(tmp_path / "runs" / "a" / "settings.json")
    assert QuickstartSettings(**kept) == QuickstartSettings(seed=3, method="grpo")


def test_folder_of_the_same_settings_may_be_gone_on_with(tmp_path):
    claim_folder(tmp_path, QuickstartSettings())
    (tmp_path / "index").mkdir()
    claim_folder(tmp_path, QuickstartSettings())
    assert (tmp_path / "index").is_dir()


def test_folder_of_other_settings_is_refused_with_the_difference(tmp_path):
    claim_folder(tmp_path, QuickstartSettings(seed=1))
    with pytest.raises(FileExistsError, match=r"other settings \(seed=1 there, 2 here\)\. Choose another --output"):
        claim_folder(tmp_path, QuickstartSettings(seed=2))


def test_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"is no quickstart run\. Choose another --output"):
        claim_folder(tmp_path, QuickstartSettings())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
