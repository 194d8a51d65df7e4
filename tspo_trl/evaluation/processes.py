"""The processes of an evaluation."""

from datetime import timedelta

import torch
from accelerate import PartialState

_LONGEST_WAIT = timedelta(days=1)  # a process may wait long for the others; NCCL's default is 10 minutes


def process_state() -> PartialState:
    """Return index, number and device of the processes of `accelerate launch` or `torchrun`, or of a single one."""
    # Without an accelerator, `PartialState()` would take each of several processes for the only one.
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=_LONGEST_WAIT)
