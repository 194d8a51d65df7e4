"""Time of `group_advantages` on one core for 4,096 rollouts of up to 8 turns, compared with a plain Python loop.

    python benchmarks/group_advantages.py

It prints the median in milliseconds for every combination of options. The loop supports only the default options.
"""

import itertools
import statistics
import time
from collections.abc import Callable

import torch

from tspo_trl.credit import group_advantages, turn_rewards

NUM_ROLLOUTS, MAX_TURNS, GROUP_SIZE = 4096, 8, 8
OPTIONS = {
    "turn_level_groups": ("all_wrong", "always", "never"),
    "turn_baseline": ("same_turn", "all_turns"),
    "absent_turns": ("skip", "zero"),
    "credit": ("first_occurrence", "prefix"),
    "scale_rewards": ("group", "batch", "none"),
}


def random_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Outcomes, numbers of turns and first hits. About half of the groups are all wrong."""
    torch.manual_seed(0)
    outcomes = (torch.rand(NUM_ROLLOUTS) < 0.08).float()
    num_turns = torch.randint(1, MAX_TURNS + 1, (NUM_ROLLOUTS,))
    num_turns[0] = MAX_TURNS
    first_hits = (torch.rand(NUM_ROLLOUTS) * num_turns).long()
    first_hits[torch.rand(NUM_ROLLOUTS) < 0.5] = -1
    return outcomes, num_turns, first_hits


def loop_advantages(outcomes: torch.Tensor, num_turns: torch.Tensor, first_hits: torch.Tensor) -> torch.Tensor:
    """Advantages with the default options, as loops over Python numbers."""
    advantages = torch.zeros(NUM_ROLLOUTS, MAX_TURNS)
    batch = list(zip(outcomes.tolist(), num_turns.tolist(), first_hits.tolist(), strict=True))
    for start in range(0, NUM_ROLLOUTS, GROUP_SIZE):
        group = batch[start : start + GROUP_SIZE]
        mixed = any(outcome >= 1 for outcome, _, _ in group)
        if mixed:
            rewards = [[outcome + 0.5 * (outcome < 1 and hit >= 0)] * turns for outcome, turns, hit in group]
        else:
            rewards = [turn_rewards(outcome, turns, None if hit < 0 else hit) for outcome, turns, hit in group]
        for row, turn in itertools.product(range(GROUP_SIZE), range(MAX_TURNS)):
            if turn < len(rewards[row]):
                pool = [other[0] if mixed else other[turn] for other in rewards if mixed or turn < len(other)]
                if len(pool) > 1:
                    deviation = rewards[row][turn] - statistics.fmean(pool)
                    advantages[start + row, turn] = deviation / (statistics.stdev(pool) + 1e-4)
    return advantages


def median_ms(function: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def main() -> None:
    torch.set_num_threads(1)
    batch = random_batch()
    torch.testing.assert_close(group_advantages(*batch, GROUP_SIZE), loop_advantages(*batch), atol=2e-5, rtol=1e-4)
    print(f"{NUM_ROLLOUTS} rollouts of up to {MAX_TURNS} turns in groups of {GROUP_SIZE}, one thread, median ms")
    print(f"{median_ms(lambda: loop_advantages(*batch), 3):9.2f}  loop, default options")
    print(f"{'':9}  {' '.join(OPTIONS)}")
    slowest = 0.0
    for values in itertools.product(*OPTIONS.values()):
        options = dict(zip(OPTIONS, values, strict=True))
        milliseconds = median_ms(lambda options=options: group_advantages(*batch, GROUP_SIZE, **options), 20)
        slowest = max(slowest, milliseconds)
        print(f"{milliseconds:9.2f}  {' '.join(values)}")
    print(f"{slowest:9.2f}  the slowest")


if __name__ == "__main__":
    main()
