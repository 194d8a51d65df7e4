"""A small cell from end to end."""

import dataclasses

import pytest

from benchmarks.reproduction import policies, run
from benchmarks.reproduction.regimes import Regime
from benchmarks.reproduction.run import CURVES, Cell, run_cell
from benchmarks.reproduction.summary import load_runs
from benchmarks.reproduction.worlds import WORLDS
from tspo_trl.evaluation.folder import read_json
from tspo_trl.trajectory import read_json_lines

SMALL_WORLD = dataclasses.replace(
    WORLDS["searchworld"],
    arguments={
        "num_people": 120,
        "num_places": 60,
        "num_works": 60,
        "num_train_questions": 60,
        "num_test_questions": 6,
        "hops": (2,),
    },
    right_steps=3,
)
SMALL_REGIME = Regime("small_world", {"right": 0.5, "stops_early": 0.5}, habit_steps=2, steps=5, groups=2)


@pytest.fixture(scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "REGIMES", {"small": SMALL_REGIME})
        patch.setattr(policies, "REGIMES", {"small": SMALL_REGIME})
        patch.setattr(run, "WORLDS", {"small_world": SMALL_WORLD})
        patch.setattr(policies, "WORLDS", {"small_world": SMALL_WORLD})
        yield


@pytest.fixture(scope="module")
def folders(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduction")
    for variant in ("grpo", "tspo", "shuffled"):
        cell = Cell("small", variant, 1)
        run_cell(cell, folder / "work", cell.file(folder / "results"))
    return folder / "work", folder / "results"


@pytest.mark.slow
def test_a_run_has_a_curve_of_every_metric_and_scores_before_and_after(folders):
    result = read_json(folders[1] / "small" / "tspo-seed1.json")
    assert {name: len(curve) for name, curve in result["curves"].items()} == dict.fromkeys(CURVES, 5)
    assert result["start"].keys() == result["end"].keys()
    assert result["settings"]["options"]["alpha"] == 0.5
    assert result["peak_memory_mb"] > 100


@pytest.mark.slow
def test_all_variants_start_from_one_policy_with_the_same_rollouts(folders):
    runs = load_runs(folders[1])
    assert len({one.policy for one in runs}) == 1
    first = [
        [
            (line["question"], [turn["text"] for turn in line["turns"]])
            for line in read_json_lines(
                folders[0] / "small" / f"{one.variant}-seed1" / "trajectories/step_000001.jsonl"
            )
        ]
        for one in runs
    ]
    assert first[0] == first[1] == first[2]


@pytest.mark.slow
def test_a_run_that_is_done_is_not_repeated(folders):
    work, results = folders
    cell = Cell("small", "grpo", 1)
    assert run_cell(cell, work / "nowhere", cell.file(results)) == read_json(cell.file(results))


@pytest.mark.slow
def test_a_run_can_be_repeated_number_for_number(folders, tmp_path):
    cell = Cell("small", "tspo", 1)
    again = run_cell(cell, folders[0], tmp_path / "again.json")
    known = read_json(cell.file(folders[1]))
    assert again["end"] == known["end"]
    assert again["curves"]["exact_match"] == known["curves"]["exact_match"]
    assert again["curves"]["entropy"] == known["curves"]["entropy"]
