"""Checks of the arguments of [`TSPOTrainer`], before a model loads."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from accelerate.logging import get_logger
from datasets import Dataset, IterableDataset
from trl import GRPOConfig

from ..protocols.base import SearchProtocol
from ..rewards import exact_match_reward
from ..search.base import Retriever
from .config import TSPOConfig
from .records import success_reward_name

logger = get_logger(__name__)


def dataset_columns(dataset: Dataset | IterableDataset | None) -> list[str]:
    """
    Return the columns of a dataset. If a stream does not declare them, its first row does.

    Args:
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`], *optional*):
            The dataset.

    Returns:
        `list[str]`: empty without a dataset.
    """
    if dataset is None:
        return []
    if dataset.column_names is not None:
        return list(dataset.column_names)
    return list(next(iter(dataset), {}))


def named_datasets(train_dataset: Any, eval_dataset: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of each dataset argument, one pair for each of several evaluation datasets."""
    yield "train_dataset", train_dataset
    if isinstance(eval_dataset, dict):
        yield from ((f"eval_dataset[{key!r}]", dataset) for key, dataset in eval_dataset.items())
    else:
        yield "eval_dataset", eval_dataset


def check_arguments(
    args: GRPOConfig,
    retriever: Retriever | None,
    protocol: SearchProtocol | None,
    train_dataset: Any,
    eval_dataset: Any,
    reward_funcs: Any,
    generation: dict[str, Any],
) -> None:
    """
    Check the arguments of [`TSPOTrainer`].

    Args:
        args ([`TSPOConfig`] or [`~trl.GRPOConfig`]):
            The configuration.
        retriever ([`~tspo_trl.search.Retriever`], *optional*):
            Search engine that answers the model's queries.
        protocol ([`~tspo_trl.protocols.base.SearchProtocol`], *optional*):
            Format of searches, feedback and answers.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`], *optional*):
            Training data.
        eval_dataset (*optional*):
            Evaluation data, or a `dict` of several datasets.
        reward_funcs (`RewardFunc` or `list[RewardFunc]`, *optional*):
            Outcome rewards. `None` for exact match, or for the rewards of environments.
        generation (`dict`):
            Arguments of TRL's own generation: `tools`, `rollout_func` and `environment_factory`.

    Raises:
        ValueError: An argument, a budget or a dataset cannot work.
        TypeError: `args` is a [`~trl.GRPOConfig`] but a [`TSPOConfig`] is needed, `retriever` is not a retriever, or
            `protocol` is not a protocol.
    """
    has_golden_answers = "golden_answers" in dataset_columns(train_dataset)
    if not isinstance(args, TSPOConfig):
        if retriever is not None or has_golden_answers:
            raise TypeError(
                f"`args` is a {type(args).__name__}, but `retriever` and `golden_answers` need a `TSPOConfig`. "
                "Make it a `TSPOConfig`, which takes all arguments of `GRPOConfig`."
            )
        return
    wants_default_reward = reward_funcs is None and not generation["environment_factory"]
    if wants_default_reward and has_golden_answers:
        reward_funcs = exact_match_reward
    if not generation["environment_factory"]:  # only TRL knows the names of their rewards, see `LoggingTrainer`
        datasets = (dataset for _, dataset in named_datasets(train_dataset, eval_dataset))
        check_success_reward(args, reward_names(reward_funcs), datasets)
    check_generation(args, retriever, has_golden_answers, generation)
    _check_optimizer(args)
    _check_protocol(args, retriever, protocol)
    for name, dataset in named_datasets(train_dataset, eval_dataset):
        check_dataset(
            dataset,
            name,
            needs_question=retriever is not None,
            needs_golden_answers=retriever is not None and wants_default_reward,
        )
    if args.tspo_enabled and not has_golden_answers:
        logger.warning("`train_dataset` has no `golden_answers`, so TSPO is off and the advantages are GRPO's.")


def check_success_reward(args: GRPOConfig, names: Sequence[str], datasets: Iterable[Any]) -> None:
    """
    Check that one reward function says which rollouts are correct.

    Args:
        args ([`TSPOConfig`] or [`~trl.GRPOConfig`]):
            The configuration.
        names (sequence of `str`):
            Names of the reward functions, as TRL names them.
        datasets (iterable of datasets):
            Training and evaluation data. Without `golden_answers` nothing is credited.

    Raises:
        ValueError: `success_reward` is not the name of exactly one reward function, or it is needed and not set.
    """
    if not isinstance(args, TSPOConfig):
        return
    listed, name = ", ".join(names), success_reward_name(names, args.success_reward)
    if name is not None and name not in names:
        raise ValueError(
            f"`success_reward` is {name!r}, but the reward functions are: {listed}. Set it to one of these names."
        )
    if name is not None and names.count(name) > 1:
        raise ValueError(
            f"`success_reward` is {name!r}, but several of the reward functions ({listed}) have this name. Give them "
            "different names (`__name__`)."
        )
    if name is None and len(names) > 1 and any("golden_answers" in dataset_columns(one) for one in datasets):
        raise ValueError(
            f"`success_reward` is None, but there are several reward functions: {listed}. Set it to the name of the "
            f"one that says which rollouts are correct, such as `success_reward={names[0]!r}`."
        )


def reward_names(reward_funcs: Any) -> list[str]:
    """Return TRL's names of reward functions: the name of the function, of its class or of its model."""
    functions = reward_funcs if isinstance(reward_funcs, list) else [reward_funcs]
    return [_reward_name(function) for function in functions if function is not None]


