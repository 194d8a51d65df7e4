"""Generation with transformers, and everything that rollouts use of TRL's generation.

[`TransformersTurns`] generates turns with TRL's `GRPOTrainer._generate_single_turn`. `stopping.py` has its stopping
criterion, and `vllm.py` generates turns with vLLM.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList, StopStringCriteria
from trl import GRPOTrainer

from ..trajectory import Trajectory, Turn
from .greedy import no_defaults
from .positions import limited_positions, max_positions
from .stopping import TurnEnd
from .tool_results import evidence_in_feedback, results_of_tools


class TransformersTurns:
    """
    Generates turns with `model.generate`.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            Trainer of the model.
        stop_strings (`list[str]`):
            Strings that end a turn.
    """

    def __init__(self, trainer: GRPOTrainer, stop_strings: list[str]):
        self.trainer: Any = trainer
        self.stop_strings = StopStringCriteria(self.trainer._tokenizer, stop_strings) if stop_strings else None

    def __call__(self, prompt_ids: list[list[int]], max_new_tokens: list[int]) -> tuple[list[list[int]], None]:
        trainer = self.trainer
        trainer.generation_config.max_new_tokens = max(max_new_tokens)
        turn_end = TurnEnd(self.stop_strings, max_new_tokens)
        model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
        is_greedy = getattr(trainer, "is_greedy", False)
        defaults = no_defaults(model) if is_greedy else nullcontext()
        with stop_generation(model, turn_end), limited_positions(model), defaults:
            completion_ids, _ = trainer._generate_single_turn(prompt_ids, None, {}, num_generations=1)
        return turn_end.cut(completion_ids), None


def context_length(trainer: GRPOTrainer) -> int | None:
    """
    Return the context length of a trainer's generation backend.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            Initialised trainer.

    Returns:
        `int`, *optional*: number of tokens, `None` if it is unknown.
    """
    own: Any = trainer
    if not own.use_vllm:
        return max_positions(own.model.config)
    if own.vllm_mode == "colocate":
        return int(own.vllm_generation.llm.llm_engine.model_config.max_model_len)
    client = own.vllm_generation.vllm_client if own.accelerator.is_main_process else None
    length = [client.get_server_info()["model_config"]["max_model_len"] if client else None]
    return int(broadcast_object_list(length, from_process=0)[0])


def tokenize_prompts(trainer: GRPOTrainer, prompts: list, tools: list[Any] | None) -> list[list[int]]:
    """
    Tokenize prompts as TRL does, with the tools of a protocol.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            Trainer with tokenizer and chat template.
        prompts (`list`):
            Texts or messages.
        tools (`list`, *optional*):
            Tools that the chat template shows in the prompt.

    Returns:
        `list[list[int]]`: token ids of each prompt.
    """
    own: Any = trainer
    tools_of_trainer = own.tools
    # Set for this call only. With `tools`, TRL would run its own tool loop.
    own.tools = tools or []
    try:
        prompt_ids: list[list[int]] = own._tokenize_prompts(prompts)[0]
        return prompt_ids
    finally:
        own.tools = tools_of_trainer


def is_generation_collective(trainer: GRPOTrainer) -> bool:
    """
    Check whether the processes of a run generate together.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            Initialised trainer.

    Returns:
        `bool`
    """
    own: Any = trainer
    if own.accelerator.num_processes == 1:
        return False
    is_sharded = bool(own._dist.is_zero3 or own._dist.is_fsdp)
    if own.use_vllm:
        if own.vllm_mode == "server" or own.vllm_generation.tensor_parallel_size > 1:
            return True
        # An engine that slept gets the weights again with every request.
        return is_sharded and bool(own.vllm_generation.enable_sleep_mode)
    return is_sharded


def trajectory_of_generation(
    ids: list[int], mask: list[int], tokenizer: PreTrainedTokenizerBase, completion: Any = None
) -> Trajectory:
    """
    Make a trajectory from a completion of TRL's own generation (`tools`, environments, a `rollout_func`).

    Args:
        ids (`list[int]`):
            Token ids of the completion.
        mask (`list[int]`):
            For each token, 1 if the model generated it, 0 if a tool returned it. Missing values count as 1, as TRL
            pads a mask.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Decodes the tokens.
        completion (`list[dict]` or `str`, *optional*):
            The completion as messages or text. Its tool messages say what the tools returned.

    Returns:
        [`Trajectory`]: one turn per run of generated tokens. The tool tokens after it are its feedback. Tool tokens
        before the first turn belong to no turn. Without a generated token there is one empty turn. Only what a tool
        returned is evidence: not the text of the chat template, and not the error of a tool that failed.
    """
    is_generated = [bool(bit) for bit in mask[: len(ids)]] + [True] * (len(ids) - len(mask))
    runs = [(of_model, list(run)) for of_model, run in itertools.groupby(range(len(ids)), is_generated.__getitem__)]
    results = results_of_tools(completion)
    has_results = len(results) == sum(not of_model for of_model, _ in runs)
    turns: list[Turn] = []
    for of_model, positions in runs:
        span = positions[0], positions[-1] + 1
        text = str(tokenizer.decode(ids[slice(*span)], skip_special_tokens=True))
        if of_model:
            turns.append(Turn(text=text, token_span=span))
            continue
        evidence = results.pop(0) if has_results else evidence_in_feedback(text)
        if turns:
            turns[-1] = replace(turns[-1], feedback=text, feedback_span=span, evidence=evidence)
    turns = turns or [Turn(text="", token_span=(len(ids), len(ids)))]
    return Trajectory(turns=tuple(turns), end_reason="generated")


def stop_generation(model: Any, criterion: StoppingCriteria) -> AbstractContextManager[None]:
    """
    Let every `model.generate` in the context use a stopping criterion.

    Args:
        model ([`~transformers.PreTrainedModel`] or `PeftModel`):
            Unwrapped model.
        criterion ([`~transformers.StoppingCriteria`]):
            The criterion.
    """
    generate = functools.partial(model.generate, stopping_criteria=StoppingCriteriaList([criterion]))
    return replaced_method(model, "generate", generate)


@contextmanager
def replaced_method(owner: Any, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """
    Replace a method of an object in the context.

    Args:
        owner (`Any`):
            The object.
        name (`str`):
            Name of the method.
        method (`Callable`):
            Replacement.
    """
    own = vars(owner).get(name)  # FSDP sets `generate` on the object itself, to gather weights
    setattr(owner, name, method)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)  # the method of the class is visible again
        else:
            setattr(owner, name, own)
