"""Training with search rollouts: real generation by a tiny Qwen2 model, real BM25."""

import json
import math
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM

from tspo_trl import TSPOTrainer
from tspo_trl.credit import group_advantages


def scored_batch(trainer):
    """A trainer with one generated and scored batch."""
    inputs = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    return trainer._generate_and_score_completions(inputs)


def read(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_training_moves_every_parameter(make_trainer, searching_model_path):
    trainer = make_trainer(max_steps=2)
    before = dict(AutoModelForCausalLM.from_pretrained(searching_model_path).named_parameters())
    trainer.train()
    for name, parameter in trainer.model.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_turns_end_at_their_action(make_trainer):
    trainer = make_trainer()
    scored_batch(trainer)
    turns = [turn for trajectory in trainer._trajectories for turn in trajectory.turns]
    closed = [turn.text for turn in turns if turn.action is not None]
    assert {turn.action for turn in turns} == {"search", "answer", None}
    assert all(text.endswith(("</search>", "</answer>")) for text in closed)


def test_each_turns_tokens_get_its_advantage_and_all_others_none(make_trainer):
    trainer = make_trainer(alpha=0.5)
    output = scored_batch(trainer)
    rewards = trainer._rewards_per_func.squeeze(1)
    trajectories = trainer._trajectories
    hits = [next((k for k, turn in enumerate(t.turns) if "Paris" in (turn.evidence or "")), -1) for t in trajectories]
    num_turns = torch.tensor([len(trajectory.turns) for trajectory in trajectories])
    expected = group_advantages(rewards, num_turns, torch.tensor(hits), 4, latent_in_mixed_groups=False)
    assert expected.abs().sum() > 0
    tokens = torch.zeros_like(output["advantages"])
    for i, trajectory in enumerate(trajectories):
        for k, turn in enumerate(trajectory.turns):
            tokens[i, slice(*turn.token_span)] = expected[i, k]
    assert torch.equal(output["advantages"], tokens)
    generated = (output["completion_mask"] * output["tool_mask"]).bool()
    assert not output["advantages"][~generated].any()


def recorded_batch(trainer):
    """Outcomes, numbers of turns, first hits and turn advantages of the current batch."""
    records = trainer._trajectory_files.records["train"]
    hits = [-1 if record["first_occurrence"] is None else record["first_occurrence"] for record in records]
    batch = ([record["outcome"] for record in records], [len(record["turns"]) for record in records], hits)
    return tuple(map(torch.tensor, batch)), [[turn["advantage"] for turn in record["turns"]] for record in records]


def test_additive_credit_is_an_option_of_training(make_trainer):
    trainer = make_trainer(additive_credit=True)
    scored_batch(trainer)
    batch, advantages = recorded_batch(trainer)
    expected = group_advantages(*batch, 4, additive_credit=True)
    assert not torch.equal(expected, group_advantages(*batch, 4, latent_in_mixed_groups=False))
    for row, turns in zip(expected.tolist(), advantages, strict=True):
        assert turns == row[: len(turns)]


def test_a_subclass_may_assign_credit_in_another_way(make_trainer):
    class LastTurnTrainer(TSPOTrainer):
        def _turn_advantages(self, outcomes, num_turns, first_hits, group_size):
            return torch.nn.functional.one_hot(num_turns - 1).float()

    trainer = make_trainer(trainer_class=LastTurnTrainer)
    output = scored_batch(trainer)
    for row, trajectory in zip(output["advantages"], trainer._trajectories, strict=True):
        start, end = trajectory.turns[-1].token_span
        assert row.nonzero().flatten().tolist() == list(range(start, end))


def test_logged_advantage_is_the_mean_over_the_turns(make_trainer):
    trainer = make_trainer()
    scored_batch(trainer)
    records = trainer._trajectory_files.records["train"]
    means = [sum(turn["advantage"] for turn in record["turns"]) / len(record["turns"]) for record in records]
    assert list(trainer._logs["advantages"]) == pytest.approx(means)


def test_trajectory_file_of_a_step_holds_each_rollout_once(make_trainer, tmp_path):
    make_trainer(max_steps=3, logging_steps=2).train()
    files = sorted((tmp_path / "out" / "trajectories").iterdir())
    assert [file.name for file in files] == ["step_000002.jsonl", "step_000003.jsonl"]
    records = read(files[0])
    assert [(record["step"], record["group"]) for record in records] == [
        (2, group) for group in range(4) for _ in range(4)
    ]
    for record in records:
        assert record["question"] == "What is the capital of France?"
        assert record["outcome"] == float(record["prediction"] == "Paris")
        assert record["end_reason"] in {"answered", "no_action", "max_turns"}
        for turn in record["turns"]:
            assert (turn["feedback"] is None) == (turn["feedback_span"] is None)
            assert math.isfinite(turn["reward"] + turn["advantage"])


def test_turn_rewards_in_the_file_credit_the_first_occurrence(make_trainer):
    trainer = make_trainer()
    scored_batch(trainer)
    records = trainer._trajectory_files.records["train"]
    near_misses = [r for r in records if r["outcome"] == 0 and r["first_occurrence"] is not None]
    assert near_misses
    for record in near_misses:
        expected = [0.5 if k == record["first_occurrence"] else 0.0 for k in range(len(record["turns"]))]
        assert [turn["reward"] for turn in record["turns"]] == expected


def test_every_promised_metric_is_logged_and_an_answered_rollout_is_not_clipped(make_trainer):
    trainer = make_trainer(max_steps=1)
    trainer.train()
    logged = trainer.state.log_history[0]
    kinds = ["complete_failure", "near_miss", "complete_success", "success_without_retrieval"]
    assert sum(logged[f"tspo/{kind}"] for kind in kinds) == pytest.approx(1.0)
    reasons = ["answered", "max_turns", "max_length", "no_action", "search_failed"]
    assert sum(logged[f"rollout/end/{reason}"] for reason in reasons) == pytest.approx(1.0)
    for name in [
        "tspo/all_wrong_groups", "tspo/groups_without_signal", "tspo/groups_without_signal_grpo",
        "tspo/first_occurrence_turn", "tspo/gold_in_question", "tspo/advantage/early_stopping",
        "tspo/advantage/late_stopping", "rollout/turns", "rollout/searches", "rollout/invalid_actions",
        "rollout/cut_turns",
        "search/queries", "search/sent", "search/cached", "search/failed", "search/empty", "search/latency",
        "completions/clipped_ratio", "rewards/exact_match_reward/mean",
    ]:  # fmt: skip
        assert name in logged
    assert logged["rollout/end/max_length"] == 0.0
    assert logged["completions/clipped_ratio"] == 0.0
    assert logged["completions/mean_terminated_length"] == logged["completions/mean_length"]


def test_masking_truncated_completions_masks_those_that_ran_out_of_budget_only(make_trainer):
    trainer = make_trainer(mask_truncated_completions=True, max_completion_length=84)
    output = scored_batch(trainer)
    reasons = [trajectory.end_reason for trajectory in trainer._trajectories]
    assert {"max_length", "answered"} <= set(reasons)
    generated = (output["completion_mask"] * output["tool_mask"]).sum(dim=1)
    assert [bool(count) for count in generated] == [reason != "max_length" for reason in reasons]


def test_last_turn_that_is_cut_is_clipped_and_masked(make_trainer):
    """Of six tokens a turn, an action takes more. The hint follows, and the last turn is cut as the others were."""
    trainer = make_trainer(
        mask_truncated_completions=True,
        max_turns=1,
        max_turn_length=6,
        max_feedback_length=400,
        max_completion_length=800,
    )
    output = scored_batch(trainer)
    metrics = trainer._metrics["train"]
    cut = [one.turns[-1].is_cut for one in trainer._trajectories]
    assert any(cut)
    assert [one.end_reason == "max_length" for one in trainer._trajectories] == cut
    assert metrics["completions/clipped_ratio"] == [pytest.approx(sum(cut) / len(cut))]
    assert metrics["rollout/cut_turns"][0] >= 2 * sum(cut) / len(cut)
    trained = (output["completion_mask"] * output["tool_mask"]).any(dim=1)
    assert trained.tolist() == [not one for one in cut]


def test_evaluation_makes_search_rollouts_and_files_of_its_own(make_trainer, dataset, tmp_path):
    trainer = make_trainer(max_steps=1, per_device_eval_batch_size=8, trainer_kwargs={"eval_dataset": dataset})
    metrics = trainer.evaluate()
    assert 0 <= metrics["eval_tspo/near_miss"] <= 1
    assert len(read(tmp_path / "out" / "trajectories" / "eval_step_000000.jsonl")) == 4


def test_prompt_is_a_user_message_where_there_is_a_chat_template(make_trainer, tokenizer):
    import copy

    with_template = copy.deepcopy(tokenizer)
    with_template.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    trainer = make_trainer(trainer_kwargs={"processing_class": with_template})
    output = scored_batch(trainer)
    assert trainer._logs["prompt"][0][0]["role"] == "user"
    completion = trainer._logs["completion"][0]
    assert {message["role"] for message in completion} <= {"assistant", "tool"}
    text = with_template.decode(output["prompt_ids"][0], skip_special_tokens=True)
    assert text == trainer.protocol.prompt("What is the capital of France?")


def test_dataset_may_bring_its_own_prompt(make_trainer):
    rows = Dataset.from_list([{"prompt": "capital?\n", "question": "q", "golden_answers": ["Paris"]}] * 4)
    trainer = make_trainer(trainer_kwargs={"train_dataset": rows})
    scored_batch(trainer)
    assert set(trainer._logs["prompt"]) == {"capital?\n"}


def test_skipping_gold_in_question_turns_the_latent_reward_off(make_trainer):
    rows = Dataset.from_list([{"question": "Is Paris the capital?", "golden_answers": ["Paris"]}] * 4)
    for skip, share in [(False, True), (True, False)]:
        trainer = make_trainer(skip_gold_in_question=skip, trainer_kwargs={"train_dataset": rows})
        scored_batch(trainer)
        hits = [record["first_occurrence"] is not None for record in trainer._trajectory_files.records["train"]]
        assert any(hits) == share
        assert trainer._metrics["train"]["tspo/gold_in_question"] == [1.0]


def test_model_card_names_tspo_and_cites_the_paper(make_trainer, tmp_path):
    trainer = make_trainer()
    trainer.create_model_card(model_name="searcher")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "TSPO: Breaking the Double Homogenization Dilemma" in card
    assert "arXiv:2601.22776" in card
    assert "- tspo" in card


def test_a_batch_used_for_several_steps_keeps_each_rollouts_advantages(make_trainer):
    trainer = make_trainer(max_steps=3, per_device_train_batch_size=8, steps_per_generation=2, num_iterations=2)
    seen = []
    loss = trainer.compute_loss
    trainer.compute_loss = lambda model, inputs, **kwargs: seen.append(inputs) or loss(model, inputs, **kwargs)
    trainer.train()
    assert len(seen) == 3
    for inputs in seen:
        generated = (inputs["completion_mask"] * inputs["tool_mask"]).bool()
        assert inputs["advantages"].shape == generated.shape
        assert not inputs["advantages"][~generated].any()
    assert torch.equal(seen[0]["advantages"], seen[2]["advantages"])


def test_rollouts_of_trls_own_loops_are_credited_by_what_their_tools_returned(make_trainer, tokenizer):
    """Two groups of wrong answers. In each, a tool returned the gold answer after turn 0 of the first rollout."""

    def rollout_func(prompts, trainer):
        parts = [[("call", 1), (" Paris " if i % 4 == 0 else " Rome ", 0), ("done", 1)] for i in range(len(prompts))]
        ids = [[tokenizer(text)["input_ids"] for text, _ in rollout] for rollout in parts]
        return {
            "prompt_ids": [[5, 6]] * len(prompts),
            "completion_ids": [[token for part in rollout for token in part] for rollout in ids],
            "logprobs": None,
            "env_mask": [
                [bit for part in rollout for bit in [int(part is not rollout[1])] * len(part)] for rollout in ids
            ],
        }

    rows = Dataset.from_list([{"prompt": "capital of France?", "golden_answers": ["Paris"]}] * 4)
    kwargs = {"train_dataset": rows, "retriever": None, "rollout_func": rollout_func}
    trainer = make_trainer(trainer_kwargs=kwargs, per_device_train_batch_size=8)
    output = scored_batch(trainer)
    records = trainer._trajectory_files.records["train"]
    assert [record["first_occurrence"] for record in records] == [0, None, None, None] * 2
    # Rewards of the first turn are 0.5, 0, 0, 0 in each group: mean 0.125, standard deviation 0.25.
    first_turn = [record["turns"][0]["advantage"] for record in records]
    assert first_turn == pytest.approx([0.375 / 0.2501, *[-0.125 / 0.2501] * 3] * 2)
    assert [record["turns"][1]["advantage"] for record in records] == [0.0] * 8
    assert output["advantages"][0, 0] == pytest.approx(0.375 / 0.2501)


def test_batch_used_for_several_steps_is_in_one_trajectory_file(make_trainer, tmp_path):
    make_trainer(max_steps=3, num_iterations=2).train()
    files = sorted((tmp_path / "out" / "trajectories").iterdir())
    assert [file.name for file in files] == ["step_000001.jsonl", "step_000003.jsonl"]


def test_rollouts_keep_to_the_context_and_the_end_tokens_of_the_model(make_trainer, searching_model_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(searching_model_path, max_position_embeddings=777)
    model.generation_config.eos_token_id = [1, 7]
    loop = make_trainer(model=model).rollout_loop
    assert loop.limits.max_context_length == 777
    assert {1, 7} <= set(loop.eos_token_ids)
