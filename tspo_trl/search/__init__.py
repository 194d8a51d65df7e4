"""Retrieval: what a search engine is ([`Retriever`], [`Passage`]) and the engines themselves.

Importing this package starts no Java and loads neither Pyserini, torch, FAISS nor an HTTP client; that happens where
they are used first.
"""

from .base import Passage, Retriever, SearchError
from .bm25 import BM25Retriever
from .cache import CachedRetriever
from .dense import DenseRetriever
from .dense_index import build_dense_index
from .encoder import Encoder
from .hybrid import HybridRetriever
from .identity import RetrieverIdentity
from .index import build_index
from .java import JavaNotFoundError, ensure_java
from .remote import RemoteRetriever
from .rerank import CrossEncoderReranker, Reranker

__all__ = [
    "BM25Retriever",
    "CachedRetriever",
    "CrossEncoderReranker",
    "DenseRetriever",
    "Encoder",
    "HybridRetriever",
    "JavaNotFoundError",
    "Passage",
    "RemoteRetriever",
    "Reranker",
    "Retriever",
    "RetrieverIdentity",
    "SearchError",
    "build_dense_index",
    "build_index",
    "ensure_java",
]
