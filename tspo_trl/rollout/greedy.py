"""Greedy decoding: each token is the most probable one of the policy.

The policy is the distribution that training optimises: the model's logits, without penalties, bans and forced tokens.
The evaluation of the trainer and `tspo-trl evaluate` both take their settings from here.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import GenerationConfig

# Settings of vLLM that end or decode a text. All others change which token comes next.
_KEPT = (
    "stop",
    "stop_token_ids",
    "include_stop_str_in_output",
    "skip_special_tokens",
    "spaces_between_special_tokens",
)


def greedy_config(eos_token_ids: Sequence[int], pad_token_id: int | None, **execution: Any) -> GenerationConfig:
    """
    Return the configuration of greedy decoding with transformers. Use it inside [`no_defaults`].

    Args:
        eos_token_ids (sequence of `int`):
            Tokens that end a turn.
        pad_token_id (`int`, *optional*):
            Token that pads the turns of a batch.
        **execution:
            Further settings that do not change the tokens, such as `max_new_tokens` and `cache_implementation`.

    Returns:
        [`~transformers.GenerationConfig`]
    """
    return GenerationConfig(do_sample=False, eos_token_id=list(eos_token_ids), pad_token_id=pad_token_id, **execution)


@contextmanager
def no_defaults(model: nn.Module) -> Iterator[None]:
    """
    Ignore the model's generation configuration. `generate` fills unset values from it, such as penalties.

    Args:
        model ([`~transformers.PreTrainedModel`] or `PeftModel`):
            Unwrapped model.
    """
    # An adapter's `generate` copies the configuration to the model below it.
    kept = [(module, vars(module)["generation_config"]) for module in model.modules() if _has_defaults(module)]
    for module, _ in kept:
        setattr(module, "generation_config", GenerationConfig())  # noqa: B010
    try:
        yield
    finally:
        for module, config in kept:
            setattr(module, "generation_config", config)  # noqa: B010


def _has_defaults(module: nn.Module) -> bool:
    return isinstance(vars(module).get("generation_config"), GenerationConfig)


def greedy_sampling(own: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """
    Return the sampling parameters of greedy decoding with vLLM.

    Args:
        own (mapping, *optional*):
            Parameters of sampling. Those that end a turn are kept.

    Returns:
        `dict[str, Any]`: keyword arguments of `vllm.SamplingParams`.
    """
    kept = {name: value for name, value in (own or {}).items() if name in _KEPT}
    # Without values, a trainer's penalties and a server's defaults would apply.
    penalties = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    return {**kept, "temperature": 0.0, **penalties}
