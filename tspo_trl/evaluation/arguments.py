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


@dataclass(frozen=True)
class AgentArguments:
    """
    A policy and the budgets of its rollouts. The budgets default to those of [`TSPOConfig`].

    The `help` of each field describes it. `tspo-trl evaluate --help` prints these texts.

    Raises:
        ValueError: An argument is out of its range, or two arguments contradict each other.
    """

    model: str = field(metadata={"help": "folder or hub name of the model, or its name at the endpoint"})
    backend: Backend = field(
        default="transformers",
        metadata={"help": "transformers, vLLM, or openai for an endpoint"},
    )
    revision: str | None = field(default=None, metadata={"help": "branch, tag or commit of the model on the hub"})
    tokenizer: str | None = field(
        default=None, metadata={"help": "folder or hub name of the tokenizer (default: that of the model)"}
    )
    protocol: ProtocolName = field(
        default="tags", metadata={"help": "Search-R1's tags, or tool calls in the model's chat template"}
    )
    chat_template_kwargs: dict[str, Any] | None = field(
        default=None,
        metadata={"help": "variables of the chat template as JSON, such as '{\"enable_thinking\": false}'"},
    )
    dtype: Dtype = field(default="auto", metadata={"help": "type of the weights; auto is the checkpoint's"})
    max_turns: int = field(default=4, metadata={"help": "turns that may search, before one last turn to answer"})
    max_turn_length: int = field(default=500, metadata={"help": "tokens that the model may generate in a turn"})
    max_feedback_length: int = field(default=500, metadata={"help": "tokens of a feedback, tags included"})
    max_completion_length: int = field(
        default=4096, metadata={"help": "tokens of all turns and feedbacks of a rollout"}
    )
    search_top_k: int = field(default=3, metadata={"help": "passages per search"})
    max_context_length: int | None = field(
        default=None,
        metadata={"help": "tokens of prompt and completion (default: the model's context, if the backend names it)"},
    )
    base_url: str | None = field(
        default=None,
        metadata={"help": "OpenAI-compatible endpoint, such as http://localhost:8000/v1; OPENAI_API_KEY is its key"},
    )
    api: API = field(
        default="completions",
        metadata={"help": "API of the endpoint: completions continues the text as in training, chat sends messages"},
    )
    max_concurrency: int = field(
        default=32, metadata={"help": "maximum number of concurrent requests to the endpoint"}
    )
    tensor_parallel_size: int = field(default=1, metadata={"help": "GPUs of one vLLM engine"})
    gpu_memory_utilization: float = field(default=0.9, metadata={"help": "share of a GPU's memory for vLLM"})

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
