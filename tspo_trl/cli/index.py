"""`tspo-trl index`: build a Lucene or FAISS index from a corpus of JSON lines."""

import argparse
import time
from typing import Any

_ENCODER_OPTIONS = ("encoder_preset", "encoder_device", "encoder_dtype", "batch_size")
_INDEX_OPTIONS = ("factory", "shard_size")
_DENSE_OPTIONS = ("encoder", *_ENCODER_OPTIONS, *_INDEX_OPTIONS)


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the return value of `argparse.ArgumentParser.add_subparsers`."""
    parser = subparsers.add_parser(
        "index",
        help="build a Lucene or dense index from a corpus of JSON lines",
        description='Build an index from JSON lines, each {"id", "contents"} or {"id", "title", "text"}. By default '
        "it is a Lucene index for BM25. With --dense it is a FAISS index. Both have the folder layout of Pyserini.",
    )
    parser.add_argument("--corpus", required=True, help="file of JSON lines")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the index; must not exist yet")
    parser.add_argument("--overwrite", action="store_true", help="replace an index of the same kind at DIR")
    parser.add_argument("--threads", type=int, metavar="N", help="indexing threads of a Lucene index (default: 2)")
    _add_dense_options(parser)
    parser.set_defaults(run=run)


def _add_dense_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("dense index", "Repeat the command to continue a run that was stopped.")
    group.add_argument("--dense", action="store_true", help="build a dense index; needs --encoder")
    group.add_argument("--encoder", metavar="MODEL", help="folder or Hugging Face name of the encoder")
    group.add_argument(
        "--encoder-preset", metavar="NAME", help="prefixes and pooling: e5, bge or sentence-transformers (the default)"
    )
    group.add_argument("--factory", metavar="NAME", help="flat (the default), hnsw, ivfpq or a FAISS factory string")
    group.add_argument(
        "--encoder-device", metavar="DEVICE", help="such as cpu or cuda:0 (default: a GPU if there is one)"
    )
    group.add_argument("--encoder-dtype", metavar="DTYPE", help="float32 (the default), float16 or bfloat16")
    group.add_argument("--batch-size", type=int, metavar="N", help="passages per forward pass (default: 64)")
    group.add_argument("--shard-size", type=int, metavar="N", help="passages between two saves (default: 10000)")


def run(args: argparse.Namespace) -> None:
    """
    Build the index and print the number of passages and the time.

    Args:
        args (`argparse.Namespace`):
            Parsed arguments.

    Raises:
        As [`~tspo_trl.search.build_index`] and [`~tspo_trl.search.build_dense_index`].
        `ValueError`: if an option does not apply to this kind of index.
    """
    start = time.perf_counter()
    count = _build_dense(args) if args.dense else _build_lucene(args)
    print(f"Indexed {count:,} passages into {args.output} in {time.perf_counter() - start:.1f} s")


def _build_lucene(args: argparse.Namespace) -> int:
    from ..search import build_index

    if misplaced := _given(args, _DENSE_OPTIONS):
        raise ValueError(f"--{next(iter(misplaced)).replace('_', '-')} is an option of dense indexes: add --dense.")
    return build_index(args.corpus, args.output, overwrite=args.overwrite, **_given(args, ("threads",)))


def _build_dense(args: argparse.Namespace) -> int:
    from ..search.indexing.dense import build_dense_index, check_dense_arguments
    from ..search.indexing.encoder import Encoder

    if args.threads is not None:
        raise ValueError("--threads is an option of Lucene indexes. Leave out --threads or --dense.")
    if args.encoder is None:
        raise ValueError("--dense needs --encoder, the folder or Hugging Face name of a model.")
    options = _given(args, _INDEX_OPTIONS)
    # Find mistakes before a large model is loaded or downloaded.
    check_dense_arguments(args.corpus, args.output, overwrite=args.overwrite, **_given(args, ("shard_size",)))
    settings = {name.removeprefix("encoder_"): value for name, value in _given(args, _ENCODER_OPTIONS).items()}
    encoder = Encoder(args.encoder, **settings)
    return build_dense_index(args.corpus, args.output, encoder, overwrite=args.overwrite, **options)


def _given(args: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}
