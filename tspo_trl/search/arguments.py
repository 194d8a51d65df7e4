"""The retriever as command-line arguments: one dataclass for the console script and for training scripts.

[`RetrieverArguments`] says what is to be searched, [`open_retriever`] opens it. Contradictions are found before
anything is loaded.
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
    What is to be searched: a Lucene index (BM25), a FAISS index (dense), both (hybrid), or a server.

    Args:
        index (`str`, *optional*):
            Folder of a Lucene index, made by `tspo-trl index`.
        dense (`str`, *optional*):
            Folder of a FAISS index, made by `tspo-trl index --dense`, or a FAISS file.
        encoder (`str`, *optional*):
            Model that encodes queries for `dense`: a folder or a name on the hub.
        encoder_preset (`str`, *optional*, defaults to `"sentence-transformers"`):
            Prefixes and pooling of the encoder: `"e5"`, `"bge"`, or `"sentence-transformers"` for what the model's
            own folder says.
        encoder_dtype (`str`, *optional*, defaults to `"float32"`):
            `"float32"`, `"float16"` or `"bfloat16"`.
        encoder_device (`str`, *optional*):
            Such as `"cuda:0"` or `"cpu"`. Defaults to a GPU where there is one.
        passages (`str`, *optional*):
            Where the passages of `dense` are: a Lucene index or the corpus file. Defaults to `index`.
        hybrid (`bool`, *optional*, defaults to `False`):
            Search `index` and `dense` together.
        reranker (`str`, *optional*):
            Cross-encoder that reranks what `hybrid` finds.
        retriever_url (`list[str]`, *optional*):
            One or more servers to ask, in place of the above. The environment variable `TSPO_TRL_TOKEN` is sent as
            their bearer token.
        retriever_cache (`str`, *optional*):
            SQLite file on a local disk that keeps results, for this run and later ones. A server has to be up when it
            is opened, and to say which index it serves, as `tspo-trl serve` does.
    """

    index: str | None = field(default=None, metadata={"help": "Folder of a Lucene index, made by `tspo-trl index`."})
    dense: str | None = field(
        default=None,
        metadata={"help": "Folder of a FAISS index, made by `tspo-trl index --dense`, or a FAISS file."},
    )
    encoder: str | None = field(
        default=None,
        metadata={"help": "Model that encodes queries for the dense index: a folder or a name on the hub."},
    )
    encoder_preset: str = field(
        default="sentence-transformers",
        metadata={
            "help": "Prefixes and pooling of the encoder: `e5`, `bge`, or `sentence-transformers` for what the "
            "model's own folder says."
        },
    )
    encoder_dtype: str = field(default="float32", metadata={"help": "`float32`, `float16` or `bfloat16`."})
    encoder_device: str | None = field(
        default=None, metadata={"help": "Such as `cuda:0` or `cpu`. Default: a GPU where there is one."}
    )
    passages: str | None = field(
        default=None,
        metadata={
            "help": "Where the passages of the dense index are: a Lucene index or the corpus file. Default: `index`."
        },
    )
    hybrid: bool = field(default=False, metadata={"help": "Search the Lucene and the dense index together."})
    reranker: str | None = field(
        default=None, metadata={"help": "Cross-encoder that reranks what the hybrid search finds."}
    )
    retriever_url: list[str] | None = field(
        default=None,
        metadata={"help": f"Servers to ask instead; {TOKEN_VARIABLE} in the environment is their bearer token."},
    )
    retriever_cache: str | None = field(
        default=None, metadata={"help": "File that keeps results on disk, for this run and later ones."}
    )


def open_retriever(args: RetrieverArguments) -> Retriever:
    """
    Open what the arguments say.

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
    """The bearer token in the environment variable `TSPO_TRL_TOKEN`, `None` where that is not set or empty."""
    return os.environ.get(TOKEN_VARIABLE, "").strip() or None


def check_arguments(args: RetrieverArguments) -> None:
    """
    Check that the arguments go together, without opening anything.

    Args:
        args ([`RetrieverArguments`]):
            The arguments.

    Raises:
        `ValueError`: if one is missing or unknown, or two contradict each other.
        `FileNotFoundError`: if there is nothing at a path.
    """
    local = {name: getattr(args, name) for name in ("index", "dense", "encoder", "passages", "hybrid", "reranker")}
    given = [name for name, value in local.items() if value]
    defaults = RetrieverArguments()
    options = [name for name in _ENCODER_OPTIONS if getattr(args, name) != getattr(defaults, name)]
    if args.retriever_url and (given or options):
        name = [*given, *options][0]
        raise ValueError(f"`retriever_url` and `{name}` exclude each other: search a server, or an index here.")
    if args.retriever_url:
        return
    if not (args.index or args.dense):
        raise ValueError("There is nothing to search. Pass `index`, `dense` or `retriever_url`.")
    if args.hybrid and not (args.index and args.dense):
        raise ValueError("`hybrid` searches two indexes. Pass both `index` and `dense`.")
    if args.reranker and not args.hybrid:
        raise ValueError(f"`reranker={args.reranker!r}` reranks what a hybrid search finds. Pass `hybrid` too.")
    if args.dense and not args.encoder:
        raise ValueError("`dense` needs the `encoder` that the index was made with.")
    if args.dense and not (args.index or args.passages):
        raise ValueError("`dense` holds no text. Pass `passages`, the corpus file, or `index`, a Lucene index of it.")
    for name in ("encoder", "passages", *options):
        if getattr(args, name) and not args.dense:
            raise ValueError(f"`{name}={getattr(args, name)!r}` belongs to a dense index. Pass `dense` too.")
    if args.encoder_preset not in PRESETS:
        raise ValueError(f"`encoder_preset` is {args.encoder_preset!r}: choose one of {', '.join(PRESETS)}.")
    check_dtype(args.encoder_dtype)
    _check_paths(args)


def _check_paths(args: RetrieverArguments) -> None:
    for name in ("index", "dense", "passages"):
        path = getattr(args, name)
        if path and not Path(path).expanduser().exists():
            raise FileNotFoundError(f"`{name}` {path} does not exist. Build one with `tspo-trl index`.")
    if args.retriever_cache and not Path(args.retriever_cache).expanduser().absolute().parent.is_dir():
        raise FileNotFoundError(
            f"`retriever_cache` {args.retriever_cache} is in a folder that does not exist. Make it."
        )


def _open_engine(args: RetrieverArguments) -> Retriever:
    if args.retriever_url:
        return RemoteRetriever(args.retriever_url, token=token_from_environment())
    if args.hybrid:
        return HybridRetriever([_open_bm25(args), _open_dense(args)], reranker=_open_reranker(args))
    return _open_dense(args) if args.dense else _open_bm25(args)


def _open_bm25(args: RetrieverArguments) -> Retriever:
    return BM25Retriever(str(args.index))


def _open_dense(args: RetrieverArguments) -> Retriever:
    encoder = Encoder(
        str(args.encoder), preset=args.encoder_preset, device=args.encoder_device, dtype=args.encoder_dtype
    )
    return DenseRetriever(str(args.dense), encoder, str(args.passages or args.index))


def _open_reranker(args: RetrieverArguments) -> Reranker | None:
    if not args.reranker:
        return None
    return CrossEncoderReranker(args.reranker, device=args.encoder_device, dtype=args.encoder_dtype)
