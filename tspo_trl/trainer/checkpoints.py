"""Checkpoints from which a killed run continues exactly.

TRL alone may resume an incomplete checkpoint, repeat the first epoch's order of the dataset, generate new rollouts in
the middle of a batch that serves for several steps, change the dtype of adapters on a quantized model, and train one
step more than `max_steps`. [`ResumableTrainer`] does none of these.
"""

import json
import re
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from accelerate.logging import get_logger
from datasets import IterableDataset
from torch.utils.data import Sampler
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput
from trl import GRPOTrainer

logger = get_logger(__name__)

ENTROPY_STATE_NAME = "entropy_ctrl_state.json"  # TRL's, of runs with `use_adaptive_entropy`


def last_complete_checkpoint(output_dir: str | PathLike) -> str | None:
    """
    Return the newest complete checkpoint of a run.

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
    Check whether a checkpoint is complete.

    Args:
        checkpoint (`str` or `os.PathLike`):
            Folder of the checkpoint.

    Returns:
        `bool`: whether its last file is complete. That is the trainer's state, or with `use_adaptive_entropy` the
        state of the entropy coefficient.
    """
    trainer_state, entropy_state = Path(checkpoint) / TRAINER_STATE_NAME, Path(checkpoint) / ENTROPY_STATE_NAME
    try:
        for path in [trainer_state, *([entropy_state] if entropy_state.exists() else [])]:
            json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _checkpoints(output_dir: str | PathLike) -> list[Path]:
    """All checkpoints of a run, complete or not, newest first."""
    pattern = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
    steps = {
        int(match[1]): folder
        for folder in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if (match := pattern.fullmatch(folder.name))
    }
    return [steps[step] for step in sorted(steps, reverse=True)]


