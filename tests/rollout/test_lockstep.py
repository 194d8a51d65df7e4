"""Processes that generate together stay in lockstep, even if their numbers of turns differ."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.rollout.generation import is_generation_collective
from tspo_trl.rollout.loop import RolloutLoop
from tspo_trl.rollout.state import RolloutLimits

LIMITS = RolloutLimits(max_turns=4, max_turn_length=60, max_feedback_length=120, max_completion_length=800, top_k=1)
SEARCH, ANSWER = "<search> Rome </search>", "<answer> A </answer>"
SCRIPT = Path(__file__).parent / "lockstep_run.py"


class Meeting:
    """Exchange of values between two threads. Each waits for the other, as in a collective operation."""

    def __init__(self):
        self.values = [None, None]
        self.barrier = threading.Barrier(2, timeout=30)

    def exchange(self, rank, value):
        self.values[rank] = value
        self.barrier.wait()
        values = list(self.values)
        self.barrier.wait()
        return values


def run_two(tokenizer, retriever, scripts, limits=LIMITS):
    """Run the turn loop in two threads that generate together. Return the rollouts and the sizes of each call."""
    meeting, sizes, rollouts = Meeting(), [[], []], [None, None]

    def run(rank):
        played = [list(script) for script in scripts[rank]]

        def generate(prompt_ids, max_new_tokens):
            assert len(prompt_ids) == len(max_new_tokens)
            sizes[rank].append(meeting.exchange(rank, max_new_tokens)[rank])
            turns = [played[ids[1]].pop(0) if played[ids[1]] else "inert" for ids in prompt_ids]
            return [
                tokenizer(text)["input_ids"][:budget] for text, budget in zip(turns, max_new_tokens, strict=True)
            ], None

        loop = RolloutLoop(tokenizer, retriever, TagProtocol(), limits)
        prompts = [[5, i] for i in range(len(played))]
        rollouts[rank], _ = loop.run(prompts, generate, lambda count: max(meeting.exchange(rank, count)))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return rollouts, sizes


def texts(rollouts):
    return [[turn.text for turn in rollout.turns] for rollout in rollouts]


def test_process_whose_rollouts_have_ended_generates_on_with_the_others(tokenizer, retriever):
    scripts = [[[ANSWER], [ANSWER]], [[SEARCH, SEARCH, ANSWER], [SEARCH, ANSWER]]]
    (first, second), sizes = run_two(tokenizer, retriever, scripts)
    assert texts(first) == scripts[0]
    assert texts(second) == scripts[1]
    # Two prompts each at first. Then one process has no rollout left, and repeats a prompt with a budget of one token.
    assert sizes == [[[60, 60], [1, 1], [1]], [[60, 60], [60, 60], [60]]]


def test_process_with_fewer_rollouts_left_brings_inert_prompts(tokenizer, retriever):
    scripts = [[[ANSWER], [SEARCH, ANSWER]], [[SEARCH, ANSWER], [SEARCH, ANSWER]]]
    (first, second), sizes = run_two(tokenizer, retriever, scripts)
    assert texts(first) == scripts[0]
    assert texts(second) == scripts[1]
    assert sizes == [[[60, 60], [60, 1]], [[60, 60], [60, 60]]]


def test_inert_prompts_leave_no_token_in_a_rollout(tokenizer, retriever):
    scripts = [[[ANSWER]], [[SEARCH, ANSWER]]]
    (first, _), _ = run_two(tokenizer, retriever, scripts)
    assert first[0].completion_ids == tokenizer(ANSWER)["input_ids"]


def trainer(
    num_processes=2, use_vllm=False, mode="colocate", tensor_parallel=1, sleeps=False, is_zero3=False, is_fsdp=False
):
    return SimpleNamespace(
        accelerator=SimpleNamespace(num_processes=num_processes),
        use_vllm=use_vllm,
        vllm_mode=mode,
        vllm_generation=SimpleNamespace(tensor_parallel_size=tensor_parallel, enable_sleep_mode=sleeps),
        _dist=SimpleNamespace(is_zero3=is_zero3, is_fsdp=is_fsdp),
    )


@pytest.mark.parametrize(
    ("setting", "is_collective"),
    [
        ({}, False),
        ({"use_vllm": True}, False),
        ({"use_vllm": True, "mode": "server"}, True),
        ({"use_vllm": True, "tensor_parallel": 2}, True),
        ({"is_zero3": True}, True),
        ({"is_fsdp": True}, True),
        ({"is_zero3": True, "use_vllm": True}, False),  # each process has its own engine,
        ({"is_zero3": True, "use_vllm": True, "sleeps": True}, True),  # but waking it up takes weights from all
        ({"is_fsdp": True, "use_vllm": True, "sleeps": True}, True),
        ({"use_vllm": True, "sleeps": True}, False),
        ({"num_processes": 1, "use_vllm": True, "mode": "server"}, False),
    ],
)
def test_generation_is_collective_where_processes_share_an_engine_or_the_weights(setting, is_collective):
    assert is_generation_collective(trainer(**setting)) is is_collective


def run_script(loop, model_path, index_path, output, timeout):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0"]
    command += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0"]
    command += [str(SCRIPT), loop, str(model_path), str(index_path), str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, check=False)


def answers_of_two_processes(loop, model_path, index_path, output):
    """Answers that each process received. `None` if it did not finish."""
    try:
        result = run_script(loop, model_path, index_path, output, timeout=120)
        errors = result.stderr
    except subprocess.TimeoutExpired as error:
        errors = (error.stderr or b"").decode()
    assert all((output / f"started_{rank}").is_file() for rank in (0, 1)), errors[-3000:]
    paths = [output / f"rank_{rank}.json" for rank in (0, 1)]
    return [json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None for path in paths]


OWN_ANSWERS = [
    ["answer of question 0", "answer of question 1"],
    ["answer of question 2", "answer of question 3"],
]


@pytest.mark.slow
def test_two_processes_with_unequal_turns_get_their_own_completions(searching_model_path, index_path, tmp_path):
    """TRL's code gathers the prompts of two real processes for a server, and distributes its completions."""
    assert answers_of_two_processes("ours", searching_model_path, index_path, tmp_path) == OWN_ANSWERS


@pytest.mark.slow
def test_trls_own_tool_loop_loses_step(chat_model_path, index_path, tmp_path):
    """The reason for our lockstep (huggingface/trl pull 6673). If this fails, TRL no longer needs it."""
    assert answers_of_two_processes("trl", chat_model_path, index_path, tmp_path) != OWN_ANSWERS
