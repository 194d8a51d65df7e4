"""Which policy is evaluated and how: checked arguments, and the agent that they describe."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from ..protocols.base import SearchProtocol
from ..protocols.chat import ChatToolProtocol
from ..protocols.tags import TagProtocol
from ..rollout.loop import RolloutLoop
from ..rollout.state import RolloutLimits
from ..search.base import Retriever
from ..search.identity import fingerprint_of
from .agent import SearchAgent
from .engine_turns import EngineTurns
from .model_turns import ModelTurns, eos_token_ids
from .openai_chat import ChatEndpointLoop, ChatTurns
from .openai_client import API, Endpoint
from .openai_turns import CompletionsTurns
from .processes import process_state

Backend = Literal["transformers", "vllm", "openai"]
ProtocolName = Literal["tags", "chat"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]

_CHOICES = {"backend": Backend, "api": API, "protocol": ProtocolName, "dtype": Dtype}
_NOT_DECISIVE = ("max_concurrency", "tensor_parallel_size", "gpu_memory_utilization")
_WEIGHTS = ("*.safetensors", "*.bin")


@dataclass(frozen=True)
class AgentArguments:
    """
    A policy, and the budgets of its rollouts. The budgets' defaults are those of [`TSPOConfig`], Search-R1's.

    Args:
        model (`str`):
            Folder or hub name of the model; with the backend `"openai"` the name that the endpoint knows it by.
        backend (`str`, *optional*, defaults to `"transformers"`):
            What generates: `"transformers"`, `"vllm"` (an engine in this process) or `"openai"` (an OpenAI-compatible
            endpoint).
        revision (`str`, *optional*):
            Branch, tag or commit of `model` on the hub.
        tokenizer (`str`, *optional*):
            Folder or hub name of the tokenizer. Defaults to `model`.
        protocol (`str`, *optional*, defaults to `"tags"`):
            How model and search speak: `"tags"`, Search-R1's, or `"chat"`, tool calls in the model's chat template.
        chat_template_kwargs (`dict`, *optional*):
            Further variables of the chat template, such as `{"enable_thinking": False}`; those of the training.
        dtype (`str`, *optional*, defaults to `"auto"`):
            Type of the weights: `"auto"` for that of the checkpoint, `"float32"`, `"bfloat16"` or `"float16"`.
        max_turns (`int`, *optional*, defaults to `4`):
            Turns in which the model may search, before one last turn to answer.
        max_turn_length (`int`, *optional*, defaults to `500`):
            Tokens that the model may generate in a turn.
        max_feedback_length (`int`, *optional*, defaults to `500`):
            Tokens of a feedback, tags included.
        max_completion_length (`int`, *optional*, defaults to `4096`):
            Tokens of all turns and feedbacks of a rollout together.
        search_top_k (`int`, *optional*, defaults to `3`):
            Passages per search.
        max_context_length (`int`, *optional*):
            Tokens of prompt and completion together. Defaults to the context of the model, which of the endpoints only
            vLLM and SGLang tell.
        base_url (`str`, *optional*):
            The endpoint, such as `"http://localhost:8000/v1"`.
        api (`str`, *optional*, defaults to `"completions"`):
            `"completions"` continues the text token for token as in training; `"chat"` is for endpoints that have
            nothing else, and sends each turn and each feedback as a message.
        max_concurrency (`int`, *optional*, defaults to `32`):
            Requests to the endpoint at the same time.
        tensor_parallel_size (`int`, *optional*, defaults to `1`):
            GPUs that vLLM splits the model over.
        gpu_memory_utilization (`float`, *optional*, defaults to `0.9`):
            Share of a GPU's memory that vLLM takes.

    Raises:
        ValueError: An argument is out of its range, or two contradict each other.
    """

    model: str
    backend: Backend = "transformers"
    revision: str | None = None
    tokenizer: str | None = None
    protocol: ProtocolName = "tags"
    chat_template_kwargs: dict[str, Any] | None = None
    dtype: Dtype = "auto"
    max_turns: int = 4
    max_turn_length: int = 500
    max_feedback_length: int = 500
    max_completion_length: int = 4096
    search_top_k: int = 3
    max_context_length: int | None = None
    base_url: str | None = None
    api: API = "completions"
    max_concurrency: int = 32
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                raise ValueError(f"`{name}` must be one of {get_args(choices)}, got {getattr(self, name)!r}.")
        whole = ("max_turns", "max_turn_length", "max_feedback_length", "search_top_k", "max_concurrency")
        for name in (*whole, "max_completion_length", "tensor_parallel_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.max_context_length is not None and self.max_context_length < 1:
            raise ValueError(f"`max_context_length` must be at least 1, got {self.max_context_length}.")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise ValueError(
                f"`gpu_memory_utilization` is a share, above 0 and at most 1, got {self.gpu_memory_utilization}."
            )
        if (self.backend == "openai") != (self.base_url is not None):
            raise ValueError(
                f"`backend` is {self.backend!r} and `base_url` {self.base_url!r}: an endpoint has both, "
                '`backend="openai"` and its URL, and a model here neither.'
            )
        if self.api == "chat" and self.backend != "openai":
            raise ValueError(
                f'`api="chat"` is an API of endpoints, but `backend` is {self.backend!r}. For tool calls in the '
                'model\'s chat template use `protocol="chat"`; to ask an endpoint give its `base_url`.'
            )
        if self.api == "chat" and self.protocol == "chat":
            raise ValueError(
                "`api=\"chat\"` carries Search-R1's tags only. For tool calls in the model's chat template use "
                '`api="completions"`, or `protocol="tags"`.'
            )

    @property
    def settings(self) -> dict[str, Any]:
        """What of it decides the answers, as JSON can hold it, with a fingerprint of weights in a local folder."""
        settings = {name: value for name, value in asdict(self).items() if name not in _NOT_DECISIVE}
        weights = sorted(path for pattern in _WEIGHTS for path in Path(self.model).expanduser().glob(pattern))
        return {**settings, "weights": fingerprint_of(weights) if weights else None}


def open_agent(args: AgentArguments, retriever: Retriever) -> SearchAgent:
    """
    Load the policy that the arguments describe.

    Args:
        args ([`AgentArguments`]):
            The arguments.
        retriever ([`~tspo_trl.search.Retriever`]):
            What the policy searches.

    Returns:
        [`SearchAgent`]: with greedy rollouts.

    Raises:
        ValueError: Budgets cannot hold one feedback, or vLLM is to run in several processes or to load an adapter.
        OSError: There is no such model or tokenizer.
        [`~tspo_trl.evaluation.openai_client.EndpointError`]: The endpoint cannot be reached.
    """
    if args.backend == "vllm" and process_state().num_processes > 1:
        raise ValueError(
            '`backend="vllm"` runs in one process. Serve the model with `vllm serve --data-parallel-size N` and '
            "evaluate the endpoint, or use the transformers backend with `accelerate launch`."
        )
    if args.backend == "vllm" and (Path(args.model) / "adapter_config.json").is_file():
        raise ValueError(
            f'{args.model} holds a PEFT adapter, which `backend="vllm"` does not load. Merge it into its model '
            "(`merge_and_unload`), or use the transformers backend."
        )
    tokenizer = _load_tokenizer(args)
    protocol: SearchProtocol = TagProtocol()
    if args.protocol == "chat":
        protocol = ChatToolProtocol(tokenizer, chat_template_kwargs=args.chat_template_kwargs)
    return _OPENERS[args.backend](args, tokenizer, protocol, retriever)


def _load_tokenizer(args: AgentArguments) -> PreTrainedTokenizerBase:
    if args.tokenizer is not None:
        return AutoTokenizer.from_pretrained(args.tokenizer)
    try:
        return AutoTokenizer.from_pretrained(args.model, revision=args.revision)
    except (OSError, ValueError) as error:
        if args.backend != "openai":
            raise
        raise ValueError(
            f"The endpoint's model {args.model!r} is not the name of a tokenizer as well ({error}). Pass `tokenizer`, "
            "the folder or hub name of the model's own."
        ) from error


def _limits(args: AgentArguments, context_length: int | None) -> RolloutLimits:
    return RolloutLimits.from_arguments(args, args.max_context_length or context_length)


def _open_model(
    args: AgentArguments, tokenizer: PreTrainedTokenizerBase, protocol: SearchProtocol, retriever: Retriever
) -> SearchAgent:
    model = AutoModelForCausalLM.from_pretrained(args.model, revision=args.revision, dtype=args.dtype)
    model.to(process_state().device).eval()
    limits = _limits(args, getattr(model.config.get_text_config(), "max_position_embeddings", None))
    ends = eos_token_ids(model.generation_config, tokenizer)
    loop = RolloutLoop(tokenizer, retriever, protocol, limits, ends)
    turns = ModelTurns(model, tokenizer, protocol.stop_strings)
    return SearchAgent(loop, turns, chat_template_kwargs=args.chat_template_kwargs)


def _open_engine(
    args: AgentArguments, tokenizer: PreTrainedTokenizerBase, protocol: SearchProtocol, retriever: Retriever
) -> SearchAgent:
    try:
        from vllm import LLM
    except ImportError as error:
        raise ImportError("`backend=\"vllm\"` needs vLLM: pip install 'tspo-trl[vllm]'.") from error

    engine = LLM(
        model=args.model,
        tokenizer=args.tokenizer,
        revision=args.revision,
        dtype=args.dtype,
        max_model_len=args.max_context_length,
        tensor_parallel_size=args.tensor_parallel_size,
        gpu_memory_utilization=args.gpu_memory_utilization,
    )
    limits = _limits(args, int(engine.llm_engine.model_config.max_model_len))
    ends = eos_token_ids(_generation_config(args), tokenizer)
    loop = RolloutLoop(tokenizer, retriever, protocol, limits, ends)
    turns = EngineTurns(engine, protocol.stop_strings)
    return SearchAgent(loop, turns, chat_template_kwargs=args.chat_template_kwargs)


def _generation_config(args: AgentArguments) -> GenerationConfig | None:
    try:
        return GenerationConfig.from_pretrained(args.model, revision=args.revision or "main")
    except OSError:
        return None  # a model need not have one


def _open_endpoint(
    args: AgentArguments, tokenizer: PreTrainedTokenizerBase, protocol: SearchProtocol, retriever: Retriever
) -> SearchAgent:
    endpoint = Endpoint(str(args.base_url), args.model, max_concurrency=args.max_concurrency)
    limits = _limits(args, endpoint.context_length(args.api))
    if args.api == "chat":
        conversations = ChatEndpointLoop(tokenizer, retriever, protocol, limits)
        return SearchAgent(conversations, ChatTurns(endpoint, tokenizer, protocol), conversations.encode)
    loop = RolloutLoop(tokenizer, retriever, protocol, limits)
    turns = CompletionsTurns(endpoint, tokenizer, protocol)
    return SearchAgent(loop, turns, chat_template_kwargs=args.chat_template_kwargs)


_OPENERS = {"transformers": _open_model, "vllm": _open_engine, "openai": _open_endpoint}
