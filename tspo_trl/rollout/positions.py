"""The positions of a model, and generation that stays within them.

`model.generate` continues until the last row of a batch ends. A long row that has ended is padded meanwhile, beyond
the model's positions if a short row has a larger budget. Models with an embedding or a table per position then fail.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len")


def max_positions(config: Any) -> int | None:
    """
    Return the number of positions of a model.

    Args:
        config ([`~transformers.PreTrainedConfig`]):
            Configuration of the model.

    Returns:
        `int`, *optional*: number of tokens, `None` if the configuration does not limit it.
    """
    declared = (getattr(config.get_text_config(), name, None) for name in _NAMES)
    return next((value for value in declared if isinstance(value, int) and value > 0), None)


@contextmanager
def limited_positions(model: Any) -> Iterator[None]:
    """
    Let the rows of a batch that have ended stay at the model's last position. Other rows do not change.

    Args:
        model ([`~transformers.PreTrainedModel`] or `PeftModel`):
            Unwrapped model.
    """
    length = max_positions(model.config)
    own = model.get_base_model() if hasattr(model, "get_base_model") else model  # the one that `generate` calls

    def limit(module: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        positions = kwargs.get("position_ids")
        if length is not None and positions is not None:
            kwargs["position_ids"] = positions.clamp(max=length - 1)
        return args, kwargs

    hook = own.register_forward_pre_hook(limit, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
