"""Training and test files from the benchmarks: read, deduplicated, checked for leaks, and written with a manifest.

The folder appears when it is complete. The same input files give the same bytes.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
from datasets import Dataset, concatenate_datasets
from tqdm import tqdm  # type: ignore[import-untyped]

from ..search.indexing.bm25 import check_output, put_in_place
from ..trajectory import write_json_lines
from .benchmarks import BENCHMARKS, TRAINING_MIX, check_benchmark, evaluation_split
from .flashrag import REPOSITORY, benchmark_file, commit_of
from .manifest import file_checksum, is_prepared_data, write_manifest
from .overlap import count_duplicates, drop_rows, find_leaks, merge_duplicates
from .questions import SCHEMA, load_questions
from .search_r1 import to_search_r1

DataFormat = Literal["jsonl", "parquet", "search-r1"]

Split = tuple[str, str]
"""Name of a set and of its split."""

DATA_FORMATS: tuple[DataFormat, ...] = ("jsonl", "parquet", "search-r1")


def prepare_data(
    output: str | os.PathLike,
    *,
    train: Sequence[str] = TRAINING_MIX,
    test: Sequence[str] = tuple(BENCHMARKS),
    local: str | os.PathLike | None = None,
    revision: str | None = None,
    data_format: DataFormat = "jsonl",
    keep_duplicates: bool = False,
    keep_leaked: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """
    Write training and test files.

    Training data are the concatenated training splits. Each question occurs once, with the gold answers of all its
    rows, and questions of test sets are removed. Test sets are the unchanged splits of
    [`~tspo_trl.data.evaluation_split`], so results are comparable with published ones.

    Args:
        output (`str` or `os.PathLike`):
            Folder to write. It must be empty or not exist.
        train (sequence of `str`, *optional*, defaults to `("nq", "hotpotqa")`):
            Training sets. An empty sequence writes no training file.
        test (sequence of `str`, *optional*, defaults to all seven):
            Test sets. An empty sequence writes no test files.
        local (`str` or `os.PathLike`, *optional*):
            Folder in FlashRAG's layout to read instead of the hub.
        revision (`str`, *optional*):
            Branch, tag or commit on the hub.
        data_format (`str`, *optional*, defaults to `"jsonl"`):
            `"jsonl"` and `"parquet"` write `train` and `test/<set>` in the schema of
            [`~tspo_trl.data.load_questions`]. `"search-r1"` writes `train.parquet` and one `test.parquet` of all test
            sets, as Search-R1's scripts do.
        keep_duplicates (`bool`, *optional*, defaults to `False`):
            If `True`, repeated training questions are kept. They are counted either way.
        keep_leaked (`bool`, *optional*, defaults to `False`):
            If `True`, training questions of test sets are kept. They are counted either way.
        overwrite (`bool`, *optional*, defaults to `False`):
            If `True`, prepared data at `output` are replaced. Other files there are never removed.

    Returns:
        `dict`: content of `manifest.json`.

    Raises:
        ValueError: An argument is wrong, a file is malformed, or no training question is left.
        FileNotFoundError: The local copy lacks a file.
        FileExistsError: `output` contains something that may not be replaced.
        OSError: A download failed.
    """
    output = Path(output).expanduser().absolute()
    _check_arguments(train, test, data_format)
    check_output(output, overwrite, "prepared data", is_prepared_data)
    files = _plan(train, test, data_format)
    splits = [split for splits in files.values() for split in splits]
    paths = {(name, split): benchmark_file(name, split, local=local, revision=revision) for name, split in splits}
    datasets = {
        split: load_questions(path).select_columns(SCHEMA.names)
        for split, path in tqdm(paths.items(), "Reading", unit="file", disable=None)
    }
    contents, entries = {}, {}
    for stem, splits in files.items():
        contents[stem] = concatenate_datasets([datasets[split] for split in splits])
        entries[stem] = {
            "sources": [_describe_source(split, paths[split], datasets[split], local is None) for split in splits],
            "duplicates": {"rows": count_duplicates(contents[stem]), "removed": False},
        }
    if train:
        tests = {name: datasets[name, evaluation_split(name)] for name in test}
        contents["train"], found = _clean(contents["train"], tests, keep_duplicates, keep_leaked)
        entries["train"].update(found)
    return _write_all(output, contents, entries, data_format, overwrite)


def _check_arguments(train: Sequence[str], test: Sequence[str], data_format: str) -> None:
    if data_format not in DATA_FORMATS:
        raise ValueError(f"`data_format` is {data_format!r}. Choose one of {', '.join(DATA_FORMATS)}.")
    if not train and not test:
        raise ValueError("`train` and `test` are both empty, so there is nothing to prepare. Pass a set.")
    for argument, names in (("train", train), ("test", test)):
        for name in names:
            check_benchmark(name, "train" if argument == "train" else None)
        if len(set(names)) < len(names):
            raise ValueError(f"`{argument}` names a set twice: {', '.join(names)}. Pass each set once.")


def _plan(train: Sequence[str], test: Sequence[str], data_format: str) -> dict[str, list[Split]]:
    """Return the splits of each file to write, by its name without suffix."""
    train_splits = [(name, "train") for name in train]
    test_splits = [(name, evaluation_split(name)) for name in test]
    if data_format == "search-r1":
        files = {"train": train_splits, "test": test_splits}
    else:
        files = {"train": train_splits} | {f"test/{name}": [(name, split)] for name, split in test_splits}
    return {stem: splits for stem, splits in files.items() if splits}


def _clean(
    dataset: Dataset, tests: Mapping[str, Dataset], keep_duplicates: bool, keep_leaked: bool
) -> tuple[Dataset, dict[str, Any]]:
    """Return the training data to write, and the counts of duplicates and leaks."""
    unique = merge_duplicates(dataset)
    if not keep_duplicates:
        dataset = unique.dataset
    leaks = find_leaks(dataset, tests)
    leaked = {row for rows in leaks.values() for row in rows}
    if not keep_leaked:
        dataset = drop_rows(dataset, leaked)
    if not len(dataset):
        raise ValueError("Every training question is in a test set. Omit those test sets, or keep leaked questions.")
    return dataset, {
        "duplicates": {
            "rows": unique.repeated + unique.merged,
            "with_further_answers": unique.merged,
            "removed": not keep_duplicates,
        },
        "leaked": {
            "rows": len(leaked),
            "test_sets": {name: len(rows) for name, rows in leaks.items()},
            "removed": not keep_leaked,
        },
    }


def _write_all(
    output: Path,
    contents: Mapping[str, Dataset],
    entries: Mapping[str, Mapping[str, Any]],
    data_format: DataFormat,
    overwrite: bool,
) -> dict[str, Any]:
    """Write the files and their manifest next to `output`, then move them there."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.preparing-") as workshop:
        folder = Path(workshop) / "data"
        files = {}
        for stem, dataset in tqdm(contents.items(), "Writing", unit="file", disable=None):
            path = _write(dataset, folder / stem, data_format)
            files[path.relative_to(folder).as_posix()] = {
                "rows": len(dataset),
                "sha256": file_checksum(path),
                **entries[stem],
            }
        manifest = {"format": data_format, "files": files}
        write_manifest(folder, manifest)
        check_output(output, overwrite, "prepared data", is_prepared_data)
        put_in_place(folder, output)
    return manifest


def _write(dataset: Dataset, stem: Path, data_format: str) -> Path:
    stem.parent.mkdir(parents=True, exist_ok=True)
    if data_format == "jsonl":
        path = stem.with_name(f"{stem.name}.jsonl")
        write_json_lines(path, dataset)
        return path
    path = stem.with_name(f"{stem.name}.parquet")
    if data_format == "search-r1":
        dataset = to_search_r1(dataset, stem.name)
    pq.write_table(dataset.with_format("arrow")[:], path)
    return path


def _describe_source(split: Split, path: Path, dataset: Dataset, is_on_hub: bool) -> dict[str, Any]:
    return {
        "file": "/".join((split[0], path.name)),
        "repository": REPOSITORY if is_on_hub else None,
        "revision": commit_of(path) if is_on_hub else None,
        "rows": len(dataset),
        "sha256": file_checksum(path),
    }
