"""`tspo-trl quickstart`: train a small policy to search a closed world, from nothing, on a CPU.

[`run_quickstart`] goes through five stages, each kept in its own part of the output folder: a SearchWorld and its
Lucene index, a policy warm-started on imperfect demonstrations, an evaluation, the training, and an evaluation again.
A stage that is finished is not done again.
"""

from .settings import QuickstartSettings

__all__ = ["QuickstartSettings"]
