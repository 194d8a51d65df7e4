"""Invariants of rollouts that vLLM samples, in both protocols."""

import pytest

pytest.importorskip("vllm_on_cpu", reason="needs the environment of `make test-vllm`")

from tspo_trl.protocols.chat import ChatToolProtocol
from tspo_trl.protocols.tags import TagProtocol

from ..rollout.invariants import check_sampled_rollouts
from ..rollout.test_sampled import LENGTHS


@pytest.mark.parametrize("protocol", ["tags", "chat"])
def test_thousand_sampled_rollouts_keep_the_invariants(
    protocol, make_colocate_trainer, searching_model_path, chat_model_path, chat_tokenizer
):
    path = searching_model_path if protocol == "tags" else chat_model_path
    speaks = TagProtocol() if protocol == "tags" else ChatToolProtocol(chat_tokenizer)
    trainer = make_colocate_trainer(
        model=path, trainer_kwargs={"protocol": speaks}, temperature=1.3, **LENGTHS[protocol]
    )
    trainer.vllm_generation.sync_weights()
    rollouts = check_sampled_rollouts(trainer, 1_000)
    assert all(rollout.logprobs is not None for rollout in rollouts)
    assert {"answered", "max_length", "no_action"} <= {rollout.end_reason for rollout in rollouts}
    assert len({len(rollout.turns) for rollout in rollouts}) == 3
