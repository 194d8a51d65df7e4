"""TRL's own generation as the turn loop's generator: ended at an action, each rollout within its own budget.

There is one for each of TRL's backends. Both call `GRPOTrainer._generate_single_turn`, which takes token ids and gives
token ids; what a turn needs beyond that is set on the backend.
"""

from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import StopStringCriteria
from trl import GRPOTrainer

from .stopping import TurnEnd, stop_generation
from .vllm_requests import request_budgets


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


class VLLMTurns:
    """
    Generates turns with vLLM, in either mode.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            Whose `vllm_generation` generates.
        stop_strings (`list[str]`):
            Strings that end a turn, besides those of the user's own `generation_kwargs`.
    """

    def __init__(self, trainer: GRPOTrainer, stop_strings: list[str]):
        self.trainer: Any = trainer
        backend = self.trainer.vllm_generation
        own = backend.generation_kwargs.get("stop") or []
        backend.generation_kwargs = {
            **backend.generation_kwargs,
            "stop": stop_strings + ([own] if isinstance(own, str) else list(own)),
            "include_stop_str_in_output": True,
            # Stop strings are looked for in the decoded text: a tag may be a special token.
            "skip_special_tokens": False,
        }

    def __call__(
        self, prompt_ids: list[list[int]], max_new_tokens: list[int]
    ) -> tuple[list[list[int]], list[list[float]]]:
        backend = self.trainer.vllm_generation
        backend.max_completion_length = max(max_new_tokens)
        with request_budgets(backend, max_new_tokens):
            return self.trainer._generate_single_turn(prompt_ids, None, {}, num_generations=1)


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
