"""Batches in which a short row has a larger budget than a long row has positions left."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from tspo_trl.evaluation.model_turns import ModelTurns
from tspo_trl.rollout.positions import limited_positions, max_positions

POSITIONS = 40
LONG, SHORT = [5] * (POSITIONS - 5), [6] * 4
BUDGETS = [5, POSITIONS - 4]


def gpt2(**tokens):
    return GPT2LMHeadModel(GPT2Config(n_positions=POSITIONS, n_embd=32, n_layer=1, n_head=2, **tokens))


def opt(**tokens):
    sizes = {"hidden_size": 32, "ffn_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return OPTForCausalLM(OPTConfig(max_position_embeddings=POSITIONS, word_embed_proj_dim=32, **sizes, **tokens))


def gptj(**tokens):
    return GPTJForCausalLM(GPTJConfig(n_positions=POSITIONS, n_embd=32, n_layer=1, n_head=2, rotary_dim=8, **tokens))


def llama(**tokens):
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    scaling = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    return LlamaForCausalLM(LlamaConfig(max_position_embeddings=POSITIONS, rope_parameters=scaling, **sizes, **tokens))


@pytest.fixture(params=[gpt2, opt, gptj, llama])
def model(request, tokenizer):
    torch.manual_seed(0)
    tokens = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    return request.param(vocab_size=len(tokenizer), **tokens).eval()


def test_evaluation_generates_rows_together_as_alone(model, tokenizer):
    assert max_positions(model.config) == POSITIONS
    turns = ModelTurns(model, tokenizer, [])
    together, _ = turns([LONG, SHORT], BUDGETS)
    alone = [turns([prompt], [budget])[0][0] for prompt, budget in zip([LONG, SHORT], BUDGETS, strict=True)]
    assert together == alone


def test_training_generates_up_to_the_last_position(make_trainer, tokenizer):
    torch.manual_seed(0)
    tokens = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    trainer = make_trainer(
        model=gpt2(vocab_size=len(tokenizer), **tokens), trainer_kwargs={"processing_class": tokenizer}
    )
    assert trainer.rollout_loop.limits.max_context_length == POSITIONS
    ids, _ = trainer._generate_turns([LONG, SHORT], BUDGETS)
    assert [len(turn) <= budget for turn, budget in zip(ids, BUDGETS, strict=True)] == [True, True]


def test_adapter_keeps_to_the_positions_of_its_model_and_no_hook_is_left(model, tokenizer):
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
    with limited_positions(adapted):
        inputs = torch.tensor([LONG[:5]])
        adapted(input_ids=inputs, position_ids=torch.arange(POSITIONS, POSITIONS + 5).unsqueeze(0))
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("declared", [{}, {"max_position_embeddings": None}, {"max_position_embeddings": -1}])
def test_model_without_a_limit_has_none(declared):
    class Config:
        def get_text_config(self):
            return self

    config = Config()
    vars(config).update(declared)
    assert max_positions(config) is None
    config.max_seq_len = 7
    assert max_positions(config) == 7
