"""Settings of a quickstart run."""

from dataclasses import dataclass, field
from typing import Literal, get_args

Method = Literal["tspo", "grpo"]


@dataclass(frozen=True)
class QuickstartSettings:
    """
    Settings of a quickstart run, which are also its command-line options. The defaults suit two CPU cores.

    Raises:
        ValueError: A value is out of range.
    """

    seed: int = field(default=0, metadata={"help": "seed of the world, the policy and all sampling"})
    method: Method = field(default="tspo", metadata={"help": "training method; grpo is the baseline"})
    steps: int = field(default=50, metadata={"help": "training steps"})
    warm_start_steps: int = field(default=400, metadata={"help": "supervised steps before training"})
    groups: int = field(default=16, metadata={"help": "questions per training step"})
    num_generations: int = field(default=8, metadata={"help": "rollouts per question"})
    num_train_questions: int = field(default=2000, metadata={"help": "questions to train on"})
    num_test_questions: int = field(default=240, metadata={"help": "held-out questions"})
    num_people: int = field(default=500, metadata={"help": "people in the world"})
    num_places: int = field(default=200, metadata={"help": "places in the world"})
    num_works: int = field(default=200, metadata={"help": "works in the world"})

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"`method` must be one of {get_args(Method)}, got {self.method!r}.")
        for name in ("steps", "warm_start_steps", "groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.num_generations < 2:
            raise ValueError(
                f"`num_generations` must be at least 2, got {self.num_generations}: an advantage compares a rollout "
                "with the others of its group."
            )
