"""Retrieval: what a search engine is ([`Retriever`], [`Passage`]) and the engines themselves.

Importing this package starts no Java and loads neither Pyserini nor torch; that happens in the constructor of
[`BM25Retriever`] and in [`build_index`].
"""

from .base import Passage, Retriever, SearchError

__all__ = ["Passage", "Retriever", "SearchError"]
