"""What a training run would do, found out before any model loads.

`launch.py` says on how many processes and how sharded it would run, `batch.py` does the arithmetic of its batches,
`memory.py` estimates what a GPU would hold from the sizes in `model_shape.py`. `checks.py`, `config_checks.py`,
`model_checks.py` and `memory_checks.py` look at configuration, index, data, model and memory, and `report.py` holds
what was found.
"""

from .arguments import DryRunArguments
from .checks import check_run
from .launch import Launch, leave_other_processes, planned_config, planned_launch
from .report import Report

__all__ = [
    "DryRunArguments",
    "Launch",
    "Report",
    "check_run",
    "leave_other_processes",
    "planned_config",
    "planned_launch",
]
