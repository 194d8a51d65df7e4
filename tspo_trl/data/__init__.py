"""Training and evaluation data: the benchmarks, and [`SearchWorld`], a closed world generated from a seed."""

from .benchmarks import BENCHMARKS, TRAINING_MIX, evaluation_split
from .flashrag import load_benchmark
from .prepare import prepare_data
from .questions import load_questions
from .search_r1 import to_search_r1
from .searchworld import Entity, SearchWorld
from .searchworld_tokenizer import searchworld_tokenizer

__all__ = [
    "BENCHMARKS",
    "TRAINING_MIX",
    "Entity",
    "SearchWorld",
    "evaluation_split",
    "load_benchmark",
    "load_questions",
    "prepare_data",
    "searchworld_tokenizer",
    "to_search_r1",
]
