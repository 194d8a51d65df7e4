"""Training and evaluation data: the benchmarks, and [`SearchWorld`], a closed world generated from a seed."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .benchmarks import BENCHMARKS, TRAINING_MIX, evaluation_split
    from .flashrag import load_benchmark
    from .prepare import prepare_data
    from .questions import load_questions
    from .search_r1 import to_search_r1
    from .searchworld import Entity, SearchWorld
    from .tokenizer import searchworld_tokenizer

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

_MODULES = {
    "BENCHMARKS": "benchmarks",
    "TRAINING_MIX": "benchmarks",
    "Entity": "searchworld",
    "SearchWorld": "searchworld",
    "evaluation_split": "benchmarks",
    "load_benchmark": "flashrag",
    "load_questions": "questions",
    "prepare_data": "prepare",
    "searchworld_tokenizer": "tokenizer",
    "to_search_r1": "search_r1",
}


def __getattr__(name: str) -> Any:
    # `datasets` and `transformers` take seconds to import. The list of benchmarks does not need them.
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
