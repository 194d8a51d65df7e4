"""Evaluation with vLLM, in process and as an OpenAI-compatible server, gives the same rollouts as transformers."""

import functools

import pytest

pytest.importorskip("vllm_on_cpu", reason="needs the environment of `make test-vllm`")

from tspo_trl.evaluation.arguments import AgentArguments
from tspo_trl.evaluation.backends import open_agent
from tspo_trl.trajectory import read_json_lines

# Questions of different lengths, because the policy's actions depend on the position.
ROWS = [{"question": f"Number {number}{' and' * number}, what is the capital of France?"} for number in range(24)]
BUDGETS = {"max_turns": 2, "max_turn_length": 24, "max_feedback_length": 60, "max_completion_length": 200}


@pytest.fixture
def rollouts(searching_model_path, retriever):
    """Answer the questions with a backend."""

    def make(backend, model=searching_model_path, **arguments):
        arguments = {"search_top_k": 1, "dtype": "float32", **BUDGETS, **arguments}
        return open_agent(AgentArguments(model, backend=backend, **arguments), retriever).answer(ROWS)

    return make


def texts(trajectories):
    return [([turn.text for turn in one.turns], one.end_reason) for one in trajectories]


def test_engine_in_this_process_makes_the_rollouts_of_transformers(rollouts, monkeypatch):
    import vllm

    monkeypatch.setattr(vllm, "LLM", functools.partial(vllm.LLM, enforce_eager=True))  # compiling takes minutes
    engine = rollouts("vllm")
    assert texts(engine) == texts(rollouts("transformers"))
    assert "search" in {turn.action for one in engine for turn in one.turns}


@pytest.mark.parametrize("budget", [24, 5])
def test_server_makes_the_rollouts_of_transformers(rollouts, searching_model_path, server_url, budget):
    endpoint = {"base_url": f"{server_url}/v1", "tokenizer": searching_model_path, "max_turn_length": budget}
    assert texts(rollouts("openai", **endpoint)) == texts(rollouts("transformers", max_turn_length=budget))


def test_evaluation_of_the_trainer_makes_the_rollouts_of_transformers(rollouts, make_colocate_trainer, tmp_path):
    from datasets import Dataset

    rows = Dataset.from_list([{**row, "id": str(i), "golden_answers": ["Paris"]} for i, row in enumerate(ROWS)])
    trainer = make_colocate_trainer(
        per_device_eval_batch_size=8, trainer_kwargs={"eval_dataset": rows}, generation_kwargs={"temperature": 0.7}
    )
    trainer.evaluate()
    path = tmp_path / "out" / "trajectories" / "eval_step_000000.jsonl"
    records = sorted(read_json_lines(path), key=lambda record: int(record["id"]))
    evaluated = [([turn["text"] for turn in record["turns"]], record["end_reason"]) for record in records]
    assert evaluated == texts(rollouts("transformers"))
