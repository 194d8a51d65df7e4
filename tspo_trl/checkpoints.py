"""Runs that are killed go on from their last checkpoint as if nothing had happened.

Resumed by TRL alone, a run may take a checkpoint that was being written when it was killed, begin with the first
epoch's order of the dataset again, generate anew in the middle of rollouts that serve for several steps, change the
type of adapters on a quantized model, and train a step more than `max_steps`. [`ResumableTrainer`] does none of these.
"""

import json
import re
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from accelerate.logging import get_logger
from torch.utils.data import Sampler
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput
from trl import GRPOTrainer

logger = get_logger(__name__)


def last_complete_checkpoint(output_dir: str | PathLike) -> str | None:
    """
    The newest checkpoint that was written to its end.

    [`~transformers.trainer_utils.get_last_checkpoint`] returns the newest folder, complete or not.

    Args:
        output_dir (`str` or `os.PathLike`):
            Folder of the run. It need not exist.

    Returns:
        `str`, *optional*: folder of the checkpoint, `None` if there is none.
    """
    return next((str(folder) for folder in _checkpoints(output_dir) if is_complete(folder)), None)


def is_complete(checkpoint: str | PathLike) -> bool:
    """
    Whether a checkpoint was written to its end.

    Args:
        checkpoint (`str` or `os.PathLike`):
            Folder of the checkpoint.

    Returns:
        `bool`: whether it holds the trainer's state, which is written last.
    """
    try:
        read_trainer_state(checkpoint)
    except (OSError, ValueError):
        return False
    return True


