"""What the models of retrieval have in common: their options, and the library that loads them."""

import os
from pathlib import Path
from typing import Any

from ..identity import fingerprint_of

DTYPES = ("float32", "float16", "bfloat16")


def check_positive(**values: int | None) -> None:
    """
    Check options that count something.

    Args:
        **values (`int`, *optional*):
            The options by name; `None` is one that was not given.

    Raises:
        `ValueError`: if one is less than 1.
    """
    for name, value in values.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}: it has to be at least 1.")


def check_dtype(dtype: str) -> None:
    """
    Check the precision of a model.

    Args:
        dtype (`str`):
            Its name.

    Raises:
        `ValueError`: if it is none of `"float32"`, `"float16"` and `"bfloat16"`.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}: choose one of {', '.join(DTYPES)}.")


def absolute_if_folder(model: str | os.PathLike[str]) -> str:
    """The absolute path of a model's folder, so that a copy made elsewhere finds it; a name on the hub as it is."""
    folder = Path(model).expanduser()
    return str(folder.absolute()) if folder.is_dir() else str(model)


def model_fingerprint(model: str) -> str | None:
    """
    Fingerprint of a model's files.

    Args:
        model (`str`):
            As [`absolute_if_folder`] gave it.

    Returns:
        `str`, *optional*: of all files in the folder and below it but hidden ones, such as the notes that a download
        leaves there; `None` for a name on the hub.
    """
    folder = Path(model)
    if not folder.is_dir():
        return None
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    visible = [file for file in files if not any(part.startswith(".") for part in file.parts)]
    return fingerprint_of(folder / file for file in sorted(visible))


def sentence_transformers() -> Any:
    """
    The library sentence-transformers.

    Returns:
        The module.

    Raises:
        `ImportError`: if it is not installed; the message says how to install it.
    """
    try:
        import sentence_transformers
    except ImportError as error:
        raise ImportError(
            "Models of retrieval need sentence-transformers: run `pip install tspo-trl[dense]`."
        ) from error
    return sentence_transformers
