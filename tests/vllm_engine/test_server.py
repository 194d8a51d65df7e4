"""Training with a vLLM server in one and two processes. The server samples from the current weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("vllm_on_cpu", reason="needs the environment of `make test-vllm`")

from tspo_trl.rollout.vllm import request_budgets

from .measures import MAX_LOGP_DIFFERENCE, assert_that_stale_weights_are_seen, logp_differences
from .vllm_server import free_port

SCRIPT = Path(__file__).parent / "unequal_turns.py"


def test_four_steps_sample_from_the_weights_in_training(make_server_trainer):
    trainer = make_server_trainer(max_steps=4, learning_rate=2e-3)
    trainer.train()
    differences = logp_differences(trainer)
    assert len(differences) == 4
    assert max(differences) < MAX_LOGP_DIFFERENCE


def test_weights_that_stay_behind_are_seen(make_server_trainer):
    assert_that_stale_weights_are_seen(make_server_trainer)


def test_lora_is_merged_for_sampling(make_server_trainer):
    from peft import LoraConfig

    config = LoraConfig(r=8, lora_alpha=64, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = make_server_trainer(max_steps=4, learning_rate=5e-3, trainer_kwargs={"peft_config": config})
    trainer.train()
    differences = logp_differences(trainer)
    assert len(differences) == 4
    assert max(differences) < MAX_LOGP_DIFFERENCE


def test_server_refuses_a_batch_for_one_prompt_that_asks_for_more_than_its_context(make_server_trainer):
    generation = make_server_trainer().vllm_generation
    prompts, budgets = [[5, 6, 7] * 680, [5, 6, 7]], [8, 500]  # a context of 2048 tokens: 2040 of a prompt, 8 more
    generation.max_completion_length = max(budgets)
    with pytest.raises(Exception, match=r"Request failed: 400, .*maximum context length is 2048"):
        generation.generate(prompts, None, num_generations=1)
    with request_budgets(generation, budgets):
        prompt_ids, completion_ids, logprobs, _ = generation.generate(prompts, None, num_generations=1)
    assert prompt_ids == prompts
    assert [len(ids) <= budget for ids, budget in zip(completion_ids, budgets, strict=True)] == [True, True]
    assert [len(values) for values in logprobs] == [len(ids) for ids in completion_ids]


def test_two_processes_with_unequal_turns_get_their_own_completions(
    server_url, searching_model_path, index_path, tmp_path
):
    arguments = [searching_model_path, index_path, server_url, free_port(), tmp_path]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", SCRIPT]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*map(str, command), *map(str, arguments)],
        capture_output=True, text=True, timeout=300, env=environment, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1))
    assert first["turns"] == [1] * 4
    assert second["turns"] == [3] * 4
    for rank in (first, second):
        assert len(rank["differences"]) == 4
        assert max(rank["differences"]) < MAX_LOGP_DIFFERENCE
    assert first["parameters"] == second["parameters"]