def read_trainer_state(checkpoint: str | PathLike) -> dict[str, Any]:
    """
    The trainer's state in a checkpoint.

    Args:
        checkpoint (`str` or `os.PathLike`):
            Folder of the checkpoint.

    Returns:
        `dict`

    Raises:
        OSError: There is none.
        ValueError: It is cut off.
    """
    state: dict[str, Any] = json.loads((Path(checkpoint) / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    return state


def _checkpoints(output_dir: str | PathLike) -> list[Path]:
    """All checkpoints of a run, complete or not, the newest first."""
    pattern = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
    steps = {
        int(match[1]): folder
        for folder in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if (match := pattern.fullmatch(folder.name))
    }
    return [steps[step] for step in sorted(steps, reverse=True)]


class ResumableTrainer(GRPOTrainer):
    """
    [`~trl.GRPOTrainer`] whose runs may be killed at any moment: resumed on a CPU with fixed seeds, they end with the
    same parameters, bit for bit, as if they had not been interrupted.

    It takes the arguments of [`~trl.GRPOTrainer`].
    """

    _epochs_trained = 0

    # TRL leaves these without types.
    _step: int
    _buffered_inputs: Any
    num_iterations: int

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """
        Train, as [`~trl.GRPOTrainer`] does; a checkpoint that was not written to its end is not resumed.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                Folder of a checkpoint, or `True` for the last complete one in `output_dir`.
            trial (*optional*):
                As in [`~transformers.Trainer.train`].
            ignore_keys_for_eval (`list[str]`, *optional*):
                As in [`~transformers.Trainer.train`].

        Returns:
            [`~transformers.trainer_utils.TrainOutput`]

        Raises:
            ValueError: There is no complete checkpoint to resume.
        """
        checkpoint = self._find_checkpoint(resume_from_checkpoint)
        # `epoch` counts fractions of epochs, too.
        self._epochs_trained = int(read_trainer_state(checkpoint).get("epoch") or 0) if checkpoint else 0
        return super().train(checkpoint, trial, ignore_keys_for_eval)

    def _find_checkpoint(self, resume_from_checkpoint: str | bool | None) -> str | None:
        """The folder of the checkpoint to resume, if any; it is complete."""
        if not resume_from_checkpoint:
            return None
        output_dir = str(self.args.output_dir)
        if resume_from_checkpoint is not True:
            if not is_complete(resume_from_checkpoint):
                raise ValueError(
                    f"`resume_from_checkpoint` is {resume_from_checkpoint!r}, but no complete checkpoint is there: "
                    f"{TRAINER_STATE_NAME}, which is written last, is missing or cut off. Pass `True` to resume the "
                    "last complete checkpoint in `output_dir`."
                )
            return str(resume_from_checkpoint)
        checkpoint = last_complete_checkpoint(output_dir)
        for folder in _checkpoints(output_dir):
            if str(folder) == checkpoint:
                break
            logger.warning("%s is passed over: it was not written to its end.", folder)
        if checkpoint is None:
            raise ValueError(
                f"`resume_from_checkpoint` is True, but there is no complete checkpoint in {output_dir!r}. Leave "
                "`resume_from_checkpoint` out to begin. `tspo_trl.checkpoints.last_complete_checkpoint(output_dir)` "
                "gives `None` where there is nothing to resume."
            )
        return checkpoint

    def _get_train_sampler(self, dataset: Any = None) -> Sampler:
        """TRL's sampler, which shuffles anew each time it is iterated, moved on to the epoch of the checkpoint."""
        sampler = super()._get_train_sampler(dataset)
        for _ in range(self._epochs_trained):
            next(iter(sampler), None)
        return sampler

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Transformers takes one step more where all had been taken before the run was killed."""
        if kwargs["resume_from_checkpoint"] is not None and self.state.global_step >= self.state.max_steps:
            self._load_rng_state(kwargs["resume_from_checkpoint"])
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """PEFT makes adapters float32 where it loads them: on a quantized base, TRL has them in bfloat16."""
        policy: Any = self.model
        dtypes = {name: parameter.dtype for name, parameter in policy.named_parameters()}
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        for name, parameter in policy.named_parameters():
            if parameter.dtype != dtypes[name]:
                parameter.data = parameter.data.to(dtypes[name])

    # Checkpoints

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.accelerator.is_main_process:
            # A checkpoint that is written over is not complete meanwhile.
            (folder / TRAINER_STATE_NAME).unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        """The last that each process writes before the main process writes the trainer's state."""
        super()._save_rng_state(output_dir)
        path = self._rollouts_path(output_dir)
        settings = self._rollout_settings()
        if self._step % (settings["steps_per_generation"] * settings["num_iterations"]) == 0:
            path.unlink(missing_ok=True)
        else:
            torch.save({"settings": settings, "state": self._rollout_state()}, path)
        self.accelerator.wait_for_everyone()

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is None or self.args.ignore_data_skip or not self._rollouts_path(checkpoint).is_file():
            return
        device = self.args.device
        # torch cannot load to a CPU with an index, which is what several processes on a CPU have.
        map_location = "cpu" if device.type == "cpu" else device
        saved = torch.load(self._rollouts_path(checkpoint), map_location=map_location, weights_only=True)
        settings = self._rollout_settings()
        if saved["settings"] != settings:
            changes = [
                f"`{name}` was {before} and is {settings[name]}"
                for name, before in saved["settings"].items()
                if before != settings[name]
            ]
            logger.warning(
                "The rollouts in %s are not used, new ones are generated: %s.", checkpoint, "; ".join(changes)
            )
            return
        self._load_rollout_state(saved["state"])

    def _rollout_state(self) -> dict[str, Any]:
        """What has to outlive a checkpoint between two generations: tensors and JSON values."""
        return {"step": self._step, "buffered_inputs": self._buffered_inputs}

    def _load_rollout_state(self, state: dict[str, Any]) -> None:
        self._step, self._buffered_inputs = state["step"], state["buffered_inputs"]

    def _rollout_settings(self) -> dict[str, int]:
        """What gives the rollouts their shape, and the number of their uses."""
        args: Any = self.args
        return {
            "steps_per_generation": args.steps_per_generation,
            "num_iterations": self.num_iterations,
            "per_device_train_batch_size": args.per_device_train_batch_size,
            "gradient_accumulation_steps": args.gradient_accumulation_steps,
            "num_processes": self.accelerator.num_processes,
        }

    def _rollouts_path(self, checkpoint: str) -> Path:
        return Path(checkpoint) / f"rollouts_{self.accelerator.process_index}.pt"
