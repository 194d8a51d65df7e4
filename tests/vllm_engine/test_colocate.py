"""Training with vLLM in the trainer's process. It samples from the current weights."""

import pytest
import torch
from transformers import AutoModelForCausalLM

pytest.importorskip("vllm_on_cpu", reason="needs the environment of `make test-vllm`")

from .measures import MAX_LOGP_DIFFERENCE, assert_that_stale_weights_are_seen, logp_differences


def test_four_steps_sample_from_the_weights_in_training(make_colocate_trainer):
    trainer = make_colocate_trainer(max_steps=4, learning_rate=2e-3)
    trainer.train()
    differences = logp_differences(trainer)
    assert len(differences) == 4
    assert max(differences) < MAX_LOGP_DIFFERENCE


def test_weights_that_stay_behind_are_seen(make_colocate_trainer):
    assert_that_stale_weights_are_seen(make_colocate_trainer)


def test_lora_is_merged_for_sampling_and_leaves_the_base_as_it_was(make_colocate_trainer, searching_model_path):
    from peft import LoraConfig

    config = LoraConfig(r=8, lora_alpha=64, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = make_colocate_trainer(max_steps=4, learning_rate=5e-3, trainer_kwargs={"peft_config": config})
    adapters = {name: p.clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    differences = logp_differences(trainer)
    assert len(differences) == 4
    assert max(differences) < MAX_LOGP_DIFFERENCE
    after = dict(trainer.model.named_parameters())
    assert all(not torch.equal(after[name], before) for name, before in adapters.items())
    base = trainer.accelerator.unwrap_model(trainer.model).unload()
    original = AutoModelForCausalLM.from_pretrained(searching_model_path).state_dict()
    for name, parameter in base.state_dict().items():
        # TRL merges the adapters for each synchronisation and unmerges them, which rounds.
        torch.testing.assert_close(parameter, original[name], rtol=0, atol=1e-5)
