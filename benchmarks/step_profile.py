"""Profile of a quickstart training step: generation, search, forward, backward, TRL, and our own code.

    tspo-trl quickstart --output runs/quickstart
    python benchmarks/step_profile.py --run runs/quickstart --steps 10

Every function on a boundary between two of these is timed. Time in an inner function does not count for the outer one,
so the shares add up to the whole. Our own code is parsing, rendering, matching, credit, logging, the turn loop and the
stopping criterion. The profile uses the quickstart's warm-started policy and does not change the quickstart's folder.
"""

import argparse
import functools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import StopStringCriteria
from trl import GRPOTrainer

from tspo_trl import TSPOTrainer
from tspo_trl.evaluation.folder import read_json
from tspo_trl.quickstart.run import make_trainer, make_world
from tspo_trl.quickstart.settings import QuickstartSettings
from tspo_trl.rollout.loop import RolloutLoop
from tspo_trl.rollout.stopping import TurnEnd
from tspo_trl.search import BM25Retriever

OWN, TRL, GENERATION = "our own code", "TRL, transformers and accelerate", "generation"
BOUNDARIES = [
    (TSPOTrainer, "_generate", OWN),
    (TSPOTrainer, "_calculate_rewards", OWN),
    (TSPOTrainer, "_generate_and_score_completions", OWN),
    (TSPOTrainer, "_run_rollouts", OWN),
    (TSPOTrainer, "log", OWN),
    (RolloutLoop, "run", OWN),
    (TurnEnd, "__call__", OWN),
    (TurnEnd, "cut", OWN),
    (StopStringCriteria, "__call__", GENERATION),
    (GRPOTrainer, "_generate_single_turn", GENERATION),
    (GRPOTrainer, "_generate", TRL),
    (GRPOTrainer, "_calculate_rewards", TRL),
    (GRPOTrainer, "_generate_and_score_completions", TRL),
    (GRPOTrainer, "_tokenize_prompts", TRL),
    (GRPOTrainer, "log", TRL),
    (GRPOTrainer, "_get_per_token_logps_and_entropies", "forward"),
    (Accelerator, "backward", "backward"),
    (torch.optim.AdamW, "step", "optimizer"),
    (BM25Retriever, "search", "search"),
]


class Stopwatch:
    """Adds up the time spent in each category. Time in an inner category does not count for the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.stack = [TRL]
        self.since = time.perf_counter()

    def switch(self) -> None:
        """Add the time since the last switch to the current category."""
        now = time.perf_counter()
        self.seconds[self.stack[-1]] += now - self.since
        self.since = now

    def wrap(self, function: Callable, category: str) -> Callable:
        """Return the function with its time added to the category."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.switch()
            self.stack.append(category)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch()
                self.stack.pop()

        return timed


def main() -> None:
    """Train a few steps with the stopwatch and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of a quickstart run")
    parser.add_argument("--steps", type=int, default=10, help="training steps (default: %(default)s)")
    args = parser.parse_args()
    settings = QuickstartSettings(**{**read_json(args.run / "settings.json"), "steps": args.steps})
    world = make_world(settings)
    torch.set_num_threads(1)  # as in the quickstart
    watch = Stopwatch()
    for owner, name, category in BOUNDARIES:
        setattr(owner, name, watch.wrap(getattr(owner, name), category))
    with tempfile.TemporaryDirectory() as folder:
        retriever = BM25Retriever(args.run / "index")
        trainer = make_trainer(world, retriever, args.run / "policy", settings, Path(folder))
        watch.switch()
        watch.seconds.clear()
        trainer.train()
        watch.switch()
    total = sum(watch.seconds.values())
    print(f"{args.steps} steps of {trainer.args.generation_batch_size} rollouts, {total / args.steps:.2f} s a step")
    for category, seconds in sorted(watch.seconds.items(), key=lambda item: -item[1]):
        print(f"{seconds / total:7.2%}  {1000 * seconds / args.steps:8.1f} ms a step  {category}")


if __name__ == "__main__":
    main()
