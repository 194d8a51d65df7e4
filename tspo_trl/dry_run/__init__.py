"""Checks a training run before a model loads."""

from .checks import check_run
from .launch import DryRunArguments, Launch, leave_other_processes, planned_config, planned_launch
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
