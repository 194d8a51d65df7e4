"""TSPO, turn-level search policy optimization, on top of TRL."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .chat_protocol import ChatToolProtocol
    from .config import TSPOConfig
    from .protocol import SearchProtocol, TagProtocol
    from .trainer import TSPOTrainer

__version__ = "0.1.0"
__all__ = ["ChatToolProtocol", "SearchProtocol", "TSPOConfig", "TSPOTrainer", "TagProtocol", "__version__"]

_MODULES = {
    "ChatToolProtocol": "chat_protocol",
    "TSPOConfig": "config",
    "TSPOTrainer": "trainer",
    "SearchProtocol": "protocol",
    "TagProtocol": "protocol",
}


def __getattr__(name: str) -> Any:
    # TRL and torch take seconds to import, which the command line and the pure modules do without.
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
