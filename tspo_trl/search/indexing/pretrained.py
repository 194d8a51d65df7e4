"""Functions that encoders and rerankers share."""

import os
from pathlib import Path
from typing import Any

from ..identity import fingerprint_of

DTYPES = ("float32", "float16", "bfloat16")


def check_dtype(dtype: str) -> None:
    """
    Check the precision of a model.

    Args:
        dtype (`str`):
            Name of the precision.

    Raises:
        `ValueError`: if it is not `"float32"`, `"float16"` or `"bfloat16"`.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}. Choose one of {', '.join(DTYPES)}.")


def absolute_if_folder(model: str | os.PathLike[str]) -> str:
    """Return the absolute path of a local model, so that copies find it. Return a name on the hub unchanged."""
    folder = Path(model).expanduser()
    return str(folder.absolute()) if folder.is_dir() else str(model)


def model_fingerprint(model: str) -> str | None:
    """
    Return the fingerprint of a model's files.

    Args:
        model (`str`):
            Result of [`absolute_if_folder`].

    Returns:
        `str`, *optional*: fingerprint of all files in the folder and its subfolders, without hidden ones such as the
        metadata of a download. `None` for a name on the hub.
    """
    folder = Path(model)
    if not folder.is_dir():
        return None
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    visible = [file for file in files if not any(part.startswith(".") for part in file.parts)]
    return fingerprint_of(folder / file for file in sorted(visible))


def sentence_transformers() -> Any:
    """
    Import sentence-transformers.

    Returns:
        The module.

    Raises:
        `ImportError`: if it is not installed. The message says how to install it.
    """
    try:
        import sentence_transformers
    except ImportError as error:
        raise ImportError(
            "Encoders and rerankers need sentence-transformers. Run `pip install tspo-trl[dense]`."
        ) from error
    return sentence_transformers
