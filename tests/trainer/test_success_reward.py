"""The success reward of a training with several reward functions and weights: what is right, and what follows."""

import json
from functools import partial

import pytest
import torch
from datasets import Dataset

from tspo_trl import TSPOConfig, TSPOTrainer
from tspo_trl.analysis import analyze
from tspo_trl.credit import group_advantages
from tspo_trl.rewards import exact_match_reward, f1_reward, format_reward
from tspo_trl.trainer.records import success_reward_name
from tspo_trl.trainer.validation import reward_names


def zero(completions, **kwargs):
    return [0.0] * len(completions)


def bonus(completions, **kwargs):
    return [1.0] * len(completions)


def mine(completions, golden_answers, trajectory, **kwargs):
    return exact_match_reward(completions, golden_answers, trajectory)


def scored(make_trainer, rewards, **changes):
    """Metrics and records of one generated and scored batch."""
    trainer = make_trainer(trainer_kwargs={"reward_funcs": rewards}, **changes)
    inputs = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    trainer._generate_and_score_completions(inputs)
    metrics = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    return trainer, metrics, trainer._trajectory_files.records["train"]


@pytest.mark.parametrize(
    ("rewards", "changes"),
    [
        ([exact_match_reward, format_reward], {}),
        ([exact_match_reward, bonus], {}),
        ([bonus, exact_match_reward], {"reward_weights": [5.0, 1.0]}),
        ([exact_match_reward], {"reward_weights": [0.5]}),
        ([exact_match_reward, bonus, bonus], {"reward_weights": [0.65, 0.15, 0.2]}),
        ([mine, bonus], {"success_reward": "mine", "reward_weights": [0.0, 1.0]}),
    ],
)
def test_other_rewards_and_weights_do_not_change_what_is_right(make_trainer, rewards, changes):
    _, metrics, records = scored(make_trainer, rewards, **changes)
    right = [record["prediction"] == "Paris" for record in records]
    assert {True, False} == set(right)
    assert [record["success"] for record in records] == [float(one) for one in right]
    groups = torch.tensor(right).view(-1, 4).any(dim=1)
    assert metrics["tspo/all_wrong_groups"] == pytest.approx(1 - groups.float().mean().item())
    hits = [record["first_occurrence"] is not None for record in records]
    near = [hit and not one for hit, one in zip(hits, right, strict=True)]
    assert metrics["tspo/near_miss"] == pytest.approx(sum(near) / len(near))
    # Credit: latent reward for near misses and for no others.
    for record, is_near in zip(records, near, strict=True):
        assert any(turn["reward"] > record["outcome"] + 1e-3 for turn in record["turns"]) == is_near
    advantages = [turn["advantage"] for record in records for turn in record["turns"]]
    expected = group_advantages(
        torch.tensor([record["outcome"] for record in records]),
        torch.tensor([len(record["turns"]) for record in records]),
        torch.tensor([-1 if r["first_occurrence"] is None else r["first_occurrence"] for r in records]),
        4,
        latent_in_mixed_groups=False,
        successes=torch.tensor([record["success"] for record in records]),
    )
    rows = [row[: len(record["turns"])] for row, record in zip(expected.tolist(), records, strict=True)]
    assert advantages == [value for row in rows for value in row]


def test_all_wrong_groups_with_a_bonus_take_turn_level_advantages(make_trainer):
    _, metrics, records = scored(make_trainer, [zero, bonus], success_reward="zero")
    assert metrics["tspo/all_wrong_groups"] == 1.0
    assert metrics["tspo/groups_without_signal"] < metrics["tspo/groups_without_signal_grpo"] == 1.0
    assert {record["outcome"] for record in records} == {1.0}
    assert {record["success"] for record in records} == {0.0}


def test_files_and_tables_follow_the_success_reward(make_trainer, tmp_path):
    trainer = make_trainer(
        trainer_kwargs={"reward_funcs": [exact_match_reward, bonus]}, max_steps=1, log_completions=True
    )
    trainer.train()
    (path,) = (tmp_path / "out" / "trajectories").iterdir()
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    log = trainer.state.log_history[0]
    result = analyze(path)
    for kind in ("complete_failure", "near_miss", "complete_success", "success_without_retrieval"):
        assert result[kind] == pytest.approx(log[f"tspo/{kind}"])
    assert result["all_wrong_groups"] == pytest.approx(log["tspo/all_wrong_groups"])
    assert result["groups_with_signal_tspo"] == pytest.approx(1 - log["tspo/groups_without_signal"])
    assert result["groups_with_signal_grpo"] == pytest.approx(1 - log["tspo/groups_without_signal_grpo"])
    assert result["recorded_outcomes_that_differ"] == 0
    kinds = trainer._turn_tables.completion_columns()["kind"]
    assert [kind in ("complete_success", "success_without_retrieval") for kind in kinds] == [
        record["prediction"] == "Paris" for record in records
    ]


