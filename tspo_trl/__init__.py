"""TSPO, turn-level search policy optimization, on top of TRL."""

__version__ = "0.1.0"
