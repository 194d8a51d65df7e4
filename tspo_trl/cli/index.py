"""`tspo-trl index`: build a Lucene index from a corpus of JSON lines."""

import argparse
import time
from typing import Any


def add_parser(subparsers: Any) -> None:
    """
    Describe the subcommand.

    Args:
        subparsers:
            What `argparse.ArgumentParser.add_subparsers` returned.
    """
    parser = subparsers.add_parser(
        "index",
        help="build a Lucene index from a corpus of JSON lines",
        description='Build a Lucene index from JSON lines, each {"id", "contents"} or {"id", "title", "text"}.',
    )
    parser.add_argument("--corpus", required=True, help="file of JSON lines")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the index; must not exist yet")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="indexing threads (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace the Lucene index at DIR, if there is one")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """
    Build the index and print one line about it.

    Args:
        args (`argparse.Namespace`):
            As parsed.

    Raises:
        As [`~tspo_trl.search.build_index`].
    """
    from ..search import build_index

    start = time.perf_counter()
    count = build_index(args.corpus, args.output, threads=args.threads, overwrite=args.overwrite)
    print(f"Indexed {count:,} passages into {args.output} in {time.perf_counter() - start:.1f} s")
