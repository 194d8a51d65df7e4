"""Invariants of rollouts that a real model samples with transformers; `vllm_engine/` has the same for vLLM."""

import pytest

from tspo_trl.protocols.chat import ChatToolProtocol
from tspo_trl.protocols.tags import TagProtocol

from .invariants import END_REASONS, check_sampled_rollouts

LENGTHS = {
    "tags": {"max_turn_length": 24, "max_feedback_length": 60, "max_completion_length": 150},
    "chat": {"max_turn_length": 60, "max_feedback_length": 70, "max_completion_length": 240},
}


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["tags", "chat"])
def test_thousand_sampled_rollouts_keep_the_invariants(
    protocol, make_trainer, searching_model_path, chat_model_path, chat_tokenizer
):
    path = searching_model_path if protocol == "tags" else chat_model_path
    speaks = TagProtocol() if protocol == "tags" else ChatToolProtocol(chat_tokenizer)
    # A high temperature makes every failure occur: broken tags and calls, endless turns, forged text.
    trainer = make_trainer(model=path, trainer_kwargs={"protocol": speaks}, temperature=1.3, **LENGTHS[protocol])
    rollouts = [rollout for _ in range(5) for rollout in check_sampled_rollouts(trainer, 200)]
    assert len(rollouts) == 1_000
    # The chat model seldom searches twice, so its rollouts may not run out of turns.
    seldom = {"search_failed"} if protocol == "tags" else {"search_failed", "max_turns"}
    assert END_REASONS - seldom <= {rollout.end_reason for rollout in rollouts} <= END_REASONS - {"search_failed"}
    assert len({len(rollout.turns) for rollout in rollouts}) == 3
