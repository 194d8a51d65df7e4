"""Greedy turns of a transformers model, and their agreement with the trainer's."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tspo_trl.evaluation.arguments import AgentArguments
from tspo_trl.evaluation.backends import open_agent
from tspo_trl.evaluation.model_turns import ModelTurns, eos_token_ids
from tspo_trl.protocols.tags import TagProtocol

ARGUMENTS = {"max_turns": 2, "max_turn_length": 24, "max_feedback_length": 60, "search_top_k": 1}
ARGUMENTS["max_completion_length"] = 200
# Settings of a model's `generation_config.json` and of a trainer, each of which changes the most probable turns.
OF_A_MODEL = [
    {"repetition_penalty": 50.0},
    {"no_repeat_ngram_size": 1},
    {"min_new_tokens": 20},
    {"suppress_tokens": list(range(30, 90))},
    {"begin_suppress_tokens": list(range(300))},
    {"forced_bos_token_id": 40, "forced_eos_token_id": 41},
    {"bad_words_ids": [[token] for token in range(30, 90)]},
    {"sequence_bias": [[[token], -50.0] for token in range(30, 90)]},
    {"exponential_decay_length_penalty": [2, 9.0]},
    {"num_beams": 3, "length_penalty": 5.0, "early_stopping": True},
    {"do_sample": True, "temperature": 5.0, "min_p": 0.1, "typical_p": 0.5},
    {"stop_strings": ["a"]},
]
OF_A_TRAINER = [
    {"repetition_penalty": 50.0, "min_p": 0.2, "top_k": 3, "top_p": 0.5, "temperature": 2.0},
    {"generation_kwargs": {"no_repeat_ngram_size": 1}},
    {"generation_kwargs": {"repetition_penalty": 50.0}},
    {"generation_kwargs": {"suppress_tokens": list(range(30, 90)), "min_new_tokens": 20}},
]
QUESTIONS = [f"Number {number}, what is the capital of France?" for number in range(7)]


@pytest.fixture
def turns(searching_model_path, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(searching_model_path, dtype="float32")
    return ModelTurns(model, tokenizer, TagProtocol().stop_strings)


def copy_with(path, copy, settings):
    """Copy a model's folder, and add settings to its `generation_config.json`."""
    shutil.copytree(path, copy)
    file = copy / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}), encoding="utf-8")
    return str(copy)


def prompts(tokenizer):
    return tokenizer([f"{question}\n" for question in QUESTIONS])["input_ids"]


def test_turn_ends_at_a_tag_an_end_of_sequence_token_or_its_budget(turns, tokenizer):
    ids, logprobs = turns(prompts(tokenizer), [24, 24, 24, 24, 24, 3, 1])
    assert logprobs is None
    assert [len(turn) for turn in ids[5:]] == [3, 1]
    for turn in ids[:5]:
        text = tokenizer.decode(turn)
        assert text.endswith(("</search>", "</answer>", "<|im_end|>")) or len(turn) == 24
        assert tokenizer.pad_token_id not in turn


def test_turn_is_the_most_probable_one(turns, tokenizer):
    (ids,), _ = turns(prompts(tokenizer)[:1], [24])
    prompt = prompts(tokenizer)[0]
    with torch.no_grad():
        logits = turns.model(torch.tensor([prompt + ids])).logits[0]
    assert logits[len(prompt) - 1 : -1].argmax(dim=1).tolist() == ids


def test_turn_does_not_depend_on_the_other_rows(turns, tokenizer):
    together, _ = turns(prompts(tokenizer), [24] * len(QUESTIONS))
    alone = [turns([prompt], [24])[0][0] for prompt in prompts(tokenizer)]
    assert together == alone


def test_sampling_of_the_models_own_configuration_is_not_used(searching_model_path, tokenizer, turns):
    model = AutoModelForCausalLM.from_pretrained(searching_model_path, dtype="float32")
    model.generation_config = GenerationConfig(do_sample=True, temperature=5.0, repetition_penalty=3.0, min_length=50)
    other = ModelTurns(model, tokenizer, TagProtocol().stop_strings)
    assert other(prompts(tokenizer), [24] * 7) == turns(prompts(tokenizer), [24] * 7)


def test_tokens_that_the_model_declares_end_a_turn_as_the_tokenizers_own(tokenizer):
    eos = tokenizer.eos_token_id
    assert eos_token_ids(None, tokenizer) == [eos]
    assert eos_token_ids(GenerationConfig(eos_token_id=7), tokenizer) == [eos, 7]
    assert eos_token_ids(GenerationConfig(eos_token_id=[7, eos]), tokenizer) == [eos, 7]


def test_tokenizer_without_an_end_of_sequence_token_relies_on_the_models(searching_model_path):
    without = AutoTokenizer.from_pretrained(searching_model_path, eos_token=None)
    assert eos_token_ids(GenerationConfig(eos_token_id=[7, 9]), without) == [7, 9]
    with pytest.raises(ValueError, match="Set the tokenizer's `eos_token`"):
        eos_token_ids(None, without)


