"""Which options of TRL keep the advantages of turns apart."""

import pytest

from .test_steps import gradients

OFF = {"alpha": 0.0, "turn_level_groups": "never"}
SEQUENCE = {"importance_sampling_level": "sequence"}
PER_TOKEN = [
    *({"loss_type": loss} for loss in ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "sapo", "cispo", "vespo")),
    {"loss_type": "cispo", **SEQUENCE},
    {"loss_type": "vespo", **SEQUENCE},
    {"delta": 2.0},
    {"off_policy_mask_threshold": 0.5},
    {"top_entropy_quantile": 0.5},
    {"beta": 1e-9, "use_bias_correction_kl": True},
    {"mask_truncated_completions": True},
]
AVERAGING = [{"loss_type": loss, **SEQUENCE} for loss in ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "sapo")]


def gradient_of_opposite_turns(trainer):
    """Gradient if each rollout's advantages cancel out: +1 on one half of its tokens, -1 on the other."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    mask = batch["completion_mask"] * batch["tool_mask"]
    position, length = mask.cumsum(dim=1), mask.sum(dim=1, keepdim=True)
    half = length // 2
    signs = (position <= half).float() - ((position > half) & (position <= 2 * half)).float()
    batch["advantages"] = signs * mask
    trainer._compute_loss(trainer.model, batch).backward()
    return gradients(trainer).norm().item()


@pytest.mark.parametrize("options", PER_TOKEN, ids=str)
def test_turn_credit_survives(make_trainer, options):
    assert gradient_of_opposite_turns(make_trainer(**options)) > 1e-2


@pytest.mark.parametrize("options", AVERAGING, ids=str)
def test_options_that_average_turn_credit_are_refused_while_tspo_is_on(make_trainer, options):
    with pytest.raises(ValueError, match=r'`importance_sampling_level="sequence"`.*Use "token", or turn TSPO off'):
        make_trainer(model="no/such/model", **options)
    assert gradient_of_opposite_turns(make_trainer(**options, **OFF)) < 1e-4
