"""TSPO, turn-level search policy optimization, on top of TRL."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import TSPOConfig
    from .trainer import TSPOTrainer

__version__ = "0.1.0"
__all__ = ["TSPOConfig", "TSPOTrainer", "__version__"]


def __getattr__(name: str) -> Any:
    # TRL and torch take seconds to import, which the command line and the pure modules do without.
    if name == "TSPOConfig":
        from .config import TSPOConfig

        return TSPOConfig
    if name == "TSPOTrainer":
        from .trainer import TSPOTrainer

        return TSPOTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