def test_graded_success_has_a_threshold(make_trainer):
    _, metrics, records = scored(make_trainer, [f1_reward, bonus], success_reward="f1_reward", success_threshold=0.01)
    right = [record["success"] > 0 for record in records]
    assert metrics["tspo/complete_success"] + metrics["tspo/success_without_retrieval"] == pytest.approx(
        sum(right) / len(right)
    )


# Names


@pytest.mark.parametrize(
    ("names", "given", "name"),
    [
        (["exact_match_reward"], None, "exact_match_reward"),
        (["f1_reward"], None, "f1_reward"),
        (["f1_reward", "exact_match_reward"], None, "exact_match_reward"),
        (["f1_reward", "exact_match_reward"], "f1_reward", "f1_reward"),
        (["f1_reward", "format_reward"], None, None),
        ([], None, None),
    ],
)
def test_default_success_reward(names, given, name):
    assert success_reward_name(names, given) == name


class Judge:
    def __call__(self, completions, **kwargs):
        return [1.0] * len(completions)


def test_reward_names_are_those_of_trl(make_trainer):
    rewards = [exact_match_reward, partial(f1_reward), Judge(), lambda completions, **_: [0.0] * len(completions)]
    assert reward_names(rewards) == ["exact_match_reward", "f1_reward", "Judge", "<lambda>"]
    trainer = make_trainer(trainer_kwargs={"reward_funcs": list(rewards)})
    assert trainer.reward_func_names == reward_names(rewards)
    assert reward_names("org/reward-model") == ["reward-model"]
    assert reward_names(None) == []


def build(tmp_path, reward_funcs, row=None, **changes):
    """Build a trainer for a model that does not exist. If no check fails, loading the model does."""
    args = TSPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", **changes)
    rows = [row or {"prompt": "q", "golden_answers": ["a"]}]
    return TSPOTrainer(
        str(tmp_path / "no-such-model"),
        reward_funcs,
        args,
        Dataset.from_list(rows),
        tools=[zero],
    )


@pytest.mark.parametrize(
    ("reward_funcs", "changes", "message"),
    [
        (
            [f1_reward, format_reward],
            {},
            r"`success_reward` is None, .* f1_reward, format_reward\. Set it .* `success_reward='f1_reward'`",
        ),
        ([zero, Judge()], {"alpha": 0.0, "turn_level_groups": "never"}, "`success_reward` is None, .* zero, Judge"),
        (f1_reward, {"success_reward": "f1"}, r"`success_reward` is 'f1', .* are: f1_reward\. Set it to one of"),
        (None, {"success_reward": "f1_reward"}, r"`success_reward` is 'f1_reward', .* are: exact_match_reward"),
        ([exact_match_reward, exact_match_reward], {}, "several of the reward functions .* have this name"),
    ],
)
def test_an_unclear_success_reward_is_refused_before_a_model_loads(tmp_path, reward_funcs, changes, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, reward_funcs, **changes)


@pytest.mark.parametrize(
    ("reward_funcs", "changes"),
    [
        ([f1_reward, format_reward], {"row": {"prompt": "q"}}),
        ([f1_reward, format_reward], {"success_reward": "format_reward"}),
        ([format_reward, exact_match_reward], {}),
        (format_reward, {}),
    ],
)
def test_a_clear_or_unneeded_success_reward_is_accepted(tmp_path, reward_funcs, changes):
    with pytest.raises(OSError, match="no-such-model"):
        build(tmp_path, reward_funcs, **changes)


class Search:
    """Environment of TRL that owns a reward, which TRL names after the class."""

    def reset(self, **kwargs):
        pass

    def search(self, query: str) -> str:
        """
        Search.

        Args:
            query: The query.
        """
        return query

    def get_reward(self):
        return 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"`success_reward` is None, .*: f1_reward, Search\."),
        ({"success_reward": "search"}, r"`success_reward` is 'search', .*: f1_reward, Search\."),
        ({"success_reward": "Search"}, None),
    ],
)
def test_the_reward_of_an_environment_may_be_the_success_reward(make_trainer, chat_model_path, changes, message):
    rows = Dataset.from_list([{"prompt": [{"role": "user", "content": "q"}], "golden_answers": ["a"]}] * 4)
    kwargs = {"environment_factory": Search, "reward_funcs": f1_reward, "retriever": None, "train_dataset": rows}
    if message is None:
        assert make_trainer(model=chat_model_path, trainer_kwargs=kwargs, **changes)
        return
    with pytest.raises(ValueError, match=message):
        make_trainer(model=chat_model_path, trainer_kwargs=kwargs, **changes)
