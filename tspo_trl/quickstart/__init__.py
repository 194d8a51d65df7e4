"""Trains a small policy from scratch on a CPU to search a closed world.

[`~tspo_trl.quickstart.run.run_quickstart`] has five stages: a SearchWorld and its Lucene index, a policy warm-started
on imperfect demonstrations, an evaluation, the training, and a second evaluation. A finished stage is not repeated.
"""

from .settings import QuickstartSettings

__all__ = ["QuickstartSettings"]
