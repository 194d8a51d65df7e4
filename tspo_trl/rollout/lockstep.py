"""Where generation is collective, every process calls it equally often, with equally many prompts (invariant 6).

With a vLLM server the main process generates for all and hands each process its share by position; with tensor
parallelism several processes are one engine; with ZeRO-3 and FSDP a layer's weights are gathered from all. A process
that stopped generating would leave the others waiting for ever, and one that brings fewer prompts would be handed
another's completions. (Ours: TRL 1.16's own tool loop does not keep step.)
"""

import torch
from trl import GRPOTrainer


def most_rollouts(trainer: GRPOTrainer, count: int) -> int:
    """
    How many rollouts go on in the process in which most do; a collective operation.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            The trainer.
        count (`int`):
            How many go on in this process.

    Returns:
        `int`
    """
    accelerator = trainer.accelerator
    return int(accelerator.gather(torch.tensor([count], device=accelerator.device)).max())
