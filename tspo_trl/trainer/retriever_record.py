"""Which retriever a run searched: kept beside its results, and compared when the run is resumed."""

import json
import logging
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .search.base import Retriever
from .search.identity import RetrieverIdentity, identity_of

logger = logging.getLogger(__name__)

FILE_NAME = "retriever.json"


class RetrieverRecord(TrainerCallback):
    """
    Writes the retriever's identity to `retriever.json`, in `output_dir` when training begins and in every checkpoint.

    Args:
        retriever ([`~tspo_trl.search.Retriever`]):
            What the run searches.
    """

    def __init__(self, retriever: Retriever):
        self.retriever = retriever

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            identity = identity_of(self.retriever)
            logger.info("The run searches %s", identity)
            _write(Path(args.output_dir), identity)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        checkpoint = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        if state.is_world_process_zero and checkpoint.is_dir():
            _write(checkpoint, identity_of(self.retriever))


def warn_of_another_retriever(checkpoint: str, retriever: Retriever) -> None:
    """
    Warn if a checkpoint was made with another retriever than the one that is to be searched now.

    Args:
        checkpoint (`str`):
            Folder of the checkpoint.
        retriever ([`~tspo_trl.search.Retriever`]):
            What the resumed run searches.
    """
    path = Path(checkpoint) / FILE_NAME
    try:
        recorded = RetrieverIdentity.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        logger.warning("Cannot tell whether %s was made with this retriever: %s", checkpoint, error)
        return
    recorded, identity = _searched(recorded), _searched(_through_json(identity_of(retriever)))
    if identity == recorded:
        return
    if identity.fingerprint is None or recorded.fingerprint is None:
        logger.warning(
            "Cannot tell whether %s was made with this retriever: it was %s and is %s, and which index one of them "
            "searches is not known. A server has to be up, and to be one of `tspo-trl serve`.",
            checkpoint,
            recorded,
            identity,
        )
    else:
        logger.warning(
            "THE RETRIEVER HAS CHANGED since checkpoint %s was made: %s. Results before and after it are not "
            "comparable. This is harmless only if the same corpus was indexed anew with the same options. "
            "To go on as before, pass the retriever of the checkpoint.",
            checkpoint,
            "; ".join(_differences(recorded, identity)),
        )


def _searched(identity: RetrieverIdentity) -> RetrieverIdentity:
    """What a server searches, in place of the server: an index is the same one wherever it is searched."""
    served = identity.parameters.get("served")
    return RetrieverIdentity.from_dict(served) if served else identity


def _through_json(identity: RetrieverIdentity) -> RetrieverIdentity:
    return RetrieverIdentity.from_dict(json.loads(json.dumps(identity.to_dict())))


def _differences(recorded: RetrieverIdentity, identity: RetrieverIdentity) -> list[str]:
    before, now = recorded.to_dict(), identity.to_dict()
    return [f"{name} was {before[name]!r} and is {now[name]!r}" for name in now if before[name] != now[name]]


def _write(folder: Path, identity: RetrieverIdentity) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_text(json.dumps(identity.to_dict(), indent=2) + "\n", encoding="utf-8")
