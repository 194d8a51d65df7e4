"""How a run would be launched: its processes and what they share."""

import os
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType
from accelerate.utils.deepspeed import HfDeepSpeedConfig

from ..trainer.config import TSPOConfig

Strategy = Literal["single", "ddp", "zero1", "zero2", "zero3", "fsdp"]

# `torchrun` and `accelerate launch` set these. Accelerate would wait for the other processes if it saw them.
_LAUNCHERS_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass
class DryRunArguments:
    """
    Command-line arguments of a dry run. Training ignores them, so a recipe can name the machines that it is for.

    The metadata of each field describes it.
    """

    dry_run: bool = field(default=False, metadata={"help": "Check the run and exit without loading a model."})
    dry_run_accelerate_config: str | None = field(
        default=None,
        metadata={
            "help": "File for `accelerate launch --config_file`. Default: the environment that `accelerate launch` "
            "sets, or one process."
        },
    )
    dry_run_num_processes: int | None = field(
        default=None,
        metadata={"help": "Number of processes, one for each GPU that trains. Default: from the file or environment."},
    )
    dry_run_gpu_memory: float | None = field(
        default=None, metadata={"help": "Memory of one GPU in GiB. Default: that of this machine's first GPU."}
    )


@dataclass(frozen=True)
class Launch:
    """
    Processes of a run.

    Args:
        num_processes (`int`):
            Number of processes on all machines, one for each GPU that trains.
        strategy (`str`):
            What the processes share: `"single"` and `"ddp"` nothing; DeepSpeed's `"zero1"` the optimizer, `"zero2"`
            also the gradients, `"zero3"` also the weights; `"fsdp"` all three.
    """

    num_processes: int
    strategy: Strategy

    def __post_init__(self) -> None:
        if self.num_processes < 1:
            raise ValueError(f"The number of processes is {self.num_processes}: pass `dry_run_num_processes`.")

    def __str__(self) -> str:
        return f"{self.num_processes} process{'es' if self.num_processes > 1 else ''}, {self.strategy}"

    @property
    def is_deepspeed(self) -> bool:
        """Whether DeepSpeed keeps the model in 16 bits, with a 32-bit copy in the optimizer."""
        return self.strategy.startswith("zero")

    @property
    def shares_weights(self) -> bool:
        """Whether each process keeps only a part of the weights."""
        return self.strategy in ("zero3", "fsdp")


def planned_launch(args: DryRunArguments) -> Launch:
    """
    Read how a run would be launched.

    Args:
        args ([`DryRunArguments`]):
            Arguments of the dry run.

    Returns:
        [`Launch`]

    Raises:
        FileNotFoundError: There is no such Accelerate configuration.
        ValueError: The configuration has an unknown kind of launch or ZeRO stage.
    """
    if args.dry_run_accelerate_config is not None:
        num_processes, strategy = _from_file(args.dry_run_accelerate_config)
    else:
        num_processes = int(os.environ.get("WORLD_SIZE", "1"))
        strategy = _from_environment(num_processes)
    if args.dry_run_num_processes is not None:
        num_processes = args.dry_run_num_processes
        if strategy in ("single", "ddp"):
            strategy = "ddp" if num_processes > 1 else "single"
    return Launch(num_processes, strategy)


def _from_file(path: str) -> tuple[int, Strategy]:
    config = load_config_from_file(path)
    if config.distributed_type == DistributedType.DEEPSPEED:
        own_file = config.deepspeed_config.get("deepspeed_config_file")
        if own_file is not None:
            return config.num_processes, deepspeed_strategy(own_file)
        return config.num_processes, _zero_stage(config.deepspeed_config.get("zero_stage"), path)
    if config.distributed_type == DistributedType.FSDP:
        return config.num_processes, "fsdp"
    if config.distributed_type == DistributedType.MULTI_GPU:
        return config.num_processes, "ddp"
    if config.distributed_type == DistributedType.NO:
        return 1, "single"
    raise ValueError(
        f"`distributed_type` in {path} is {config.distributed_type}. Set it to DEEPSPEED, FSDP, MULTI_GPU or NO."
    )


def _from_environment(num_processes: int) -> Strategy:
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
        if "ACCELERATE_DEEPSPEED_CONFIG_FILE" in os.environ:
            return deepspeed_strategy(os.environ["ACCELERATE_DEEPSPEED_CONFIG_FILE"])
        return _zero_stage(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE"), "the environment")
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        return "fsdp"
    return "ddp" if num_processes > 1 else "single"


def deepspeed_strategy(config: str | dict[str, Any]) -> Strategy:
    """Return the [`Launch`] strategy of a DeepSpeed configuration, given as a file or its contents."""
    source = config if isinstance(config, str) else "DeepSpeed's configuration"
    return _zero_stage(HfDeepSpeedConfig(config).get_value("zero_optimization.stage"), source)


def _zero_stage(stage: int | str | None, source: str) -> Strategy:
    for strategy in get_args(Strategy):
        if strategy == f"zero{stage}":
            return strategy
    raise ValueError(f"`zero_stage` in {source} is {stage!r}. Set it to 1, 2 or 3.")


def leave_other_processes() -> None:
    """Remove a launcher's environment variables, so that this process does not wait for others."""
    for name in [*os.environ]:
        if name in _LAUNCHERS_VARIABLES or name.startswith("ACCELERATE_USE_"):
            del os.environ[name]


def planned_config(num_processes: int) -> type[TSPOConfig]:
    """
    Make a [`TSPOConfig`] that checks batch sizes for `num_processes` processes, although only one runs.

    Args:
        num_processes (`int`):
            Number of processes of the run.

    Returns:
        `type`: a subclass of [`TSPOConfig`].
    """

    class PlannedConfig(TSPOConfig):
        world_size = property(lambda self: num_processes)

        def __post_init__(self) -> None:
            deepspeed, self.deepspeed = self.deepspeed, None  # otherwise DeepSpeed would start
            super().__post_init__()
            self.deepspeed = deepspeed

    return PlannedConfig
