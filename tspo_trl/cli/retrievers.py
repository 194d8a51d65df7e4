"""The retriever options that several subcommands share."""

import argparse
from dataclasses import MISSING, fields

from ..search.arguments import RetrieverArguments, open_retriever
from ..search.base import Retriever


def add_retriever_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add an option for each field of [`~tspo_trl.search.arguments.RetrieverArguments`].

    Args:
        parser (`argparse.ArgumentParser`):
            The subcommand's parser.
    """
    group = parser.add_argument_group("what to search")
    for field in fields(RetrieverArguments):
        assert field.default is not MISSING
        flag, text = f"--{field.name.replace('_', '-')}", field.metadata["help"].replace("`", "")
        if field.type is bool:
            group.add_argument(flag, action="store_true", help=text)
        else:
            # Not `nargs="+"`, which would take the query behind it for a server.
            action = "append" if field.name == "retriever_url" else "store"
            group.add_argument(flag, default=field.default, action=action, metavar=_metavar(field.name), help=text)


def retriever_arguments(args: argparse.Namespace) -> RetrieverArguments:
    """The options that [`add_retriever_arguments`] added, as they were parsed."""
    return RetrieverArguments(**{field.name: getattr(args, field.name) for field in fields(RetrieverArguments)})


def retriever_from(args: argparse.Namespace) -> Retriever:
    """
    Open the retriever that the options name.

    Args:
        args (`argparse.Namespace`):
            As parsed.

    Returns:
        [`~tspo_trl.search.Retriever`]

    Raises:
        As [`~tspo_trl.search.arguments.open_retriever`].
    """
    return open_retriever(retriever_arguments(args))


def _metavar(name: str) -> str:
    kinds = {"index": "DIR", "dense": "DIR", "passages": "PATH", "retriever_url": "URL", "retriever_cache": "FILE"}
    return kinds.get(name, name.removeprefix("encoder_").upper())
