"""Retrievers and the indexes that they search.

Importing this package starts no Java and loads no Pyserini, torch, FAISS or HTTP client. Each is loaded on first use.
"""

from .base import Passage, Retriever, SearchError
from .identity import RetrieverIdentity
from .indexing.bm25 import build_index
from .indexing.dense import build_dense_index
from .indexing.encoder import Encoder
from .java import JavaNotFoundError, ensure_java
from .retrievers.bm25 import BM25Retriever
from .retrievers.cached import CachedRetriever
from .retrievers.dense import DenseRetriever
from .retrievers.hybrid import HybridRetriever
from .retrievers.remote import RemoteRetriever
from .retrievers.rerank import CrossEncoderReranker, Reranker

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
