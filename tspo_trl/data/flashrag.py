"""The benchmarks in FlashRAG's layout, `<set>/<split>.jsonl`, from the hub or a local copy."""

import os
from pathlib import Path

from datasets import Dataset
from huggingface_hub import hf_hub_download

from .benchmarks import check_benchmark, evaluation_split
from .questions import load_questions

REPOSITORY = "RUC-NLPIR/FlashRAG_datasets"


def load_benchmark(
    name: str,
    split: str | None = None,
    *,
    local: str | os.PathLike | None = None,
    revision: str | None = None,
) -> Dataset:
    """
    Load a split of one of the seven benchmarks.

    Args:
        name (`str`):
            Name of the set, one of [`~tspo_trl.data.BENCHMARKS`].
        split (`str`, *optional*):
            `"train"`, `"dev"` or `"test"`. Defaults to the split for evaluation.
        local (`str` or `os.PathLike`, *optional*):
            Folder in FlashRAG's layout to read instead of the hub.
        revision (`str`, *optional*):
            Branch, tag or commit of the repository on the hub. Defaults to its main branch.

    Returns:
        [`~datasets.Dataset`]: questions as of [`~tspo_trl.data.load_questions`]. `data_source` defaults to `name`.

    Raises:
        ValueError: There is no such set or split, or `revision` is given for a local copy.
        FileNotFoundError: The local copy has no such file.
        OSError: The download failed.
    """
    return load_questions(benchmark_file(name, split or evaluation_split(name), local=local, revision=revision))


def benchmark_file(
    name: str, split: str, *, local: str | os.PathLike | None = None, revision: str | None = None
) -> Path:
    """Return the file of a split, downloaded unless it is in the hub's cache. See [`load_benchmark`]."""
    check_benchmark(name, split)
    if local is None:
        return _download(f"{name}/{split}.jsonl", revision)
    if revision is not None:
        raise ValueError(f"`revision={revision!r}` is one of the hub's, but `local` is {local}. Pass only one.")
    folder = Path(local).expanduser()
    candidates = [folder / name / f"{split}{suffix}" for suffix in (".jsonl", ".parquet")]
    found = [path for path in candidates if path.is_file()]
    if not found:
        raise FileNotFoundError(
            f"No {split} split of {name} in {folder}: expected at {candidates[0]} (or .parquet). Copy "
            f"{name}/{split}.jsonl of {REPOSITORY} there, or omit `local` to download it."
        )
    return found[0]


def commit_of(path: Path) -> str:
    """Return the commit of a file from [`benchmark_file`], which names its folder in the hub's cache."""
    return path.parents[1].name


def _download(file: str, revision: str | None) -> Path:
    try:
        return Path(hf_hub_download(REPOSITORY, file, repo_type="dataset", revision=revision))
    except OSError as error:
        raise OSError(
            f"{file} of {REPOSITORY} could not be downloaded ({type(error).__name__}: {error}). Check the network and "
            "`revision`, or pass a folder with a copy as `local`."
        ) from error
