"""Pytest plugin that replaces `trl.GRPOTrainer` and `trl.GRPOConfig` by other classes.

The environment variables `TRL_SUITE_TRAINER` and `TRL_SUITE_CONFIG` name the classes as `module.Class`. The plugin
must be loaded (`-p substitute`) before the tests that import the names from `trl`.
"""

import importlib
import os

import trl


def no_optional_dependency(name: str):
    """Replace a check of `trl.import_utils` that the tests use and the installed TRL does not have."""
    if name.startswith("is_") and name.endswith("_available"):
        return lambda *args, **kwargs: False
    raise AttributeError(f"module 'trl.import_utils' has no attribute {name!r}")


importlib.import_module("trl.import_utils").__getattr__ = no_optional_dependency


def load(name: str) -> type:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


trainer, config = load(os.environ["TRL_SUITE_TRAINER"]), load(os.environ["TRL_SUITE_CONFIG"])
trl.GRPOTrainer, trl.GRPOConfig = trainer, config