class ResumableTrainer(GRPOTrainer):
    """
    [`~trl.GRPOTrainer`] with exact resuming. With fixed seeds on a CPU, a killed and resumed run ends with the same
    parameters, bit for bit, as an uninterrupted one.

    Two kinds of runs resume less exactly and warn about it. An [`~datasets.IterableDataset`] starts again if it was in
    its second pass or a later one. With `sync_ref_model`, no checkpoint contains the synced reference model.

    It takes the arguments of [`~trl.GRPOTrainer`].
    """

    _train_sampler: Sampler | None = None  # of the current `train`, `None` for an iterable dataset

    # TRL declares no types for these.
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
        Train as [`~trl.GRPOTrainer`] does, and resume complete checkpoints only.

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
        if checkpoint:
            self._warn_of_what_no_checkpoint_holds()
        return super().train(checkpoint, trial, ignore_keys_for_eval)

    def _find_checkpoint(self, resume_from_checkpoint: str | bool | None) -> str | None:
        """Return the folder of the complete checkpoint to resume, if any."""
        if not resume_from_checkpoint:
            return None
        output_dir = str(self.args.output_dir)
        if resume_from_checkpoint is not True:
            if not is_complete(resume_from_checkpoint):
                raise ValueError(
                    f"`resume_from_checkpoint` is {resume_from_checkpoint!r}, but no complete checkpoint is there. "
                    f"{TRAINER_STATE_NAME}, or another file that is written last, is missing or cut off. Pass `True` "
                    "to resume the last complete checkpoint in `output_dir`."
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
                "`resume_from_checkpoint` out to begin. To resume only if there is a checkpoint, pass the result of "
                "`tspo_trl.trainer.checkpoints.last_complete_checkpoint(output_dir)`."
            )
        return checkpoint

    def _warn_of_what_no_checkpoint_holds(self) -> None:
        if isinstance(self.train_dataset, IterableDataset):
            logger.warning(
                "`train_dataset` is an `IterableDataset`: if its first pass was over, it is begun again, and the run "
                "sees other questions than an uninterrupted one. Use a `Dataset` to resume exactly."
            )
        args: Any = self.args
        if args.sync_ref_model:
            logger.warning(
                "`sync_ref_model` is True: no checkpoint holds the synced reference model. Until the next "
                "synchronization the run uses its first reference model, and the KL penalty differs from that of an "
                "uninterrupted run."
            )

    def _get_train_sampler(self, dataset: Any = None) -> Sampler:
        self._train_sampler = super()._get_train_sampler(dataset)
        return self._train_sampler

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: str | None,
        trial: Any,
    ) -> tuple[int, int]:
        """Return the finished epochs and batches, and set rollouts and shuffling accordingly."""
        epochs, batches = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        # Transformers saves the state of each such callback, and fails if the checkpoint has none of it.
        states: Any = self.state.stateful_callbacks
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, ExportableState):
                states.setdefault(type(callback).__name__, callback.state())
        # Drop the rollouts of an earlier `train`. An epoch begins with a generation.
        self._step, self._buffered_inputs = batches, None
        if resume_from_checkpoint is not None and self.state.global_step >= max_steps:
            # Transformers would train one more step. The last log entry is still one of training.
            policy: Any = self.model
            policy.train()
            self._load_rng_state(resume_from_checkpoint)
            return num_train_epochs, 0
        if self._train_sampler is not None:
            # Each iteration shuffles once.
            for _ in range(epochs):
                next(iter(self._train_sampler), None)
        return epochs, batches

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Keep the dtypes: PEFT loads adapters in float32, but TRL has them in bfloat16 on a quantized base."""
        policy: Any = self.model
        dtypes = {name: parameter.dtype for name, parameter in policy.named_parameters()}
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        for name, parameter in policy.named_parameters():
            if parameter.dtype != dtypes[name]:
                parameter.data = parameter.data.to(dtypes[name])

    # Checkpoints

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            # An overwritten checkpoint is incomplete meanwhile. It may have rollouts of more processes than there are.
            for path in (folder / TRAINER_STATE_NAME, *folder.glob("rollouts_*.pt")):
                path.unlink(missing_ok=True)
            if self.use_adaptive_entropy:
                # TRL writes this file after the trainer's state. While it is empty, the checkpoint is incomplete.
                folder.mkdir(parents=True, exist_ok=True)
                (folder / ENTROPY_STATE_NAME).write_text("", encoding="utf-8")
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        """Save the rollouts, too: this is the last hook of each process before the trainer's state is written."""
        super()._save_rng_state(output_dir)
        saved = {"settings": self._rollout_settings(), "state": self._rollout_state()}
        torch.save(saved, self._rollouts_path(output_dir))
        self.accelerator.wait_for_everyone()

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is None or not self._rollouts_path(checkpoint).is_file():
            return
        device = self.args.device
        # With several processes the device is `cpu:0`, to which torch cannot load.
        map_location = "cpu" if device.type == "cpu" else device
        saved = torch.load(self._rollouts_path(checkpoint), map_location=map_location, weights_only=True)
        settings, state = self._rollout_settings(), saved["state"]
        changes = [
            f"`{name}` was {before} and is {settings[name]}"
            for name, before in saved["settings"].items()
            if before != settings[name]
        ]
        if changes and state["buffered_inputs"] is not None:
            logger.warning(
                "The rollouts in %s are not used, new ones are generated: %s.", checkpoint, "; ".join(changes)
            )
        if changes or self.args.ignore_data_skip:
            state |= {"step": self._step, "buffered_inputs": None}
        self._load_rollout_state(state)

    def _rollout_state(self) -> dict[str, Any]:
        """Tensors and JSON values for a checkpoint: the rollouts that further steps will use, if any."""
        settings = self._rollout_settings()
        is_used_up = self._step % (settings["steps_per_generation"] * settings["num_iterations"]) == 0
        return {"step": self._step, "buffered_inputs": None if is_used_up else self._buffered_inputs}

    def _load_rollout_state(self, state: dict[str, Any]) -> None:
        self._step, self._buffered_inputs = state["step"], state["buffered_inputs"]

    def _rollout_settings(self) -> dict[str, int]:
        """Settings that decide the shape of the rollouts and the number of their uses."""
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
