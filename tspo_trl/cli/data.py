"""`tspo-trl data`: prepare training and test questions from the benchmarks, and verify them."""

import argparse
from collections.abc import Mapping
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the return value of `argparse.ArgumentParser.add_subparsers`."""
    parser = subparsers.add_parser(
        "data",
        help="prepare training and test questions from the benchmarks, and verify them",
        description="Prepare training and test questions from the seven benchmarks, and verify them.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_prepare(commands)
    verify = commands.add_parser(
        "verify",
        help="compare prepared data with their checksums",
        description="Compare prepared data with the checksums in their manifest. Exit status 1 if something changed.",
    )
    verify.add_argument("directory", metavar="DIR", help="folder that `tspo-trl data prepare` wrote")
    verify.set_defaults(run=run_verify)


def _add_prepare(commands: Any) -> None:
    parser = commands.add_parser(
        "prepare",
        help="write training and test files with a manifest",
        description="Write training and test files with a manifest. Training files contain each question once, and no "
        "question of a test set. Test sets are unchanged.",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write; must not exist yet")
    parser.add_argument("--overwrite", action="store_true", help="replace prepared data at DIR")
    parser.add_argument("--train", nargs="*", metavar="SET", help="sets to train on (default: nq hotpotqa)")
    parser.add_argument("--test", nargs="*", metavar="SET", help="sets to test on (default: all seven)")
    parser.add_argument(
        "--local", metavar="FOLDER", help="read <set>/<split>.jsonl or .parquet in FOLDER, not from the hub"
    )
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit of the repository on the hub")
    parser.add_argument(
        "--format",
        dest="data_format",
        choices=("jsonl", "parquet", "search-r1"),
        help="files to write (default: jsonl)",
    )
    parser.add_argument("--keep-duplicates", action="store_true", help="keep repeated training questions")
    parser.add_argument("--keep-leaked", action="store_true", help="keep training questions that are in a test set")
    parser.set_defaults(run=run_prepare)


def run_prepare(args: argparse.Namespace) -> None:
    """
    Prepare the data and print a table of the files.

    Args:
        args (`argparse.Namespace`):
            Parsed arguments.

    Raises:
        As [`~tspo_trl.data.prepare.prepare_data`].
    """
    from rich.console import Console

    from ..data.prepare import prepare_data

    options = {name: getattr(args, name) for name in ("train", "test", "data_format")}
    manifest = prepare_data(
        args.output,
        local=args.local,
        revision=args.revision,
        keep_duplicates=args.keep_duplicates,
        keep_leaked=args.keep_leaked,
        overwrite=args.overwrite,
        **{name: value for name, value in options.items() if value is not None},
    )
    Console().print(_summary(manifest["files"]))
    for name, count in _leaks(manifest["files"]).items():
        questions = "1 training question is" if count == 1 else f"{count:,} training questions are"
        print(f"{questions} in the test set of {name}")
    print(f"Prepared {args.output}. Check it at any time with `tspo-trl data verify {args.output}`.")


def run_verify(args: argparse.Namespace) -> int:
    """
    Verify prepared data and print the changes.

    Args:
        args (`argparse.Namespace`):
            Parsed arguments.

    Returns:
        `int`: exit status, 1 if something changed.

    Raises:
        As [`~tspo_trl.data.manifest.verify_data`].
    """
    from ..data.manifest import verify_data

    problems = verify_data(args.directory)
    print("\n".join(problems) or f"{args.directory} is as it was prepared")
    return 1 if problems else 0


def _summary(files: Mapping[str, Mapping[str, Any]]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    table.add_column("file")
    for column in ("read", "duplicates", "leaked", "written"):
        table.add_column(column, justify="right")
    for name, entry in files.items():
        read = sum(source["rows"] for source in entry["sources"])
        leaked = _count(entry["leaked"]) if "leaked" in entry else ""
        table.add_row(name, f"{read:,}", _count(entry["duplicates"]), leaked, f"{entry['rows']:,}")
    return table


def _count(found: Mapping[str, Any]) -> str:
    """Return the number of rows found, marked if they were kept."""
    return f"{found['rows']:,}" + (" (kept)" if found["rows"] and not found["removed"] else "")


def _leaks(files: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Return the number of training questions in each test set, without zeros."""
    leaks = {
        name: count for entry in files.values() for name, count in entry.get("leaked", {}).get("test_sets", {}).items()
    }
    return {name: count for name, count in leaks.items() if count}