def _reward_name(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    path = function if isinstance(function, str) else getattr(getattr(function, "config", None), "_name_or_path", None)
    if path is not None:
        return str(path).split("/")[-1]
    return getattr(function, "__name__", type(function).__name__)


def check_golden_answers(values: Iterable[Any], name: str) -> None:
    """
    Check that every row has gold answers.

    Args:
        values (iterable):
            The column `golden_answers`.
        name (`str`):
            Name of the dataset for the message.

    Raises:
        ValueError: A row is not a non-empty list of non-empty strings.
    """
    for row, value in enumerate(values):
        is_list = isinstance(value, (list, tuple)) and len(value) > 0
        if not is_list or not all(isinstance(answer, str) and answer.strip() for answer in value):
            raise ValueError(
                f"`{name}` has {value!r} as `golden_answers` in row {row} (counted from 0). It must be a non-empty "
                'list of non-empty strings, such as ["Paris"]. Fix or drop that row.'
            )


def check_dataset(
    dataset: Dataset | IterableDataset | None, name: str, *, needs_question: bool, needs_golden_answers: bool
) -> None:
    """
    Check that a dataset has the columns that search rollouts and their rewards need.

    Args:
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`], *optional*):
            The dataset.
        name (`str`):
            Name of the argument for messages.
        needs_question (`bool`):
            Whether a `question` or a `prompt` is needed.
        needs_golden_answers (`bool`):
            Whether `golden_answers` are needed.

    Raises:
        ValueError: A column is missing, or gold answers are empty.
    """
    if dataset is None:
        return
    columns = dataset_columns(dataset)
    if needs_question and not {"question", "prompt"} & set(columns):
        raise ValueError(
            f"`{name}` has neither a `question` nor a `prompt` column. Its columns are {columns}. Rename the column "
            "of the questions to `question`."
        )
    if needs_golden_answers and "golden_answers" not in columns:
        raise ValueError(
            f"`{name}` has no `golden_answers` column. Its columns are {columns}. Add one with a list of answers in "
            "each row, or pass `reward_funcs` that need no gold answers."
        )
    # The trainer checks a stream batch by batch.
    if "golden_answers" in columns and isinstance(dataset, Dataset):
        check_golden_answers(dataset["golden_answers"], name)


def check_generation(
    args: TSPOConfig, retriever: Retriever | None, has_golden_answers: bool, generation: dict[str, Any]
) -> None:
    """
    Check the arguments that decide how rollouts are generated.

    Args:
        args ([`TSPOConfig`]):
            The configuration.
        retriever ([`~tspo_trl.search.Retriever`], *optional*):
            Search engine that answers the model's queries.
        has_golden_answers (`bool`):
            Whether the training data has `golden_answers`.
        generation (`dict`):
            Arguments of TRL's own generation: `tools`, `rollout_func` and `environment_factory`.

    Raises:
        ValueError: Arguments contradict each other, or nothing can be retrieved.
        TypeError: `retriever` is not a retriever.
    """
    if retriever is not None:
        if isinstance(retriever, type) or not callable(getattr(retriever, "search", None)):
            raise TypeError(
                f"`retriever` is {retriever!r}, which has no `search(queries, k)`. Pass a retriever such as "
                '`BM25Retriever("indexes/mine")`.'
            )
        for name, value in generation.items():
            if value:
                raise ValueError(f"`retriever` and `{name}` exclude each other, got {value!r}. Pass only one of them.")
        _check_search_options(args)
    elif has_golden_answers and args.tspo_enabled and not any(generation.values()):
        raise ValueError(
            "`train_dataset` has `golden_answers`, but neither `retriever` nor `tools` is set, so nothing can be "
            "retrieved. Pass `retriever=BM25Retriever(...)`, or turn TSPO off with `alpha=0.0` and "
            '`turn_level_groups="never"`.'
        )
    if has_golden_answers and args.tspo_enabled:
        _check_turn_credit(args)


def _check_turn_credit(args: TSPOConfig) -> None:
    """Check that TRL's options keep the advantages of turns apart."""
    # CISPO's and VESPO's ratios only weigh each token's own gradient.
    if args.importance_sampling_level == "sequence" and args.loss_type not in ("cispo", "vespo"):
        raise ValueError(
            f'`importance_sampling_level="sequence"` with `loss_type={args.loss_type!r}` has one ratio per rollout, '
            'which would average the advantages of its turns. Use "token", or turn TSPO off with `alpha=0.0` and '
            '`turn_level_groups="never"`.'
        )
    if args.multi_objective_aggregation != "sum_then_normalize":
        raise ValueError(
            f"`multi_objective_aggregation={args.multi_objective_aggregation!r}` is not defined for turn rewards. "
            'Use "sum_then_normalize".'
        )


def _check_optimizer(args: TSPOConfig) -> None:
    if not args.skip_steps_without_signal:
        return
    optimizer = str(getattr(args.optim, "value", args.optim))
    by_itself = "DeepSpeed" if args.deepspeed_plugin is not None else f"`optim={optimizer!r}`"
    if by_itself == "DeepSpeed" or "layerwise" in optimizer or "lomo" in optimizer:
        raise ValueError(
            f"`skip_steps_without_signal=True` does not work with {by_itself}, which steps within the backward pass. "
            "Set it to `False`, or use DDP or FSDP with an optimizer that steps after it."
        )


def _check_protocol(args: TSPOConfig, retriever: Retriever | None, protocol: SearchProtocol | None) -> None:
    if protocol is None:
        return
    if retriever is None:
        raise ValueError(
            f"`protocol` is {protocol!r}, but there is no `retriever`. Pass a `retriever`, or leave `protocol` out."
        )
    needed = [name for name in vars(SearchProtocol) if not name.startswith("_")] + list(SearchProtocol.__annotations__)
    missing = [name for name in dict.fromkeys(needed) if not hasattr(protocol, name)]
    if isinstance(protocol, type) or missing:
        what = "which is a class" if isinstance(protocol, type) else f"which has no {', '.join(missing)}"
        raise TypeError(f"`protocol` is {protocol!r}, {what}. Pass an object such as `TagProtocol()`.")
    # The trainer renders the prompt with the configuration's variables, the protocol renders feedback with its own.
    own = getattr(protocol, "chat_template_kwargs", None)
    if own is not None and own != (args.chat_template_kwargs or {}):
        raise ValueError(
            f"`chat_template_kwargs` is {args.chat_template_kwargs!r} in the configuration and {own!r} in `protocol`. "
            "Set both to the same value."
        )


def _check_search_options(args: TSPOConfig) -> None:
    needed = args.max_turn_length + args.max_feedback_length
    if args.max_completion_length < needed:
        raise ValueError(
            f"`max_completion_length` is {args.max_completion_length}, too short for one turn "
            f"(`max_turn_length={args.max_turn_length}`) and one feedback "
            f"(`max_feedback_length={args.max_feedback_length}`). Raise it to at least {needed}, or lower the others."
        )
    if args.use_transformers_continuous_batching:
        raise ValueError(
            "`use_transformers_continuous_batching=True` cannot end a turn at an action. Set it to `False`, or use "
            "`use_vllm=True`."
        )
    if args.remove_unused_columns:
        raise ValueError(
            "`remove_unused_columns=True` would remove `question` and `golden_answers`. Set it to `False`."
        )
