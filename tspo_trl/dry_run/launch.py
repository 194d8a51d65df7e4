"""On how many processes a run would train, and what they would share."""

import os
from dataclasses import dataclass
from typing import Any, Literal, get_args

from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType
from accelerate.utils.deepspeed import HfDeepSpeedConfig

from ..trainer.config import TSPOConfig
from .arguments import DryRunArguments

Strategy = Literal["single", "ddp", "zero1", "zero2", "zero3", "fsdp"]

# What `torchrun` and `accelerate launch` set, by which Accelerate would wait for the other processes.
_LAUNCHERS_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Launch:
    """
    Processes of a run.

    Args:
        num_processes (`int`):
            All processes of all machines, one for each GPU that trains.
        strategy (`str`):
            What they share: `"single"` and `"ddp"` nothing; DeepSpeed's `"zero1"` the optimizer, `"zero2"` gradients
            too, `"zero3"` weights too; `"fsdp"` all three.
    """

    num_processes: int
    strategy: Strategy

    def __post_init__(self) -> None:
        if self.num_processes < 1:
            raise ValueError(f"The number of processes is {self.num_processes}: pass `dry_run_num_processes`.")

    @property
    def is_deepspeed(self) -> bool:
        """Whether DeepSpeed keeps the model, in 16 bits with a 32-bit copy in the optimizer."""
        return self.strategy.startswith("zero")


def planned_launch(args: DryRunArguments) -> Launch:
    """
    Read how a run would be launched.

    Args:
        args ([`DryRunArguments`]):
            The arguments.

    Returns:
        [`Launch`]

    Raises:
        FileNotFoundError: There is no such configuration of Accelerate.
        ValueError: It says something that no run of ours uses.
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
    raise ValueError(f"`distributed_type` in {path} is {config.distributed_type}: nothing is known of its memory.")


def _from_environment(num_processes: int) -> Strategy:
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
        if "ACCELERATE_DEEPSPEED_CONFIG_FILE" in os.environ:
            return deepspeed_strategy(os.environ["ACCELERATE_DEEPSPEED_CONFIG_FILE"])
        return _zero_stage(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE"), "the environment")
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        return "fsdp"
    return "ddp" if num_processes > 1 else "single"


def deepspeed_strategy(config: str | dict[str, Any]) -> Strategy:
    """
    What the processes share, from DeepSpeed's own configuration.

    Args:
        config (`str` or `dict`):
            The file, or what it holds.

    Returns:
        `str`: `"zero1"`, `"zero2"` or `"zero3"`.

    Raises:
        ValueError: There is no such file, or it says another stage.
    """
    source = config if isinstance(config, str) else "DeepSpeed's configuration"
    return _zero_stage(HfDeepSpeedConfig(config).get_value("zero_optimization.stage"), source)


def leave_other_processes() -> None:
    """Forget what a launcher has set: one process makes the dry run and must not wait for others."""
    for name in [*os.environ]:
        if name in _LAUNCHERS_VARIABLES or name.startswith("ACCELERATE_USE_"):
            del os.environ[name]


def _zero_stage(stage: int | str | None, source: str) -> Strategy:
    for strategy in get_args(Strategy):
        if strategy == f"zero{stage}":
            return strategy
    raise ValueError(f"`zero_stage` in {source} is {stage!r}. Set it to 1, 2 or 3.")


def planned_config(num_processes: int) -> type[TSPOConfig]:
    """
    A [`TSPOConfig`] that believes in another number of processes than this one.

    Its checks of batch sizes are those of the run, although one process makes them.

    Args:
        num_processes (`int`):
            Number of processes of the run.

    Returns:
        `type`: a subclass of [`TSPOConfig`].
    """

    class PlannedConfig(TSPOConfig):
        world_size = property(lambda self: num_processes)

        def __post_init__(self) -> None:
            deepspeed, self.deepspeed = self.deepspeed, None  # with it DeepSpeed would be started
            super().__post_init__()
            self.deepspeed = deepspeed

    return PlannedConfig
