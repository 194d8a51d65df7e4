"""Texts to vectors, with every choice that changes a vector explicit.

A dense index is worth nothing when queries are encoded in another way than its passages, and nothing tells: the search
goes on with poor results. So an [`Encoder`] names its pooling, normalisation and prefixes in [`Encoder.settings`], and
refuses a model whose pooling would have to be guessed. It needs `pip install tspo-trl[dense]`.
"""

import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from ..base import well_formed
from .pretrained import (
    absolute_if_folder,
    check_dtype,
    check_positive,
    model_fingerprint,
    sentence_transformers,
)

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class EncoderPreset:
    """
    How a family of models wants to be used.

    Args:
        query_prefix (`str`):
            Text put before every query.
        passage_prefix (`str`):
            Text put before every passage.
        pooling (`str`):
            How the vectors of the tokens become one: `"mean"` or `"cls"`.
        normalize (`bool`):
            Whether vectors are scaled to length 1.
    """

    query_prefix: str
    passage_prefix: str
    pooling: str
    normalize: bool


FROM_FOLDER = "sentence-transformers"
PRESETS: dict[str, EncoderPreset | None] = {
    "e5": EncoderPreset("query: ", "passage: ", "mean", True),
    "bge": EncoderPreset("Represent this sentence for searching relevant passages: ", "", "cls", True),
    FROM_FOLDER: None,  # all of it is read from the model's own files
}


class Encoder:
    """
    Encode queries and passages with a model of the Hugging Face hub or a local folder.

    It may be used from several threads, which take turns, and it can be pickled: the copy loads the model again.

    Args:
        model (`str` or `os.PathLike`):
            Folder of a model, or its name on the hub, such as `"intfloat/e5-base-v2"`.
        preset (`str`, *optional*, defaults to `"sentence-transformers"`):
            `"e5"` (prefixes `query: ` and `passage: `, mean pooling), `"bge"` (the English models of version 1.5: an
            instruction before queries, pooling by the first token), both with vectors of length 1; or
            `"sentence-transformers"`: pooling and normalisation as the model's `modules.json` says, prefixes as its
            prompts named `query` and `document` say.
        device (`str`, *optional*):
            Such as `"cpu"` or `"cuda:0"`. Defaults to a GPU if there is one.
        dtype (`str`, *optional*, defaults to `"float32"`):
            Precision of the model: `"float32"`, `"float16"` or `"bfloat16"`. Vectors are always float32.
        batch_size (`int`, *optional*, defaults to `64`):
            Texts encoded at once.
        max_length (`int`, *optional*):
            Tokens after which a text is cut. Defaults to the model's own limit.

    Raises:
        `ImportError`: if sentence-transformers is not installed.
        `ValueError`: if an argument is out of range, if the model does not say how it pools and no preset does, or if
            it says otherwise than the preset.
        `OSError`: if there is no such model.
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
        _check_arguments(preset, dtype, batch_size, max_length)
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
                Any text; what is not valid Unicode is replaced.

        Returns:
            `np.ndarray` of float32 and shape (number of texts, `dimension`). In float16 a model may overflow; the
            row of such a query is not finite, and the others are right.
        """
        return self._encode(texts, self._settings["query_prefix"])

    def encode_passages(self, texts: Sequence[str]) -> "np.ndarray":
        """
        Encode passages, of which each is its title and text in one string ([`Passage.contents`]).

        Args:
            texts (sequence of `str`):
                Any text; what is not valid Unicode is replaced.

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
        """Length of a vector."""
        return int(self._network.get_embedding_dimension() or 0)

    @property
    def settings(self) -> dict[str, Any]:
        """All that changes a vector, as JSON can hold it. A local model is known by its folder's name and a
        fingerprint of its files, another by its name, with `None` as its fingerprint."""
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
        with self._lock:  # a tokenizer refuses to be used by two threads at once
            vectors = self._network.encode(
                valid, prompt=prefix, batch_size=self.batch_size, show_progress_bar=False, convert_to_numpy=True
            )
        return vectors.astype(np.float32)

    def _own_network(self) -> "SentenceTransformer":
        library = sentence_transformers()
        if _own_modules(self.model) is None:
            raise ValueError(
                f"model {self.model} has no modules.json, so nothing says how it pools, and a guess would be silently "
                "wrong. Name its preset ('e5' or 'bge'), or save it with sentence-transformers."
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


def _check_arguments(preset: str, dtype: str, batch_size: int, max_length: int | None) -> None:
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}: choose one of {', '.join(PRESETS)}.")
    check_dtype(dtype)
    check_positive(batch_size=batch_size, max_length=max_length)


def _own_modules(model: str) -> list[dict[str, Any]] | None:
    """What the model's `modules.json` lists, `None` where it has none."""
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
                f"preset {name!r} pools by {pooling!r}, but model {model} itself pools by {own!r}. Use the preset "
                f"of this model's family, or {FROM_FOLDER!r}, which does as the model says."
            )


def _pooling_of(network: "SentenceTransformer") -> str | None:
    for module in network:
        if type(module).__name__ == "Pooling":
            mode: Any = module.pooling_mode
            return mode if isinstance(mode, str) else "+".join(mode)
    return None
