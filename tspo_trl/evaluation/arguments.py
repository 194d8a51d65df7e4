"""The policy of an evaluation as checked arguments, in Python and on the command line."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from ..search.identity import fingerprint_of
from .openai_client import API

Backend = Literal["transformers", "vllm", "openai"]
ProtocolName = Literal["tags", "chat"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]

_NOT_DECISIVE = ("max_concurrency", "tensor_parallel_size", "gpu_memory_utilization")
_WEIGHTS = ("*.safetensors", "*.bin")


def _argument(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class AgentArguments:
    """
    A policy and the budgets of its rollouts. The budgets default to those of [`TSPOConfig`].

    The `help` of each field documents it, and is the help text of `tspo-trl evaluate`.

    Raises:
        ValueError: An argument is out of its range, or two arguments contradict each other.
    """

    model: str = field(metadata={"help": "folder or hub name of the model, or its name at the endpoint"})
    backend: Backend = _argument(
        "transformers", "generation backend: transformers, vLLM in this process, or an endpoint"
    )
    revision: str | None = _argument(None, "branch, tag or commit of the model on the hub")
    tokenizer: str | None = _argument(None, "folder or hub name of the tokenizer (default: that of the model)")
    protocol: ProtocolName = _argument("tags", "Search-R1's tags, or tool calls in the model's chat template")
    chat_template_kwargs: dict[str, Any] | None = _argument(
        None,
        "variables of the chat template as JSON, such as '{\"enable_thinking\": false}'; use those of the training",
    )
    dtype: Dtype = _argument("auto", "type of the weights; auto is the checkpoint's")
    max_turns: int = _argument(4, "turns that may search, before one last turn to answer")
    max_turn_length: int = _argument(500, "tokens that the model may generate in a turn")
    max_feedback_length: int = _argument(500, "tokens of a feedback, tags included")
    max_completion_length: int = _argument(4096, "tokens of all turns and feedbacks of a rollout")
    search_top_k: int = _argument(3, "passages per search")
    max_context_length: int | None = _argument(
        None, "tokens of prompt and completion (default: the model's context, if the backend names it)"
    )
    base_url: str | None = _argument(
        None, "OpenAI-compatible endpoint, such as http://localhost:8000/v1; OPENAI_API_KEY is its key"
    )
    api: API = _argument(
        "completions",
        "API of the endpoint: completions continues the text as in training; chat sends a message a turn, for "
        "endpoints without completions",
    )
    max_concurrency: int = _argument(32, "maximum number of concurrent requests to the endpoint")
    tensor_parallel_size: int = _argument(1, "GPUs of one vLLM engine")
    gpu_memory_utilization: float = _argument(0.9, "share of a GPU's memory for vLLM")

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if get_origin(one.type) is Literal and value not in get_args(one.type):
                raise ValueError(f"`{one.name}` must be one of {get_args(one.type)}, got {value!r}.")
            if int in (one.type, *get_args(one.type)) and value is not None and value < 1:
                raise ValueError(f"`{one.name}` must be at least 1, got {value}.")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise ValueError(
                f"`gpu_memory_utilization` must be a share above 0 and at most 1, got {self.gpu_memory_utilization}."
            )
        if (self.backend == "openai") != (self.base_url is not None):
            raise ValueError(
                f"`backend` is {self.backend!r} and `base_url` is {self.base_url!r}. For an endpoint, pass both "
                '`backend="openai"` and its URL. For a local model, leave out `base_url`.'
            )
        if self.api == "chat" and self.backend != "openai":
            raise ValueError(
                f'`api="chat"` is an API of endpoints, but `backend` is {self.backend!r}. For tool calls in the '
                'model\'s chat template, pass `protocol="chat"`. For an endpoint, pass its `base_url`.'
            )
        if self.api == "chat" and self.protocol == "chat":
            raise ValueError(
                '`api="chat"` supports `protocol="tags"` only. For tool calls in the model\'s chat template, pass '
                '`api="completions"`.'
            )

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments that affect the answers, as JSON values, with a fingerprint of weights in a local folder."""
        settings = {name: value for name, value in asdict(self).items() if name not in _NOT_DECISIVE}
        weights = sorted(path for pattern in _WEIGHTS for path in Path(self.model).expanduser().glob(pattern))
        return {**settings, "weights": fingerprint_of(weights) if weights else None}
