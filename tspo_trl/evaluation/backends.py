"""Opens the policy of an evaluation: a model in this process, or an endpoint."""

from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from ..protocols.base import SearchProtocol
from ..protocols.chat import ChatToolProtocol
from ..protocols.tags import TagProtocol
from ..rollout.loop import RolloutLoop
from ..rollout.positions import max_positions
from ..rollout.state import RolloutLimits
from ..search.base import Retriever
from .agent import SearchAgent
from .arguments import AgentArguments
from .engine_turns import EngineTurns
from .model_turns import ModelTurns, eos_token_ids
from .openai_chat import ChatEndpointLoop, ChatTurns
from .openai_client import Endpoint
from .openai_turns import CompletionsTurns
from .processes import process_state


def open_agent(args: AgentArguments, retriever: Retriever) -> SearchAgent:
    """
    Load the policy that the arguments describe.

    Args:
        args ([`AgentArguments`]):
            Policy and budgets.
        retriever ([`~tspo_trl.search.Retriever`]):
            Search engine that answers the policy's queries.

    Returns:
        [`SearchAgent`]: agent with greedy rollouts.

    Raises:
        ValueError: The budgets are too small for a feedback, `max_context_length` exceeds the model's context, or the
            backend `"vllm"` has several processes or an adapter.
        OSError: The model or the tokenizer does not exist.
        [`~tspo_trl.evaluation.openai_client.EndpointError`]: The endpoint is unreachable.
    """
    if args.backend == "vllm" and process_state().num_processes > 1:
        raise ValueError(
            '`backend="vllm"` runs in one process. Serve the model with `vllm serve --data-parallel-size N` and '
            "evaluate the endpoint, or use the transformers backend with `accelerate launch`."
        )
    if args.backend == "vllm" and (Path(args.model) / "adapter_config.json").is_file():
        raise ValueError(
            f'{args.model} contains a PEFT adapter, which `backend="vllm"` does not load. Merge it into its model '
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
            f"The endpoint's model name {args.model!r} does not name a tokenizer ({error}). Pass `tokenizer`, the "
            "folder or hub name of the model's tokenizer."
        ) from error


def _limits(args: AgentArguments, context_length: int | None) -> RolloutLimits:
    wanted = args.max_context_length
    if wanted is not None and context_length is not None and wanted > context_length:
        raise ValueError(
            f"`max_context_length` is {wanted}, but {args.model} reads at most {context_length} tokens. Lower it to "
            f"{context_length}, or leave it out."
        )
    return RolloutLimits.from_arguments(args, wanted or context_length)


def _open_model(
    args: AgentArguments, tokenizer: PreTrainedTokenizerBase, protocol: SearchProtocol, retriever: Retriever
) -> SearchAgent:
    model = AutoModelForCausalLM.from_pretrained(args.model, revision=args.revision, dtype=args.dtype)
    model.to(process_state().device).eval()
    limits = _limits(args, max_positions(model.config))
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
        return None  # it is optional


def _open_endpoint(
    args: AgentArguments, tokenizer: PreTrainedTokenizerBase, protocol: SearchProtocol, retriever: Retriever
) -> SearchAgent:
    endpoint = Endpoint(str(args.base_url), args.model, max_concurrency=args.max_concurrency)
    limits = _limits(args, endpoint.context_length(args.api))
    if args.api == "chat":
        conversations = ChatEndpointLoop(tokenizer, retriever, protocol, limits)
        return SearchAgent(conversations, ChatTurns(endpoint, tokenizer, protocol), conversations.encode)
    loop = RolloutLoop(tokenizer, retriever, protocol, limits)
    turns = CompletionsTurns(endpoint, tokenizer, protocol, limits.max_context_length)
    return SearchAgent(loop, turns, chat_template_kwargs=args.chat_template_kwargs)


_OPENERS = {"transformers": _open_model, "vllm": _open_engine, "openai": _open_endpoint}
