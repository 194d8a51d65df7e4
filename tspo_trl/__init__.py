"""TSPO, Turn-level Stage-aware Policy Optimization, on top of TRL."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .protocols.base import SearchProtocol
    from .protocols.chat import ChatToolProtocol
    from .protocols.tags import TagProtocol
    from .trainer.config import TSPOConfig
    from .trainer.trainer import TSPOTrainer

__version__ = "0.1.0"
__all__ = ["ChatToolProtocol", "SearchProtocol", "TSPOConfig", "TSPOTrainer", "TagProtocol", "__version__"]

_MODULES = {
    "ChatToolProtocol": "protocols.chat",
    "SearchProtocol": "protocols.base",
    "TSPOConfig": "trainer.config",
    "TSPOTrainer": "trainer.trainer",
    "TagProtocol": "protocols.tags",
}


def __getattr__(name: str) -> Any:
    # Importing TRL and torch takes seconds, and the command line often needs neither.
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
