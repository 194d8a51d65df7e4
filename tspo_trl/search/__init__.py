"""Retrieval: what a search engine is ([`Retriever`], [`Passage`]) and the engines themselves.

Importing this package starts no Java and loads neither Pyserini nor torch; that happens in the constructor of
[`BM25Retriever`] and in [`build_index`].
"""

from .base import Passage, Retriever, SearchError
from .bm25 import BM25Retriever
from .identity import RetrieverIdentity
from .index import build_index
from .java import JavaNotFoundError, ensure_java

__all__ = [
    "BM25Retriever",
    "JavaNotFoundError",
    "Passage",
    "Retriever",
    "RetrieverIdentity",
    "SearchError",
    "build_index",
    "ensure_java",
]
