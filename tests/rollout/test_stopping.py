"""The transformers backend ends turns at stop strings, and separates sampled ids from padding."""

from contextlib import suppress

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, StopStringCriteria

from tspo_trl.rollout.generation import stop_generation
from tspo_trl.rollout.stopping import TurnEnd

STOP_STRINGS = ["</search>", "</answer>"]


@pytest.fixture
def model(searching_model_path):
    return AutoModelForCausalLM.from_pretrained(searching_model_path).eval()


@pytest.fixture(params=["pad is not eos", "pad is eos"])
def any_tokenizer(request, tokenizer):
    pad = "<|endoftext|>" if request.param == "pad is not eos" else "<|im_end|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|im_end|>", pad_token=pad, padding_side="left"
    )


def generate(model, tokenizer, texts, budgets, **kwargs):
    """New ids of each row, sampled with a fixed seed, with and without the criterion."""
    inputs = tokenizer(texts, return_tensors="pt", padding=True)
    torch.manual_seed(0)
    options = {"do_sample": True, "max_new_tokens": max(budgets), "pad_token_id": tokenizer.pad_token_id, **kwargs}
    ids = model.generate(**inputs, **options)
    return ids[:, inputs["input_ids"].shape[1] :].tolist()


def run(model, tokenizer, texts, budgets):
    turn_end = TurnEnd(StopStringCriteria(tokenizer, STOP_STRINGS), budgets)
    with stop_generation(model, turn_end):
        padded = generate(model, tokenizer, texts, budgets, eos_token_id=tokenizer.eos_token_id)
    eos = tokenizer.eos_token_id
    until_eos = [ids[: ids.index(eos) + 1] if eos in ids else ids for ids in padded]  # as TRL does
    return turn_end.cut(until_eos), padded


def test_rows_end_at_their_own_action_and_lose_no_sampled_token(model, any_tokenizer):
    rows, padded = run(model, any_tokenizer, ["?\n"] * 24, [40] * 24)
    texts = [any_tokenizer.decode(row) for row in rows]
    assert len({len(row) for row in rows}) > 1
    for text, row, whole in zip(texts, rows, padded, strict=True):
        assert text.endswith((*STOP_STRINGS, "<|im_end|>")) or len(row) == 40
        assert sum(text.count(stop) for stop in STOP_STRINGS) <= 1
        assert set(whole[len(row) :]) <= {any_tokenizer.pad_token_id}
    assert any(text.endswith("</search>") for text in texts)
    assert any(text.endswith("</answer>") for text in texts)
    assert any(text.endswith("<|im_end|>") for text in texts)


def test_nothing_is_generated_after_every_row_has_ended(model, any_tokenizer):
    rows, padded = run(model, any_tokenizer, ["?\n"] * 4, [200] * 4)
    assert {len(ids) for ids in padded} == {max(len(row) for row in rows)}
    assert len(padded[0]) < 100


def test_each_row_keeps_to_its_own_budget(model, any_tokenizer):
    budgets = [1, 2] + [40] * 14
    rows, _ = run(model, any_tokenizer, ["?\n"] * 16, budgets)
    assert [len(row) for row in rows[:2]] == [1, 2]
    assert 3 < max(len(row) for row in rows) <= 40


def test_generate_is_the_models_own_again_behind_a_failure(model, any_tokenizer):
    turn_end = TurnEnd(StopStringCriteria(any_tokenizer, STOP_STRINGS), [1])
    with suppress(RuntimeError), stop_generation(model, turn_end):
        raise RuntimeError("generation failed")
    assert "generate" not in vars(model)


def test_generate_that_the_model_was_given_stays(model):
    """FSDP sets `generate` on the model itself, to gather the weights."""
    model.generate = given = lambda **kwargs: kwargs
    with stop_generation(model, TurnEnd(None, [1])):
        assert "stopping_criteria" in model.generate()
    assert model.generate is given


def test_turns_without_stop_strings_end_at_their_budget():
    turn_end = TurnEnd(None, [1, 2])
    assert turn_end(torch.zeros(2, 1), None).tolist() == [True, False]
    assert turn_end(torch.zeros(2, 2), None).tolist() == [True, True]
    assert turn_end.cut([[5, 0], [6, 7]]) == [[5], [6, 7]]
