"""Data to train on: [`SearchWorld`], a closed world made from a seed, and its tokenizer."""

from .searchworld import Entity, SearchWorld
from .searchworld_tokenizer import searchworld_tokenizer

__all__ = ["Entity", "SearchWorld", "searchworld_tokenizer"]
