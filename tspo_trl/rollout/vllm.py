"""Generation with vLLM. Every request of a turn gets its own budget.

TRL's `VLLMGeneration.generate` has one number of new tokens for the whole batch, but the rollouts of a turn have
different numbers of tokens left. With the largest number for all, rollouts near their end would sample tokens that are
thrown away. A server would also answer HTTP 400 if a prompt and `max_tokens` together exceed its context, even for one
prompt of many (vLLM 0.31, `TokenizeParams._token_len_check`). An engine in process cuts the completion short instead.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate.utils import gather_object
from trl import GRPOTrainer
from trl.generation.vllm_generation import VLLMGeneration

from .generation import replaced_method

# TRL's client keeps as many connections.
_MAX_CONCURRENT_REQUESTS = 64


class VLLMTurns:
    """
    Generates turns with vLLM, in server or colocate mode.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            Trainer with `vllm_generation`.
        stop_strings (`list[str]`):
            Strings that end a turn. The stop strings of the user's `generation_kwargs` are kept.
    """

    def __init__(self, trainer: GRPOTrainer, stop_strings: list[str]):
        self.trainer: Any = trainer
        backend = self.trainer.vllm_generation
        own = backend.generation_kwargs.get("stop") or []
        backend.generation_kwargs = {
            **backend.generation_kwargs,
            "stop": stop_strings + ([own] if isinstance(own, str) else list(own)),
            "include_stop_str_in_output": True,
            # vLLM finds stop strings in the decoded text, and a tag may be a special token.
            "skip_special_tokens": False,
        }

    def __call__(
        self, prompt_ids: list[list[int]], max_new_tokens: list[int]
    ) -> tuple[list[list[int]], list[list[float]]]:
        backend = self.trainer.vllm_generation
        backend.max_completion_length = max(max_new_tokens)
        with request_budgets(backend, max_new_tokens):
            return self.trainer._generate_single_turn(prompt_ids, None, {}, num_generations=1)


def request_budgets(vllm_generation: VLLMGeneration, budgets: list[int]) -> AbstractContextManager[None]:
    """
    Let every `vllm_generation.generate` in the context use a budget per prompt.

    If one process generates for several (server mode, tensor parallelism), the budgets are gathered over the same
    processes as the prompts. All of these processes must enter the context.

    Args:
        vllm_generation ([`~trl.generation.vllm_generation.VLLMGeneration`]):
            TRL's generation with vLLM. It must be called with `num_generations=1`.
        budgets (`list[int]`):
            Maximum number of new tokens of each prompt of this process.

    Raises:
        ValueError: The number of prompts differs from the number of budgets.
    """
    owner: Any
    generate: Callable[..., Any]
    if vllm_generation.mode == "server":
        all_budgets = gather_object(budgets)
        if not vllm_generation.accelerator.is_main_process:
            return nullcontext()  # only the main process has a client
        owner, generate = vllm_generation.vllm_client, _generate_on_server
    else:
        all_budgets = _gather_over_tensor_parallel_group(vllm_generation, budgets)
        owner, generate = vllm_generation.llm, _generate_in_process
    return replaced_method(owner, "generate", functools.partial(generate, owner.generate, all_budgets))


def _gather_over_tensor_parallel_group(vllm_generation: VLLMGeneration, budgets: list[int]) -> list[int]:
    """Budgets of the processes that share one engine, in TRL's order of their prompts."""
    if vllm_generation.tensor_parallel_size == 1:
        return budgets
    gathered: list[Any] = [None] * vllm_generation.tensor_parallel_size
    torch.distributed.all_gather_object(gathered, budgets, group=vllm_generation.tp_group)
    return [budget for of_one_process in gathered for budget in of_one_process]


def _generate_in_process(
    generate: Callable[..., list], budgets: list[int], prompts: list, *, sampling_params: Any, **kwargs: Any
) -> list:
    """`vllm.LLM.generate` with one `SamplingParams` per prompt."""
    params = [sampling_params.clone() for _ in prompts]
    for one, budget in zip(params, budgets, strict=True):
        one.max_tokens = budget
    return generate(prompts, sampling_params=params, **kwargs)


def _generate_on_server(
    generate: Callable[..., dict], budgets: list[int], *, prompts: list, max_tokens: int, **kwargs: Any
) -> dict[str, list]:
    """TRL's `VLLMClient.generate` with one request per distinct budget, because a request has one `max_tokens`."""
    rows_of: dict[int, list[int]] = {}
    for row, (_, budget) in enumerate(zip(prompts, budgets, strict=True)):
        rows_of.setdefault(budget, []).append(row)

    def send(budget: int) -> dict[str, list]:
        return generate(prompts=[prompts[row] for row in rows_of[budget]], max_tokens=budget, **kwargs)

    # Concurrent, so that the engine batches the requests.
    with ThreadPoolExecutor(min(len(rows_of), _MAX_CONCURRENT_REQUESTS)) as executor:
        answers = list(executor.map(send, rows_of))
    merged: dict[str, list] = {name: [None] * len(prompts) for name in answers[0]}
    for rows, answer in zip(rows_of.values(), answers, strict=True):
        for name, values in answer.items():
            for row, value in zip(rows, values, strict=True):
                merged[name][row] = value
    return merged
