"""The transformers backend, and what the turn loop needs to know of TRL's generation.

`GRPOTrainer._generate_single_turn` takes and returns token ids. What a turn needs beyond that is set on the backend.
`vllm.py` does the same for vLLM.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList, StopStringCriteria
from trl import GRPOTrainer

from ..trajectory import Trajectory, Turn
from .stopping import TurnEnd


class TransformersTurns:
    """
    Generates turns with `model.generate`.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            Whose model generates.
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
        with stop_generation(trainer.accelerator.unwrap_model(trainer.model_wrapped), turn_end):
            completion_ids, _ = trainer._generate_single_turn(prompt_ids, None, {}, num_generations=1)
        return turn_end.cut(completion_ids), None


def context_length(trainer: GRPOTrainer) -> int | None:
    """
    Tokens that the generation backend of a trainer can hold.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            The trainer, initialised.

    Returns:
        `int`, *optional*: `None` where that is not known.
    """
    own: Any = trainer
    if not own.use_vllm:
        return getattr(own.model.config.get_text_config(), "max_position_embeddings", None)
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
            Trainer that tokenizes.
        prompts (`list`):
            Texts or messages.
        tools (`list`, *optional*):
            Tools that the chat template shows in the prompt.

    Returns:
        `list[list[int]]`: token ids of each prompt.
    """
    own: Any = trainer
    tools_of_trainer = own.tools
    # Only for this call: if `tools` stayed set, TRL would run its own tool loop.
    own.tools = tools or []
    try:
        prompt_ids: list[list[int]] = own._tokenize_prompts(prompts)[0]
        return prompt_ids
    finally:
        own.tools = tools_of_trainer


def is_generation_collective(trainer: GRPOTrainer) -> bool:
    """
    Whether the processes of a run generate together.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            The trainer, initialised.

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
        # An engine that slept is sent the weights again with every request.
        return is_sharded and bool(own.vllm_generation.enable_sleep_mode)
    return is_sharded


def trajectory_of_generation(ids: list[int], mask: list[int], tokenizer: PreTrainedTokenizerBase) -> Trajectory:
    """
    The trajectory of a completion that TRL's own generation made (`tools`, environments, a `rollout_func`).

    Args:
        ids (`list[int]`):
            Token ids of the completion.
        mask (`list[int]`):
            For each, 1 if the model generated it, 0 if a tool returned it.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Decodes them.

    Returns:
        [`Trajectory`]: a turn for each run of generated tokens, with the run of tool tokens behind it as feedback.
    """
    changes = [i for i in range(1, len(mask)) if mask[i] != mask[i - 1]]
    spans = list(zip([0, *changes], [*changes, len(ids)], strict=True))
    turns: list[Turn] = []
    for start, end in spans:
        text = str(tokenizer.decode(ids[start:end], skip_special_tokens=True))
        if mask[start]:
            turns.append(Turn(text=text, token_span=(start, end)))
        else:
            turns[-1] = replace(turns[-1], feedback=text, feedback_span=(start, end), evidence=text)
    return Trajectory(turns=tuple(turns), end_reason="generated")


def stop_generation(model: Any, criterion: StoppingCriteria) -> AbstractContextManager[None]:
    """
    Have every `model.generate` in the context use a stopping criterion.

    Args:
        model ([`~transformers.PreTrainedModel`] or `PeftModel`):
            The model, unwrapped.
        criterion ([`~transformers.StoppingCriteria`]):
            The criterion.
    """
    generate = functools.partial(model.generate, stopping_criteria=StoppingCriteriaList([criterion]))
    return replaced_method(model, "generate", generate)


@contextmanager
def replaced_method(owner: Any, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """
    Have an object use another method within the context.

    Args:
        owner (`Any`):
            The object.
        name (`str`):
            Name of the method.
        method (`Callable`):
            What stands in its place.
    """
    own = vars(owner).get(name)  # FSDP gives the object itself a `generate`, which gathers weights
    setattr(owner, name, method)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)  # the class's method shows again
        else:
            setattr(owner, name, own)
