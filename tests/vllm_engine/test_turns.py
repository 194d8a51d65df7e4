"""Turns of vLLM end at an action or at their budget, and have a log-probability for each token."""

import math

import pytest

pytest.importorskip("vllm_on_cpu", reason="needs the environment of `make test-vllm`")

from .measures import own_logprobs, run_rollouts

STOP_STRINGS = ("</search>", "</answer>")


@pytest.fixture
def asked(monkeypatch):
    """Length of the prompt and budget of each request to the engine, turn by turn."""
    from vllm.v1.engine.llm_engine import LLMEngine

    seen = []
    add_request = LLMEngine.add_request

    def keep(self, request_id, prompt, params, *args, **kwargs):
        seen.append((len(prompt["prompt_token_ids"]), params.max_tokens))
        return add_request(self, request_id, prompt, params, *args, **kwargs)

    monkeypatch.setattr(LLMEngine, "add_request", keep)
    return seen


def spans_of(trajectories):
    return [(i, turn) for i, trajectory in enumerate(trajectories) for turn in trajectory.turns]


def test_turns_keep_their_stop_string_and_nothing_is_sampled_behind_it(make_vllm_trainer, tokenizer):
    output = run_rollouts(make_vllm_trainer())
    actions = set()
    for i, turn in spans_of(output["trajectory"]):
        start, end = turn.token_span
        text = tokenizer.decode(output["completion_ids"][i][start:end])
        actions.add(turn.action)
        assert sum(text.count(stop) for stop in STOP_STRINGS) <= 1
        assert text.endswith((*STOP_STRINGS, "<|im_end|>")) or end - start == 24
    assert {"search", "answer"} <= actions


def test_stop_string_that_is_a_special_token_ends_a_turn(make_vllm_trainer, tokenizer):
    """vLLM searches the text for stop strings, and by default omits special tokens from the text."""
    special = tokenizer.convert_tokens_to_ids("</answer>")
    assert special in tokenizer.all_special_ids
    output = run_rollouts(make_vllm_trainer())
    spans = [(output["completion_ids"][i], *turn.token_span) for i, turn in spans_of(output["trajectory"])]
    assert any(ids[end - 1] == special for ids, _, end in spans)
    assert not any(special in ids[start : end - 1] for ids, start, end in spans)


def test_log_probabilities_are_the_models_own_at_every_token_of_every_turn(make_vllm_trainer):
    trainer = make_vllm_trainer()
    output = run_rollouts(trainer)
    assert max(len(trajectory.turns) for trajectory in output["trajectory"]) == 3
    model = trainer.model.eval()
    rows = zip(*(output[name] for name in ("prompt_ids", "completion_ids", "env_mask", "logprobs")), strict=True)
    for prompt_ids, completion_ids, mask, logprobs in rows:
        own = own_logprobs(model, prompt_ids, completion_ids)
        expected = [value if generated else 0.0 for value, generated in zip(own, mask, strict=True)]
        assert logprobs == pytest.approx(expected, abs=1e-4)


def test_each_turn_asks_only_for_what_its_rollout_has_left(make_colocate_trainer, asked):
    trainer = make_colocate_trainer(max_completion_length=90, max_turn_length=40, max_feedback_length=50)
    output = run_rollouts(trainer)
    prompt_length = len(output["prompt_ids"][0])
    expected = [
        (prompt_length + turn.token_span[0], min(40, 90 - turn.token_span[0]))
        for _, turn in spans_of(output["trajectory"])
    ]
    assert sorted(asked) == sorted(expected)
    assert len({budget for _, budget in asked}) > 2


def test_each_row_of_a_batch_samples_up_to_its_own_budget(make_vllm_trainer):
    trainer = make_vllm_trainer()
    trainer.vllm_generation.generation_kwargs |= {"stop": [], "ignore_eos": True}
    ids, logprobs = trainer._generate_turns([[5, 6, 7]] * 4, [1, 9, 1, 5])
    assert [len(row) for row in ids] == [1, 9, 1, 5]
    assert [len(row) for row in logprobs] == [1, 9, 1, 5]


def test_engine_in_process_cuts_a_completion_where_its_context_ends(make_colocate_trainer):
    """A server refuses such a request, see `test_server.py`."""
    generation = make_colocate_trainer().vllm_generation
    generation.generation_kwargs = {"ignore_eos": True}
    generation.max_completion_length = 500
    _, (ids,), _, _ = generation.generate([[5, 6, 7] * 680], None, num_generations=1)
    assert len(ids) == 2048 - 2040


def test_second_turn_reads_its_prompt_from_the_prefix_cache(make_colocate_trainer, monkeypatch):
    trainer = make_colocate_trainer()
    llm = trainer.vllm_generation.llm
    assert llm.llm_engine.vllm_config.cache_config.enable_prefix_caching
    block_size = llm.llm_engine.vllm_config.cache_config.block_size
    generate, cached = llm.generate, []

    def watched(*args, **kwargs):
        outputs = generate(*args, **kwargs)
        cached.append([output.num_cached_tokens for output in outputs])
        return outputs

    monkeypatch.setattr(llm, "generate", watched)
    prompt = [5 + i % 300 for i in range(2 * block_size)]
    ids, _ = trainer._generate_turns([prompt], [3])
    trainer._generate_turns([prompt + ids[0] + [7, 8]], [3])
    assert cached == [[0], [2 * block_size]]


def score(trainer, rollouts):
    """Let TRL score given rollouts."""
    trainer.rollout_func = lambda prompts, trainer: rollouts
    return trainer._generate_and_score_completions([trainer.train_dataset[0]] * len(rollouts["prompt_ids"]))


@pytest.mark.parametrize(
    ("mode", "clip_max", "expected"),
    [
        # Each generated token was sampled with a log-probability lower by 0.02 than the model's own.
        ("token_truncate", 1.01, lambda mask: [1.01 if generated else 1.0 for generated in mask]),
        ("token_mask", 1.01, lambda mask: [0.0 if generated else 1.0 for generated in mask]),
        ("sequence_truncate", 50.0, lambda mask: [math.exp(0.02 * sum(mask))]),
        ("sequence_mask", 50.0, lambda mask: [math.exp(0.02 * sum(mask))]),
    ],
)
def test_feedback_has_no_part_in_the_importance_sampling_ratio(make_colocate_trainer, mode, clip_max, expected):
    trainer = make_colocate_trainer(
        vllm_importance_sampling_mode=mode, vllm_importance_sampling_clip_max=clip_max, max_completion_length=200
    )
    rollouts = run_rollouts(trainer)
    masks = rollouts["env_mask"]
    assert any(0 in mask for mask in masks)
    rollouts["logprobs"] = [
        [value - 0.02 if generated else -7.0 for value, generated in zip(logprobs, mask, strict=True)]
        for logprobs, mask in zip(rollouts["logprobs"], masks, strict=True)
    ]
    ratios = score(trainer, rollouts)["importance_sampling_ratio"].tolist()
    for ratio, mask in zip(ratios, masks, strict=True):
        assert ratio[: len(expected(mask))] == pytest.approx(expected(mask), rel=1e-3)
