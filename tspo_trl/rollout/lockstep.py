"""Lockstep: if generation is collective, all processes call it equally often with equally many prompts.

With a vLLM server the main process generates for all processes and returns completions by position. With tensor
parallelism several processes are one engine. With ZeRO-3 and FSDP all processes gather the weights of each layer. If a
process stopped early, the others would hang. If it had fewer prompts, it would get completions of other processes.
TRL 1.16's own tool loop does not keep processes in lockstep.
"""

import torch
from trl import GRPOTrainer


def most_rollouts(trainer: GRPOTrainer, count: int) -> int:
    """
    Return the largest number of active rollouts in any process. This is a collective operation.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            The trainer.
        count (`int`):
            Number of active rollouts in this process.

    Returns:
        `int`
    """
    accelerator = trainer.accelerator
    return int(accelerator.gather(torch.tensor([count], device=accelerator.device)).max())
