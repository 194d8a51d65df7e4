"""Optimizer steps: which rollouts they average over, and which steps are skipped.

[`SteppingTrainer`] leaves rollouts with a failed search out of every denominator of the loss. With
`skip_steps_without_signal` it also skips steps that could only follow the optimizer's momentum.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.logging import get_logger
from torch import Tensor
from transformers import TrainerCallback

from ..credit import EPSILON, SIGNAL, ZERO_STD
from .checkpoints import ResumableTrainer

logger = get_logger(__name__)

_MEAN_OF_ROLLOUTS = ("grpo", "sapo", "dr_grpo", "luspo")  # the other losses divide by numbers of tokens


class SteppingTrainer(ResumableTrainer):
    """
    [`~trl.GRPOTrainer`] that leaves failed rollouts out of its means, and can skip steps without signal.

    It takes the arguments of [`~trl.GRPOTrainer`].
    """

    # TRL's own tests call methods of trainers without `__init__`.
    retriever: Any = None
    _skipped_steps = 0  # of the run so far
    _has_signal: Tensor | None = None  # of the current step, this process's part
    _may_skip = False
    _trajectories: list

    # TRL declares no types for these.
    model: Any
    beta: float
    current_gradient_accumulation_steps: float
    router_aux_loss_coef: float

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._may_skip = getattr(self.args, "skip_steps_without_signal", False)  # a `GRPOConfig` has no such field
        if self._may_skip:
            if self._has_other_terms:
                logger.warning(
                    "`skip_steps_without_signal=True` skips no step of this run: `beta`, the entropy bonus or the "
                    "auxiliary loss gives every step a gradient. Set `skip_steps_without_signal=False`, or turn these "
                    "terms off."
                )
            self.add_callback(_SkipSteps(self))

    @property
    def _has_other_terms(self) -> bool:
        """Whether the loss has terms that do not depend on the advantages."""
        return bool(self.beta != 0 or self._entropy_bonus_enabled or self.aux_loss_enabled)

    # Rollouts that are left out

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        if self.retriever is not None:
            has_failed = torch.tensor([one.end_reason == "search_failed" for one in self._trajectories])
            has_failed = has_failed.to(self.accelerator.device)
            if self.accelerator.gather(has_failed).any():
                output["is_left_out"] = has_failed
        return output

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if not self.model.training:
            return inputs
        if self._buffered_inputs is not before:
            self._weigh_steps(self._buffered_inputs)
        if self._may_skip:
            # TRL divides the rounding errors of equal rewards by `EPSILON`. Turn advantages are free of them.
            args: Any = self.args
            is_trls = inputs["advantages"].dim() == 1 and args.scale_rewards == "group"
            signal = has_signal(inputs, ZERO_STD / EPSILON if is_trls else SIGNAL)
            self._has_signal = signal if self._has_signal is None else self._has_signal | signal
        return inputs

    def _weigh_steps(self, batches: list[dict[str, Any]]) -> None:
        """Weigh the micro-batches of each optimizer step. A generation that is no whole number of steps is one."""
        args: Any = self.args
        size = args.gradient_accumulation_steps
        size = len(batches) if len(batches) % size else size
        for start in range(0, len(batches), size):
            self._weigh(batches[start : start + size])

    def _weigh(self, batches: list[dict[str, Any]]) -> None:
        """Note how much the micro-batches of a step must weigh more, since some of their rollouts are left out."""
        if "is_left_out" not in batches[0]:
            return
        is_kept = ~torch.stack([batch.pop("is_left_out") for batch in batches])
        counts = [is_kept.numel(), is_kept.sum(), len(is_kept), is_kept.any(dim=1).sum()]
        totals = self.accelerator.gather(torch.tensor(counts, device=is_kept.device)).view(-1, 4).sum(dim=0).tolist()
        rollouts, kept_rollouts, micro_batches, kept_micro_batches = totals
        if 0 < kept_rollouts < rollouts:
            for batch in batches:
                batch["rollout_weight"] = rollouts / kept_rollouts
                batch["micro_batch_weight"] = micro_batches / kept_micro_batches

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        if "is_left_out" in inputs:  # an evaluation
            inputs = dict(inputs)
            self._weigh([inputs])
        if "rollout_weight" not in inputs:
            return super()._compute_loss(model, inputs)
        args: Any = self.args
        weights = {"bnpo": inputs["micro_batch_weight"], **dict.fromkeys(_MEAN_OF_ROLLOUTS, inputs["rollout_weight"])}
        weight = weights.get(args.loss_type, 1.0)
        with_bonus = self.model.training and self._entropy_bonus_enabled
        of_batch = inputs["micro_batch_weight"] if with_bonus else 1.0
        with self._weighted(weight / of_batch, of_batch):
            # A positive factor of the advantages is one of the loss: all loss types are linear in their magnitude.
            inputs = {**inputs, "advantages": inputs["advantages"] * (weight / of_batch)}
            return super()._compute_loss(model, inputs)

    @contextmanager
    def _weighted(self, of_loss: float, of_batch: float) -> Iterator[None]:
        """
        Multiply the KL term by `of_loss` and everything by `of_batch`, except for the auxiliary loss.

        The entropy bonus is a mean over the tokens of each micro-batch. The auxiliary loss reads all tokens.
        """
        names = ["beta"]
        names += ["current_gradient_accumulation_steps"] if self.model.training else []
        names += ["router_aux_loss_coef"] if self.aux_loss_enabled else []
        before = {name: getattr(self, name) for name in names}
        factors = {"beta": of_loss}
        for name, value in before.items():
            setattr(self, name, value * factors.get(name, 1 / of_batch))
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(self, name, value)

    # Steps without signal

    def _must_skip(self) -> bool:
        """Decide whether to skip the current step, in all processes alike, and count it."""
        signal, self._has_signal = self._has_signal, None
        must_skip = not self._has_other_terms and not self.accelerator.gather(signal).any().item()
        self._skipped_steps += must_skip
        self._metrics["train"]["tspo/skipped_steps"] = [self._skipped_steps]
        return must_skip

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        self._skipped_steps, self._has_signal = 0, None
        return super()._init_training_state(*args, **kwargs)

    def _rollout_state(self) -> dict[str, Any]:
        return {**super()._rollout_state(), "skipped_steps": self._skipped_steps}

    def _load_rollout_state(self, state: dict[str, Any]) -> None:
        super()._load_rollout_state(state)
        self._skipped_steps = state.get("skipped_steps", 0)


class _SkipSteps(TrainerCallback):
    """
    Lets the optimizer step without gradients if a step has no signal.

    Optimizers pass over parameters without a gradient: no momentum, no weight decay. The call itself keeps schedulers
    and gradient scalers in step.
    """

    def __init__(self, trainer: SteppingTrainer):
        self.trainer = trainer
        self.hook: Any = None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        if not self.trainer._must_skip():
            return
        while hasattr(optimizer, "optimizer"):  # Accelerate wraps it
            optimizer = optimizer.optimizer
        # A gradient scaler needs gradients until it lets the optimizer step, so they are dropped only then.
        self.hook = optimizer.register_step_pre_hook(_drop_gradients)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.hook is not None:
            self.hook.remove()
            self.hook = None


def _drop_gradients(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def has_signal(batch: dict[str, Tensor], smallest: float = SIGNAL) -> Tensor:
    """
    Check whether the policy can learn from a batch.

    Args:
        batch (`dict[str, torch.Tensor]`):
            `advantages` of shape `(B,)` or `(B, T)`, and `completion_mask` and, if there is one, `tool_mask` of shape
            `(B, T)`.
        smallest (`float`, *optional*, defaults to `1e-6`):
            Magnitude above which an advantage has an effect.

    Returns:
        `torch.Tensor` of shape `(1,)` and type bool: whether a token of the loss has such an advantage.
    """
    mask, advantages = batch["completion_mask"].bool(), batch["advantages"]
    if "tool_mask" in batch:
        mask = mask & batch["tool_mask"].bool()
    advantages = advantages.unsqueeze(1) if advantages.dim() == 1 else advantages
    return ((advantages.abs() > smallest) & mask).any().reshape(1)
