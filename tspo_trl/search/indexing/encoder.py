"""Encoders of queries and passages. They need `pip install tspo-trl[dense]`.

Queries that are encoded differently from the passages give poor results without an error. So [`Encoder.settings`]
names pooling, normalisation and prefixes, and an [`Encoder`] rejects a model with unknown pooling.
"""

import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from ..base import check_positive, well_formed
from .pretrained import absolute_if_folder, check_dtype, model_fingerprint, sentence_transformers

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class EncoderPreset:
    """
    Prefixes and pooling of a family of models with vectors of length 1.

    Args:
        query_prefix (`str`):
            Text before every query.
        passage_prefix (`str`):
            Text before every passage.
        pooling (`str`):
            `"mean"` of the tokens, or `"cls"` for the first token.
    """

    query_prefix: str
    passage_prefix: str
    pooling: str


FROM_FOLDER = "sentence-transformers"
PRESETS: dict[str, EncoderPreset | None] = {
    "e5": EncoderPreset("query: ", "passage: ", "mean"),
    "bge": EncoderPreset("Represent this sentence for searching relevant passages: ", "", "cls"),
    FROM_FOLDER: None,  # read from the files of the model
}


class Encoder:
    """
    Encoder of queries and passages, with a model from the Hugging Face hub or a local folder.

    Several threads may share it and take turns. It can be pickled; the copy loads the model again.

    Args:
        model (`str` or `os.PathLike`):
            Folder of a model, or its name on the hub, such as `"intfloat/e5-base-v2"`.
        preset (`str`, *optional*, defaults to `"sentence-transformers"`):
            `"e5"`: prefixes `query: ` and `passage: `, mean pooling, vectors of length 1. `"bge"` (English models of
            version 1.5): an instruction before queries, pooling by the first token, vectors of length 1.
            `"sentence-transformers"`: pooling and normalisation from the model's `modules.json`, prefixes from its
            prompts `query` and `document`.
        device (`str`, *optional*):
            Device, such as `"cpu"` or `"cuda:0"`. Defaults to a GPU if there is one.
        dtype (`str`, *optional*, defaults to `"float32"`):
            Precision of the model: `"float32"`, `"float16"` or `"bfloat16"`. Vectors are always float32.
        batch_size (`int`, *optional*, defaults to `64`):
            Texts per forward pass.
        max_length (`int`, *optional*):
            Tokens after which a text is truncated. Defaults to the model's limit.

    Raises:
        `ImportError`: if sentence-transformers is not installed.
        `ValueError`: if an argument is out of range, if neither the model nor a preset defines the pooling, or if
            they disagree.
        `OSError`: if the model does not exist.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        preset: str = FROM_FOLDER,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int = 64,
        max_length: int | None = None,
    ):
        if preset not in PRESETS:
            raise ValueError(f"preset is {preset!r}. Choose one of {', '.join(PRESETS)}.")
        check_dtype(dtype)
        check_positive(batch_size=batch_size, max_length=max_length)
        self.model = absolute_if_folder(model)
        self.preset, self.device, self.dtype = preset, device, dtype
        self.batch_size, self.max_length = batch_size, max_length
        self._lock = threading.Lock()
        named = PRESETS[preset]
        self._network = self._own_network() if named is None else self._preset_network(named)
        self._settings = self._read_settings(named)

    def encode_queries(self, texts: Sequence[str]) -> "np.ndarray":
        """
        Encode queries.

        Args:
            texts (sequence of `str`):
                Any text. Lone surrogates are replaced.

        Returns:
            `np.ndarray` of float32 and shape (number of texts, `dimension`). If the model overflows in float16, only
            the row of that query is not finite.
        """
        return self._encode(texts, self._settings["query_prefix"])

    def encode_passages(self, texts: Sequence[str]) -> "np.ndarray":
        """
        Encode passages.

        Args:
            texts (sequence of `str`):
                Title and text of each passage in one string ([`Passage.contents`]). Lone surrogates are replaced.

        Returns:
            `np.ndarray` of float32 and shape (number of texts, `dimension`).

        Raises:
            `FloatingPointError`: if a vector is not finite, as may happen in float16.
        """
        import numpy as np

        vectors = self._encode(texts, self._settings["passage_prefix"])
        if not np.isfinite(vectors).all():
            raise FloatingPointError(f"{self!r} gave a vector that is not finite. Use dtype 'bfloat16' or 'float32'.")
        return vectors

    @property
    def dimension(self) -> int:
        """Dimension of the vectors."""
        return int(self._network.get_embedding_dimension() or 0)

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting that changes a vector, as JSON values. A local model is identified by the name of its folder
        and a fingerprint of its files. A model on the hub is identified by its name; its fingerprint is `None`."""
        return dict(self._settings)

    def __repr__(self) -> str:
        return f"Encoder({self.model!r}, preset={self.preset!r}, dtype={self.dtype!r})"

    def __reduce__(self) -> tuple[Callable[..., "Encoder"], tuple[str]]:
        names = ("preset", "device", "dtype", "batch_size", "max_length")
        return partial(Encoder, **{name: getattr(self, name) for name in names}), (self.model,)

    def _encode(self, texts: Sequence[str], prefix: str) -> "np.ndarray":
        import numpy as np

        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        valid = [well_formed(text) for text in texts]
        with self._lock:  # two threads cannot use a tokenizer at once
            vectors = self._network.encode(
                valid, prompt=prefix, batch_size=self.batch_size, show_progress_bar=False, convert_to_numpy=True
            )
        return vectors.astype(np.float32)

    def _own_network(self) -> "SentenceTransformer":
        library = sentence_transformers()
        if _own_modules(self.model) is None:
            raise ValueError(
                f"model {self.model} has no modules.json, so its pooling is unknown. Pass its preset ('e5' or 'bge'), "
                "or save it with sentence-transformers."
            )
        network = library.SentenceTransformer(self.model, device=self.device, model_kwargs=self._model_kwargs())
        if self.max_length is not None:
            network.max_seq_length = self.max_length
        return network

    def _preset_network(self, preset: EncoderPreset) -> "SentenceTransformer":
        library = sentence_transformers()
        from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

        _check_own_pooling(self.model, self.preset, preset.pooling)
        transformer = Transformer(self.model, model_kwargs=self._model_kwargs(), max_seq_length=self.max_length)
        modules = [transformer, Pooling(transformer.get_embedding_dimension(), preset.pooling)]
        return library.SentenceTransformer(modules=[*modules, Normalize()], device=self.device)

    def _model_kwargs(self) -> dict[str, Any]:
        import torch

        return {"dtype": getattr(torch, self.dtype)}

    def _read_settings(self, preset: EncoderPreset | None) -> dict[str, Any]:
        prompts = self._network.prompts
        fingerprint = model_fingerprint(self.model)
        return {
            "model": PurePath(self.model).name if fingerprint else self.model,
            "model_fingerprint": fingerprint,
            "preset": self.preset,
            "query_prefix": preset.query_prefix if preset else prompts.get("query") or "",
            "passage_prefix": preset.passage_prefix if preset else prompts.get("document") or "",
            "pooling": _pooling_of(self._network),
            "normalize": any(type(module).__name__ == "Normalize" for module in self._network),
            "dtype": self.dtype,
            "max_length": self._network.max_seq_length,
        }


def _own_modules(model: str) -> list[dict[str, Any]] | None:
    """Read the model's `modules.json`, `None` if it has none."""
    from sentence_transformers.util import load_file_path

    path = load_file_path(model, "modules.json")
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else None


def _check_own_pooling(model: str, name: str, pooling: str) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling

    for module in _own_modules(model) or []:
        if not module["type"].endswith(".Pooling"):
            continue
        own = Pooling.load(model, subfolder=module["path"]).pooling_mode
        if own != pooling:
            raise ValueError(
                f"preset {name!r} pools by {pooling!r}, but model {model} pools by {own!r}. Use the preset of this "
                f"model's family, or {FROM_FOLDER!r} to pool as the model does."
            )


def _pooling_of(network: "SentenceTransformer") -> str | None:
    for module in network:
        if type(module).__name__ == "Pooling":
            mode: Any = module.pooling_mode
            return mode if isinstance(mode, str) else "+".join(mode)
    return None
