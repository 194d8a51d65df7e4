"""A failed search is not a wrong answer. Its rollout is counted, but leaves the baseline and the loss."""

import pytest
import torch

from tspo_trl.credit import group_advantages
from tspo_trl.trainer.records import weighted_outcomes


class FailsFor:
    """Retriever that fails for one query and passes the others to a real retriever."""

    def __init__(self, retriever, query):
        self.retriever, self.query = retriever, query

    def search(self, queries, k):
        passages = self.retriever.search(queries, k)
        return [None if query == self.query else found for query, found in zip(queries, passages, strict=True)]


@pytest.fixture(params=["tspo", "grpo"])
def scored(request, make_trainer, retriever):
    options = {} if request.param == "tspo" else {"alpha": 0.0, "turn_level_groups": "never"}
    trainer = make_trainer(trainer_kwargs={"retriever": FailsFor(retriever, "Rome")}, **options)
    inputs = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    output = trainer._generate_and_score_completions(inputs)
    failed = torch.tensor([one.end_reason == "search_failed" for one in trainer._trajectories])
    assert 0 < failed.sum() < len(failed)
    return trainer, output, failed


def test_failed_rollouts_are_out_of_the_loss(scored):
    _, output, failed = scored
    generated = output["completion_mask"] * output["tool_mask"]
    assert not generated[failed].any()
    assert generated[~failed].any(dim=1).all()
    assert output["num_items_in_batch"] == generated.sum()
    assert not output["advantages"][failed].any()


def test_failed_rollouts_are_out_of_the_baseline(scored):
    trainer, output, failed = scored
    outcomes = weighted_outcomes(trainer._rewards_per_func, trainer.reward_weights)
    assert torch.equal(outcomes.isnan(), failed)
    num_turns = torch.tensor([len(one.turns) for one in trainer._trajectories])
    hits = [
        next((k for k, t in enumerate(one.turns) if "Paris" in (t.evidence or "")), -1)
        for one in trainer._trajectories
    ]
    for group in range(4):
        rows = torch.arange(4 * group, 4 * group + 4)
        kept = rows[~failed[rows]]
        if len(kept) < 2:
            continue
        # The same group without the failed rollouts.
        alone = group_advantages(
            outcomes[kept], num_turns[kept], torch.tensor(hits)[kept], len(kept), **trainer.args.credit_options
        )
        for row, expected in zip(kept.tolist(), alone, strict=True):
            start, _ = trainer._trajectories[row].turns[0].token_span
            advantages = output["advantages"]
            first = advantages[row, start] if advantages.dim() == 2 else advantages[row]
            assert torch.isclose(first, expected[0], atol=1e-6)


def test_failed_rollouts_are_counted_and_of_no_kind(scored):
    trainer, _, failed = scored
    metrics = trainer._metrics["train"]
    assert metrics["search/failed"] == [failed.sum().item()]
    assert metrics["rollout/end/search_failed"] == [pytest.approx(failed.float().mean().item())]
    kinds = ["complete_failure", "near_miss", "complete_success", "success_without_retrieval"]
    assert sum(metrics[f"tspo/{kind}"][0] for kind in kinds) == pytest.approx(1.0)


def test_failed_rollout_has_no_outcome_in_the_trajectory_file(scored):
    trainer, _, failed = scored
    for record, has_failed in zip(trainer._trajectory_files.records["train"], failed.tolist(), strict=True):
        assert (record["outcome"] is None) == has_failed


def test_training_goes_on_when_every_search_fails(make_trainer):
    class Down:
        def search(self, queries, k):
            raise ConnectionError("server gone")

    trainer = make_trainer(trainer_kwargs={"retriever": Down()})
    trainer.train()
    assert trainer.state.global_step == 2
    for logged in trainer.state.log_history[:2]:
        assert logged["search/failed"] == logged["search/queries"] > 0
