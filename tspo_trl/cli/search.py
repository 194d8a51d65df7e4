"""`tspo-trl search`: print the feedback that the model would receive for a query."""

import argparse
from typing import Any

from ..search.arguments import open_retriever
from .arguments import add_retriever_arguments, retriever_arguments


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the return value of `argparse.ArgumentParser.add_subparsers`."""
    parser = subparsers.add_parser(
        "search",
        help="print the feedback for a query",
        description="Search and print the feedback that the model would receive, without its limit of tokens.",
    )
    parser.add_argument("query", nargs="+", help="one or more queries, each in quotes")
    parser.add_argument("--top-k", type=int, default=3, metavar="N", help="passages per query (default: %(default)s)")
    parser.add_argument("--scores", action="store_true", help="first print the id and score of each passage")
    add_retriever_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """
    Search and print.

    Args:
        args (`argparse.Namespace`):
            Parsed arguments.

    Raises:
        `ValueError`: if the options do not name a retriever.
        [`~tspo_trl.search.SearchError`]: if a search failed.
    """
    from ..protocols.tags import TagProtocol
    from ..search import SearchError

    results = open_retriever(retriever_arguments(args)).search(args.query, args.top_k)
    for query, passages in zip(args.query, results, strict=True):
        if passages is None:
            raise SearchError(f"The search for {query!r} failed. The log says why. `tspo-trl doctor` may show more.")
        if args.scores:
            for rank, passage in enumerate(passages, start=1):
                print(f"{rank}\t{passage.id}\t{'' if passage.score is None else format(passage.score, '.4f')}")
        print(TagProtocol().render(passages).text.strip())
