"""Command-line options that name a retriever, for the console script and for training scripts.

[`RetrieverArguments`] has the options and [`open_retriever`] opens the retriever.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from .base import Retriever
from .indexing.encoder import PRESETS, Encoder
from .indexing.pretrained import check_dtype
from .retrievers.bm25 import BM25Retriever
from .retrievers.cached import CachedRetriever
from .retrievers.dense import DenseRetriever
from .retrievers.hybrid import HybridRetriever
from .retrievers.remote import RemoteRetriever
from .retrievers.rerank import CrossEncoderReranker, Reranker

TOKEN_VARIABLE = "TSPO_TRL_TOKEN"
_ENCODER_OPTIONS = ("encoder_preset", "encoder_dtype", "encoder_device")


@dataclass
class RetrieverArguments:
    """
    Options that name a retriever: a Lucene index (BM25), a FAISS index (dense), both (hybrid), or a server.

    The `help` of each field describes it. `tspo-trl search --help` prints these texts.
    """

    index: str | None = field(
        default=None, metadata={"metavar": "DIR", "help": "Folder of a Lucene index, built by tspo-trl index."}
    )
    dense: str | None = field(
        default=None,
        metadata={"metavar": "DIR", "help": "Folder of a FAISS index, built by tspo-trl index --dense, or its file."},
    )
    encoder: str | None = field(
        default=None,
        metadata={"metavar": "MODEL", "help": "Folder or hub name of the model that encodes queries for --dense."},
    )
    encoder_preset: str = field(
        default="sentence-transformers",
        metadata={
            "metavar": "PRESET",
            "help": "Prefixes and pooling of the encoder: e5, bge, or sentence-transformers to read them from the "
            "model's folder.",
        },
    )
    encoder_dtype: str = field(
        default="float32",
        metadata={"metavar": "DTYPE", "help": "Data type of the encoder: float32, float16 or bfloat16."},
    )
    encoder_device: str | None = field(
        default=None,
        metadata={
            "metavar": "DEVICE",
            "help": "Device of the encoder, such as cuda:0. Default: a GPU if there is one.",
        },
    )
    passages: str | None = field(
        default=None,
        metadata={
            "metavar": "PATH",
            "help": "Passages of the dense index: a Lucene index or the corpus file. Default: --index.",
        },
    )
    hybrid: bool = field(default=False, metadata={"help": "Search the Lucene index and the dense index together."})
    reranker: str | None = field(
        default=None,
        metadata={"metavar": "MODEL", "help": "Cross-encoder that reranks the results of the hybrid search."},
    )
    retriever_url: list[str] | None = field(
        default=None,
        metadata={
            "metavar": "URL",
            "help": "URL of a server to search instead of an index here. Several URLs are replicas of one server. The "
            f"environment variable {TOKEN_VARIABLE} contains their bearer token.",
        },
    )
    retriever_cache: str | None = field(
        default=None,
        metadata={
            "metavar": "FILE",
            "help": "SQLite file on a local disk that keeps results for this run and later runs. A server must be up "
            "at the start and name its index, as tspo-trl serve does.",
        },
    )


def open_retriever(args: RetrieverArguments) -> Retriever:
    """
    Open the retriever that the arguments name.

    Args:
        args ([`RetrieverArguments`]):
            The arguments.

    Returns:
        [`Retriever`]: ready to search.

    Raises:
        `ValueError`: if arguments are missing or contradict each other, and as the retrievers raise.
        `FileNotFoundError`: if an index does not exist.
    """
    check_arguments(args)
    retriever = _open_engine(args)
    if args.retriever_cache:
        return CachedRetriever(retriever, path=args.retriever_cache)
    return retriever


def token_from_environment() -> str | None:
    """Return the bearer token in the environment variable `TSPO_TRL_TOKEN`, or `None` if that is not set or empty."""
    return os.environ.get(TOKEN_VARIABLE, "").strip() or None


def check_arguments(args: RetrieverArguments) -> None:
    """
    Check that the arguments go together, without opening anything.

    Args:
        args ([`RetrieverArguments`]):
            The arguments.

    Raises:
        `ValueError`: if an argument is missing or unknown, or if two contradict each other.
        `FileNotFoundError`: if a path does not exist.
    """
    local = ("index", "dense", "encoder", "passages", "hybrid", "reranker")
    defaults = RetrieverArguments()
    options = [name for name in _ENCODER_OPTIONS if getattr(args, name) != getattr(defaults, name)]
    given = [name for name in local if getattr(args, name)] + options
    if args.retriever_url:
        if given:
            raise ValueError(f"`retriever_url` and `{given[0]}` exclude each other. Pass one of them.")
        return
    if not (args.index or args.dense):
        raise ValueError("There is nothing to search. Pass `index`, `dense` or `retriever_url`.")
    if args.hybrid and not (args.index and args.dense):
        raise ValueError("`hybrid` searches two indexes. Pass both `index` and `dense`.")
    if args.reranker and not args.hybrid:
        raise ValueError(f"`reranker={args.reranker!r}` reranks the results of a hybrid search. Pass `hybrid` too.")
    if args.dense and not args.encoder:
        raise ValueError("`dense` needs the `encoder` that the index was built with. Pass it.")
    if args.dense and not (args.index or args.passages):
        raise ValueError(
            "`dense` contains no text. Pass `passages` (the corpus file) or `index` (a Lucene index of it)."
        )
    for name in ("encoder", "passages", *options):
        if getattr(args, name) and not args.dense:
            raise ValueError(f"`{name}={getattr(args, name)!r}` belongs to a dense index. Pass `dense` too.")
    if args.encoder_preset not in PRESETS:
        raise ValueError(f"`encoder_preset` is {args.encoder_preset!r}. Choose one of {', '.join(PRESETS)}.")
    check_dtype(args.encoder_dtype)
    _check_paths(args)


def _check_paths(args: RetrieverArguments) -> None:
    for name in ("index", "dense", "passages"):
        path = getattr(args, name)
        if path and not Path(path).expanduser().exists():
            raise FileNotFoundError(f"`{name}` {path} does not exist. Build one with `tspo-trl index`.")
    if args.retriever_cache and not Path(args.retriever_cache).expanduser().absolute().parent.is_dir():
        raise FileNotFoundError(
            f"The folder of `retriever_cache` {args.retriever_cache} does not exist. Create the folder."
        )


def _open_engine(args: RetrieverArguments) -> Retriever:
    if args.retriever_url:
        return RemoteRetriever(args.retriever_url, token=token_from_environment())
    engines: list[Retriever] = []
    if args.hybrid or not args.dense:
        engines.append(BM25Retriever(str(args.index)))
    if args.dense:
        engines.append(_open_dense(args))
    return HybridRetriever(engines, reranker=_open_reranker(args)) if args.hybrid else engines[0]


def _open_dense(args: RetrieverArguments) -> Retriever:
    encoder = Encoder(
        str(args.encoder), preset=args.encoder_preset, device=args.encoder_device, dtype=args.encoder_dtype
    )
    return DenseRetriever(str(args.dense), encoder, str(args.passages or args.index))


def _open_reranker(args: RetrieverArguments) -> Reranker | None:
    if not args.reranker:
        return None
    return CrossEncoderReranker(args.reranker, device=args.encoder_device, dtype=args.encoder_dtype)