def test_adapter_is_evaluated_on_its_model(searching_model_path, tokenizer, retriever, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(searching_model_path, dtype="float32")
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    adapted.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    args = AgentArguments(str(tmp_path), max_turns=2, max_turn_length=24, max_feedback_length=60, search_top_k=1)
    agent = open_agent(args, retriever)
    merged = ModelTurns(adapted.merge_and_unload(), tokenizer, TagProtocol().stop_strings)
    base = open_agent(replace(args, model=searching_model_path), retriever)
    first_turns = agent.generate(prompts(tokenizer), [24] * 7)
    assert first_turns == merged(prompts(tokenizer), [24] * 7)
    assert first_turns != base.generate(prompts(tokenizer), [24] * 7)


def test_adapter_is_refused_by_the_engine(retriever, tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="contains a PEFT adapter"):
        open_agent(AgentArguments(str(tmp_path), backend="vllm"), retriever)


def test_context_beyond_the_positions_of_the_model_is_refused(searching_model_path, retriever):
    positions = AutoModelForCausalLM.from_pretrained(searching_model_path).config.max_position_embeddings
    args = AgentArguments(searching_model_path, max_context_length=positions)
    assert open_agent(args, retriever).loop.limits.max_context_length == positions
    with pytest.raises(ValueError, match=f"`max_context_length` is {positions + 1}, .* at most {positions} tokens"):
        open_agent(replace(args, max_context_length=positions + 1), retriever)


def evaluated(trainer):
    """Evaluate with a trainer, and return the texts of the turns and the end of each rollout by question."""
    kept = {}
    trainer._trajectory_files.keep = lambda mode, records: kept.update({row["question"]: row for row in records})
    trainer.evaluate()
    rows = [kept[question] for question in QUESTIONS]
    return [([turn["text"] for turn in row["turns"]], row["end_reason"]) for row in rows]


@pytest.fixture
def rollouts_of_the_trainer(make_trainer):
    from datasets import Dataset

    eval_dataset = Dataset.from_list([{"question": one, "golden_answers": ["Paris"]} for one in QUESTIONS])

    def evaluate(**options):
        kwargs = {"eval_dataset": eval_dataset, **options.pop("trainer_kwargs", {})}
        trainer = make_trainer(per_device_eval_batch_size=8, trainer_kwargs=kwargs, **options)
        return evaluated(trainer), trainer

    return evaluate


@pytest.fixture
def rollouts_of_the_agent(retriever):
    def evaluate(model):
        agent = open_agent(AgentArguments(model, dtype="float32", **ARGUMENTS), retriever)
        trajectories = agent.answer([{"question": question} for question in QUESTIONS])
        return [([turn.text for turn in one.turns], one.end_reason) for one in trajectories]

    return evaluate


@pytest.mark.parametrize("of_model", [{}, *OF_A_MODEL], ids=" ".join)
def test_agent_makes_the_rollouts_of_the_trainers_greedy_evaluation(
    rollouts_of_the_trainer, rollouts_of_the_agent, searching_model_path, tmp_path, of_model
):
    model = copy_with(searching_model_path, tmp_path / "model", of_model)
    plain = rollouts_of_the_agent(searching_model_path)
    rollouts, trainer = rollouts_of_the_trainer(model=model)
    assert rollouts == rollouts_of_the_agent(model) == plain
    assert {**trainer.model.generation_config.to_dict(), **of_model} == trainer.model.generation_config.to_dict()


@pytest.mark.parametrize("of_trainer", OF_A_TRAINER, ids=" ".join)
def test_greedy_evaluation_ignores_the_decoding_options_of_the_trainer(
    rollouts_of_the_trainer, rollouts_of_the_agent, searching_model_path, of_trainer
):
    rollouts, trainer = rollouts_of_the_trainer(**of_trainer)
    assert rollouts == rollouts_of_the_agent(searching_model_path)
    assert trainer.generation_config.do_sample
    assert trainer.generation_config.repetition_penalty == trainer.generation_kwargs["repetition_penalty"]


def test_greedy_evaluation_of_an_adapter_ignores_the_models_penalties(
    rollouts_of_the_trainer, rollouts_of_the_agent, searching_model_path, tmp_path
):
    model = copy_with(searching_model_path, tmp_path / "model", {"repetition_penalty": 3.0, "min_new_tokens": 9})
    adapter = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    rollouts, trainer = rollouts_of_the_trainer(model=model, trainer_kwargs={"peft_config": adapter})
    assert rollouts == rollouts_of_the_agent(searching_model_path)
    assert trainer.model.generation_config.repetition_penalty == 3.0


def test_tokenizer_without_a_padding_token_pads_with_the_end_of_sequence_token(searching_model_path, turns, tokenizer):
    without = AutoTokenizer.from_pretrained(searching_model_path, pad_token=None)
    model = AutoModelForCausalLM.from_pretrained(searching_model_path, dtype="float32")
    assert without.pad_token is None
    other = ModelTurns(model, without, TagProtocol().stop_strings)
    assert other(prompts(tokenizer), [24] * 7) == turns(prompts(tokenizer), [24] * 7)
