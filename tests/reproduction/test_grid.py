"""Cells of the grid, and cells that fail or are finished."""

from collections import Counter

from filelock import FileLock

from benchmarks.reproduction import grid
from benchmarks.reproduction.grid import all_cells, run_missing
from benchmarks.reproduction.regimes import REGIMES
from benchmarks.reproduction.run import Cell
from benchmarks.reproduction.tune import SEEDS as TUNING_SEEDS
from benchmarks.reproduction.worlds import WORLDS
from tspo_trl.data.demonstrations import HABITS

CELL = Cell("misread-3", "tspo", 1)


def test_every_cell_is_there_once():
    cells = all_cells()
    assert len(cells) == len(set(cells))


def test_grpo_and_tspo_share_at_least_five_seeds_in_every_regime():
    seeds = Counter((cell.regime, cell.variant) for cell in all_cells())
    assert all(seeds[regime, variant] >= 5 for regime in REGIMES for variant in ("grpo", "tspo"))


def test_the_learning_rate_is_tuned_on_seeds_of_its_own():
    assert not {cell.seed for cell in all_cells()} & set(TUNING_SEEDS)


def test_shares_of_habits_add_up_to_one():
    for regime in REGIMES.values():
        assert abs(sum(regime.habits.values()) - 1) < 1e-9
        assert set(regime.habits) <= set(HABITS)
        assert regime.world in WORLDS


def test_a_cell_that_fails_is_reported_and_not_raised(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr(grid, "run_cell", fail)
    assert run_missing(CELL, tmp_path / "work", tmp_path / "results") is False
    assert "no memory" in capsys.readouterr().out


def test_a_cell_that_is_done_is_not_run_again(tmp_path, monkeypatch):
    file = CELL.file(tmp_path / "results")
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    monkeypatch.setattr(grid, "run_cell", None)
    assert run_missing(CELL, tmp_path / "work", tmp_path / "results") is True


def test_a_cell_that_another_process_runs_is_left_to_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(grid, "run_cell", None)
    work = tmp_path / "work"
    (work / CELL.regime).mkdir(parents=True)
    with FileLock(work / CELL.regime / "tspo-seed1.lock"):
        assert run_missing(CELL, work, tmp_path / "results") is True
    assert "another process" in capsys.readouterr().out
