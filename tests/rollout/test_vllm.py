"""Every vLLM request has its own budget. The fakes only record. `tests/vllm_engine` tests with vLLM itself."""

import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate import PartialState
from trl.generation.vllm_generation import VLLMGeneration

from tspo_trl.rollout.vllm import request_budgets


@dataclass
class Params:
    """The parts of vLLM's `SamplingParams` that matter here."""

    max_tokens: int
    temperature: float = 1.0

    def clone(self):
        return replace(self)


class Engine:
    """Fake `vllm.LLM`."""

    def __init__(self):
        self.calls = []

    def generate(self, prompts, sampling_params=None, use_tqdm=True):
        self.calls.append((prompts, sampling_params))
        return ["output"] * len(prompts)


class Client:
    """Fake `VLLMClient` of TRL. It completes `[7]` with `[107]`."""

    def __init__(self, meet=lambda: None):
        self.requests = []
        self.meet = meet

    def generate(self, prompts, max_tokens, **options):
        self.requests.append((max_tokens, prompts, options))
        self.meet()
        return {
            "prompt_ids": prompts,
            "completion_ids": [[100 + ids[0]] for ids in prompts],
            "logprobs": [[[-float(ids[0])]] for ids in prompts],
            "logprob_token_ids": [[[100 + ids[0]]] for ids in prompts],
        }


def in_process(engine, tensor_parallel_size=1, tp_group=None):
    return SimpleNamespace(mode="colocate", llm=engine, tensor_parallel_size=tensor_parallel_size, tp_group=tp_group)


def on_server(client):
    """TRL's `VLLMGeneration` with a fake client."""
    generation = object.__new__(VLLMGeneration)
    vars(generation).update(
        {"mode": "server", "accelerator": PartialState(), "vllm_client": client, "structured_outputs_regex": None},
        temperature=1.0, top_p=1.0, top_k=0, min_p=None, repetition_penalty=1.0, logprobs=0,
        max_completion_length=99, generation_kwargs={"stop": ["</search>"]},
    )  # fmt: skip
    return generation


def generate(generation, prompts):
    return generation.generate(prompts=prompts, images=None, num_generations=1)


def test_each_prompt_in_process_has_its_own_sampling_parameters():
    engine, shared = Engine(), Params(max_tokens=99, temperature=0.7)
    with request_budgets(in_process(engine), [3, 1, 3]):
        outputs = engine.generate(["a", "b", "c"], sampling_params=shared, use_tqdm=False)
    assert outputs == ["output"] * 3
    assert engine.calls == [(["a", "b", "c"], [Params(3, 0.7), Params(1, 0.7), Params(3, 0.7)])]
    assert shared.max_tokens == 99


def test_server_gets_one_request_for_each_distinct_budget():
    client = Client()
    with request_budgets(on_server(client), [5, 2, 5]):
        generate(on_server(client), [[1], [2], [3]])
    requests = sorted(client.requests, key=lambda request: request[0])
    assert [request[:2] for request in requests] == [(2, [[2]]), (5, [[1], [3]])]
    for _, _, options in requests:
        assert options["n"] == 1
        assert options["generation_kwargs"] == {"stop": ["</search>"]}


def test_answers_of_the_server_come_in_the_order_of_the_prompts():
    client = Client()
    with request_budgets(on_server(client), [5, 2, 5, 9, 2]):
        prompt_ids, completion_ids, logprobs, token_ids = generate(on_server(client), [[1], [2], [3], [4], [5]])
    assert prompt_ids == [[1], [2], [3], [4], [5]]
    assert completion_ids == [[101], [102], [103], [104], [105]]
    assert logprobs == [[[-1.0]], [[-2.0]], [[-3.0]], [[-4.0]], [[-5.0]]]
    assert token_ids == [[[101]], [[102]], [[103]], [[104]], [[105]]]


def test_requests_to_the_server_are_under_way_together():
    client = Client(meet=threading.Barrier(3, timeout=20).wait)  # breaks if they come one after another
    with request_budgets(on_server(client), [1, 2, 3]):
        generate(on_server(client), [[1], [2], [3]])
    assert len(client.requests) == 3


def test_equal_budgets_make_one_request():
    client = Client()
    with request_budgets(on_server(client), [4, 4, 4]):
        generate(on_server(client), [[1], [2], [3]])
    assert [request[:2] for request in client.requests] == [(4, [[1], [2], [3]])]


def test_another_number_of_prompts_than_budgets_is_an_error():
    client, engine = Client(), Engine()
    with request_budgets(on_server(client), [4, 4]), pytest.raises(ValueError, match="zip"):
        generate(on_server(client), [[1], [2], [3]])
    with request_budgets(in_process(engine), [4, 4]), pytest.raises(ValueError, match="zip"):
        engine.generate(["a", "b", "c"], sampling_params=Params(99))
    assert client.requests == engine.calls == []


@pytest.mark.parametrize("kind", ["engine", "client"])
def test_generate_is_the_owners_own_again_behind_a_failure(kind):
    owner = Engine() if kind == "engine" else Client()
    generation = in_process(owner) if kind == "engine" else on_server(owner)
    with suppress(RuntimeError), request_budgets(generation, [1]):
        assert "generate" in vars(owner)
        raise RuntimeError("generation failed")
    assert "generate" not in vars(owner)


@pytest.mark.slow
def test_budgets_of_two_processes_are_gathered_as_trl_gathers_their_prompts():
    """Two processes run this file as a script, with the assertions at its end."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", __file__]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("as expected") == 2


def _run_one_of_two_processes():
    import torch

    state = PartialState(cpu=True)
    prompts, budgets = ([[1], [2]], [5, 2]) if state.process_index == 0 else ([[3], [4]], [2, 7])

    client = Client() if state.is_main_process else None
    with request_budgets(on_server(client), budgets):
        _, completion_ids, _, _ = generate(on_server(client), prompts)
    assert completion_ids == [[100 + ids[0]] for ids in prompts]
    if state.is_main_process:
        requests = sorted(request[:2] for request in client.requests)
        assert requests == [(2, [[2], [3]]), (5, [[1]]), (7, [[4]])]

    engine = Engine()
    group = torch.distributed.new_group([0, 1])
    with request_budgets(in_process(engine, tensor_parallel_size=2, tp_group=group), budgets):
        engine.generate(["a", "b", "c", "d"], sampling_params=Params(99))
    assert [params.max_tokens for params in engine.calls[0][1]] == [5, 2, 2, 7]
    print("as expected", flush=True)
    state.destroy_process_group()


if __name__ == "__main__":
    _run_one_of_two_processes()
