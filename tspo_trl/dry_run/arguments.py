"""Arguments of a dry run, for a training script."""

from dataclasses import dataclass, field


@dataclass
class DryRunArguments:
    """
    Arguments of a dry run. In training all are ignored, so that a recipe can say which machines it was made for.

    Args:
        dry_run (`bool`, *optional*, defaults to `False`):
            Check the run and leave: no model is loaded.
        dry_run_accelerate_config (`str`, *optional*):
            File that `accelerate launch --config_file` would get. Defaults to the environment that
            `accelerate launch` sets, one process where there is none.
        dry_run_num_processes (`int`, *optional*):
            Number of processes, one for each GPU that trains. Defaults to what the file or the environment says.
        dry_run_gpu_memory (`float`, *optional*):
            GiB of one GPU. Defaults to the first GPU of this machine.
    """

    dry_run: bool = field(default=False, metadata={"help": "Check the run and leave: no model is loaded."})
    dry_run_accelerate_config: str | None = field(
        default=None, metadata={"help": "File that `accelerate launch --config_file` would get."}
    )
    dry_run_num_processes: int | None = field(
        default=None, metadata={"help": "Number of processes. Default: what that file or the environment says."}
    )
    dry_run_gpu_memory: float | None = field(
        default=None, metadata={"help": "GiB of one GPU. Default: the first GPU of this machine."}
    )
