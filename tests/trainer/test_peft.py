"""LoRA trains the adapters and keeps the base model unchanged, also on a base in four bits (QLoRA)."""

import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

from ..training_runs.killable_run import QUESTIONS, length_reward

LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]}


@pytest.fixture
def make_lora_run(make_trainer, tmp_path):
    """Build a LoRA trainer of three steps with a checkpoint after each. Its adapters go to `folder`."""

    def make(folder="out", trainer_kwargs=None, **changes):
        kwargs = {
            "train_dataset": QUESTIONS,
            "reward_funcs": length_reward,
            "peft_config": LoraConfig(task_type="CAUSAL_LM", **LORA),
            **(trainer_kwargs or {}),
        }
        settings = {"max_steps": 3, "per_device_train_batch_size": 8, "save_strategy": "steps", "save_steps": 1}
        settings["output_dir"] = str(tmp_path / folder)
        return make_trainer(trainer_kwargs=kwargs, **{**settings, **changes})

    return make


def parameters(trainer):
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def assert_adapters_alone_changed(before, after):
    assert any("lora_" in name for name in after)
    for name, value in after.items():
        assert torch.equal(value, before[name]) != ("lora_" in name), name


def test_adapters_change_and_the_base_without_them_is_the_reference_model(make_lora_run, searching_model_path):
    trainer = make_lora_run(beta=0.1, save_strategy="no", max_steps=2)
    before = parameters(trainer)
    trainer.train()
    assert_adapters_alone_changed(before, parameters(trainer))
    base = AutoModelForCausalLM.from_pretrained(searching_model_path).state_dict()
    trained = trainer.model.unload().state_dict()
    assert all(torch.equal(trained[name], base[name]) for name in base)
    assert trainer.ref_model is None
    divergences = [entry["kl"] for entry in trainer.state.log_history if "kl" in entry]
    assert divergences[0] == 0.0  # adapters begin without effect
    assert divergences[-1] > 0.0


def test_checkpoint_holds_the_adapters_only_and_they_load_on_the_base(make_lora_run, searching_model_path, tmp_path):
    trainer = make_lora_run(max_steps=1)
    trainer.train()
    checkpoint = tmp_path / "out" / "checkpoint-1"
    assert (checkpoint / "adapter_model.safetensors").is_file()
    assert not (checkpoint / "model.safetensors").exists()
    base = AutoModelForCausalLM.from_pretrained(searching_model_path)
    loaded = PeftModel.from_pretrained(base, checkpoint)
    ids = torch.arange(20).unsqueeze(0)
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, trainer.model.eval()(ids).logits)


def assert_resumes(make_run, tmp_path, **kwargs):
    """A resumed run ends with the parameters of an uninterrupted one."""
    whole = make_run("whole", num_iterations=2, **kwargs)
    whole.train()
    for step in (1, 2):  # between two uses of the same rollouts, and before new rollouts
        resumed = make_run(f"resumed-{step}", num_iterations=2, **kwargs)
        checkpoint = tmp_path / f"resumed-{step}" / f"checkpoint-{step}"
        shutil.copytree(tmp_path / "whole" / f"checkpoint-{step}", checkpoint)
        resumed.train(resume_from_checkpoint=True)
        assert resumed.state.global_step == 3
        expected = parameters(whole)
        assert [name for name, value in parameters(resumed).items() if not torch.equal(value, expected[name])] == []


def test_resumed_run_ends_with_the_same_adapters(make_lora_run, tmp_path):
    assert_resumes(make_lora_run, tmp_path)


# QLoRA


@pytest.fixture
def four_bits():
    """A base model in four bits, which bitsandbytes also runs on a CPU."""
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    return {"quantization_config": config}


@pytest.mark.slow
def test_adapters_on_a_base_in_four_bits_change_and_the_base_does_not(make_lora_run, four_bits):
    trainer = make_lora_run(trainer_kwargs=four_bits, beta=0.1, save_strategy="no")
    before = parameters(trainer)
    assert before["base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight"].dtype == torch.uint8
    trainer.train()
    assert_adapters_alone_changed(before, parameters(trainer))


@pytest.mark.slow
def test_resumed_run_on_a_base_in_four_bits_ends_with_the_same_adapters(make_lora_run, four_bits, tmp_path):
    assert_resumes(make_lora_run, tmp_path, trainer_kwargs=four_bits)
