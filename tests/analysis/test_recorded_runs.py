"""Real trajectories: published ones, whose numbers were counted independently, and those of a training run."""

from pathlib import Path

import pytest

from tspo_trl.analysis import analyze
from tspo_trl.analysis.statistics import KINDS

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "trajectories"

needs_trajectories = pytest.mark.skipif(
    not DATA.is_dir(), reason="needs ../shared/data/trajectories beside the repository"
)


@pytest.fixture(scope="module")
def published():
    return analyze(DATA)


@needs_trajectories
@pytest.mark.parametrize(
    ("name", "kinds", "first_occurrences", "differing", "duplicates", "queries", "gold_in_question"),
    [
        ("hotpotqa", (65, 144, 260, 31), {"0": 213, "1": 187, "2": 4, "never": 96}, 2, 4, 1055, 48),
        ("2wikimultihopqa", (91, 131, 245, 33), {"0": 109, "1": 251, "2": 15, "3": 1, "never": 124}, 0, 13, 1121, 193),
    ],
)
def test_published_trajectories(
    published, name, kinds, first_occurrences, differing, duplicates, queries, gold_in_question
):
    analysis = published["files"][str(DATA / f"{name}_qwen2.5-7b.jsonl")]
    assert analysis["n"] == 500
    assert tuple(analysis[kind] for kind in KINDS) == tuple(count / 500 for count in kinds)
    assert analysis["first_occurrence_turn"] == first_occurrences
    assert (analysis["recorded_outcomes"], analysis["recorded_outcomes_that_differ"]) == (500, differing)
    assert analysis["duplicate_queries"] == duplicates / queries
    assert analysis["rollouts_with_duplicate_queries"] == duplicates / 500
    assert analysis["searches_per_rollout"] == queries / 500
    assert analysis["gold_in_question"] == gold_in_question / 500
    assert analysis["end_reasons"] == {"answered": 1.0}


@needs_trajectories
def test_published_trajectories_together(published):
    assert published["n"] == 1000
    assert tuple(published[kind] for kind in KINDS) == (156 / 1000, 275 / 1000, 505 / 1000, 64 / 1000)
    assert published["first_occurrence_turn"] == {"0": 322, "1": 438, "2": 19, "3": 1, "never": 220}
    assert published["groups"] == 0


@pytest.mark.slow
def test_training_run_has_the_metrics_that_the_trainer_logged(make_trainer, tmp_path):
    trainer = make_trainer(max_steps=3, learning_rate=1e-6, max_turns=3)
    trainer.train()
    logged = [row for row in trainer.state.log_history if "tspo/near_miss" in row]
    for row in logged:
        path = tmp_path / "out" / "trajectories" / f"step_{row['step']:06d}.jsonl"
        analysis = analyze(path)
        for kind in KINDS:
            assert analysis[kind] == pytest.approx(row[f"tspo/{kind}"])
        assert analysis["groups"] == 16 / 4
        assert analysis["all_wrong_groups"] == pytest.approx(row["tspo/all_wrong_groups"])
        assert analysis["groups_with_signal_tspo"] == pytest.approx(1 - row["tspo/groups_without_signal"])
        assert analysis["groups_with_signal_grpo"] == pytest.approx(1 - row["tspo/groups_without_signal_grpo"])
        assert analysis["turns_per_rollout"] == pytest.approx(row["rollout/turns"])
        assert analysis["searches_per_rollout"] == pytest.approx(row["rollout/searches"])
        assert analysis["end_reasons"].get("answered", 0.0) == pytest.approx(row["rollout/end/answered"])
        assert analysis["recorded_first_occurrences_that_differ"] == analysis["recorded_outcomes_that_differ"] == 0
    run = analyze(tmp_path / "out")
    assert len(run["files"]) == len(run["steps"]) == 3
    assert run["n"] == 3 * 16
