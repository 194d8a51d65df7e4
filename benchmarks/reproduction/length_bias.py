"""Does turn-level credit reward stopping early or late? A Monte Carlo simulation of the credit, without a model.

    python -m benchmarks.reproduction.length_bias --json runs/reproduction-results/length_bias.json

All rollouts are wrong, so every group gets credit turn by turn. At each turn except the last, the policy stops with a
fixed probability or searches. There are three worlds:

- *evidence*: each search finds the evidence with a fixed probability until it is found. After that, more searches are
  useless and cost nothing, so unbiased credit gives stopping and searching the same advantage. Before that, credit
  should reward searching.
- *noise*: every rollout searches at least once. Half of the rollouts find the evidence at a random one of their
  searches. More searches change nothing, so the gradient of stopping should be 0. No retriever behaves like this, but
  random credit does.
- *first search*: every rollout searches at least once. Half of the first searches find the evidence and later ones
  never do. More searches change nothing here either.

The gradient is that of the logit of stopping: the mean over rollouts of the sum over decisions of the advantage times
(1 if stopped, else 0, minus the probability of stopping). If it is above 0, the policy learns to stop. The standard
error is over groups, which are independent.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe_machine
from tspo_trl.credit import group_advantages
from tspo_trl.evaluation.folder import write_json

GROUP_SIZE, MAX_TURNS = 8, 5
STOP, HIT = 0.3, 0.3  # probability that a turn stops, and that a search finds the evidence
VARIANTS: dict[str, dict[str, Any]] = {
    "tspo (first_occurrence, same_turn, skip)": {},
    "absent_turns=zero": {"absent_turns": "zero"},
    "turn_baseline=all_turns": {"turn_baseline": "all_turns"},
    "credit=prefix": {"credit": "prefix"},
    "credit=prefix, absent_turns=zero": {"credit": "prefix", "absent_turns": "zero"},
    "credit=prefix, turn_baseline=all_turns": {"credit": "prefix", "turn_baseline": "all_turns"},
    "turn_level_groups=never (trajectory level)": {"turn_level_groups": "never"},
    "additive_credit": {"additive_credit": True},
}
STATES = ("found", "not_found", "all")


@dataclass(frozen=True)
class Rollouts:
    """
    N rollouts. The rollouts of a group are contiguous.

    Args:
        num_turns (`torch.Tensor` of shape `(N,)`):
            Number of turns. All turns except the last search.
        first_hits (`torch.Tensor` of shape `(N,)`):
            Turn that found the evidence, -1 if none did.
        first_decision (`int`):
            First turn at which the policy chooses. It never chooses at turn `MAX_TURNS - 1`.
    """

    num_turns: torch.Tensor
    first_hits: torch.Tensor
    first_decision: int


def evidence_rollouts(num_rollouts: int) -> Rollouts:
    """Rollouts with searches that may find the evidence."""
    num_turns = _num_turns(num_rollouts, first_decision=0)
    hits = torch.rand(num_rollouts, MAX_TURNS) < HIT
    hits &= torch.arange(MAX_TURNS) < num_turns.unsqueeze(1) - 1
    first_hits = hits.int().argmax(dim=1).where(hits.any(dim=1), -1)
    return Rollouts(num_turns, first_hits, first_decision=0)


def noise_rollouts(num_rollouts: int) -> Rollouts:
    """Rollouts of which half find the evidence at a random search."""
    num_turns = _num_turns(num_rollouts, first_decision=1)
    turns = (torch.rand(num_rollouts) * (num_turns - 1)).long()
    return Rollouts(num_turns, turns.where(torch.rand(num_rollouts) < 0.5, -1), first_decision=1)


def first_search_rollouts(num_rollouts: int) -> Rollouts:
    """Rollouts of which half find the evidence at their first search."""
    num_turns = _num_turns(num_rollouts, first_decision=1)
    return Rollouts(num_turns, (torch.rand(num_rollouts) < 0.5).long() - 1, first_decision=1)


# How to sample each world, and the states to print. In "noise" the hit at a turn depends on later turns.
WORLDS = {
    "evidence": (evidence_rollouts, STATES),
    "noise": (noise_rollouts, ("all",)),
    "first_search": (first_search_rollouts, STATES),
}


def measure(advantages: torch.Tensor, rollouts: Rollouts) -> dict[str, Any]:
    """
    Measure what credit pays for stopping.

    Args:
        advantages (`torch.Tensor` of shape `(N, MAX_TURNS)`):
            Advantages.
        rollouts ([`Rollouts`]):
            The rollouts.

    Returns:
        `dict`: figures for the decisions after the evidence was `found`, before it was found (`not_found`), and for
        `all`: `stop_minus_search`, the mean advantage of stopping minus that of searching; `by_turn`, the same for
        each turn, `None` if no rollout decides there; `gradient` and `gradient_standard_error`.
    """
    turns = torch.arange(MAX_TURNS)
    decides = (turns < rollouts.num_turns.unsqueeze(1)) & (turns >= rollouts.first_decision) & (turns < MAX_TURNS - 1)
    stops = turns == rollouts.num_turns.unsqueeze(1) - 1
    first_hits = rollouts.first_hits.unsqueeze(1)
    found = (first_hits >= 0) & (first_hits < turns)
    states = (decides & found, decides & ~found, decides)
    return {name: _measure(advantages, chosen, stops) for name, chosen in zip(STATES, states, strict=True)}


def measure_variants(rollouts: Rollouts) -> dict[str, dict[str, Any]]:
    """Measure what each variant pays, by its name."""
    outcomes = torch.zeros(len(rollouts.num_turns))
    return {
        name: measure(
            group_advantages(outcomes, rollouts.num_turns, rollouts.first_hits, GROUP_SIZE, **options), rollouts
        )
        for name, options in VARIANTS.items()
    }


def table(results: dict[str, dict[str, Any]], states: Sequence[str]) -> str:
    """A Markdown table with a row for each variant."""
    columns = [name for state in states for name in (f"{_label(state)}: stop - search", f"{_label(state)}: gradient")]
    lines = [f"| credit | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for variant, by_state in results.items():
        cells = [cell for state in states for cell in _cells(by_state[state])]
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _num_turns(num_rollouts: int, *, first_decision: int) -> torch.Tensor:
    searches = torch.rand(num_rollouts, MAX_TURNS - 1) >= STOP
    searches[:, :first_decision] = True
    return 1 + searches.int().cumprod(dim=1).sum(dim=1)


def _measure(advantages: torch.Tensor, chosen: torch.Tensor, stops: torch.Tensor) -> dict[str, Any]:
    by_turn = [_stop_minus_search(advantages[:, [k]], chosen[:, [k]], stops[:, [k]]) for k in range(MAX_TURNS)]
    score = (stops.float() - STOP) * chosen
    gradients = (advantages * score).sum(dim=1).reshape(-1, GROUP_SIZE).mean(dim=1)
    return {
        "stop_minus_search": _stop_minus_search(advantages, chosen, stops),
        "by_turn": by_turn,
        "gradient": gradients.mean().item(),
        "gradient_standard_error": gradients.std().item() / math.sqrt(len(gradients)),
    }


def _stop_minus_search(advantages: torch.Tensor, chosen: torch.Tensor, stops: torch.Tensor) -> float | None:
    stopped, searched = advantages[chosen & stops], advantages[chosen & ~stops]
    if not len(stopped) or not len(searched):
        return None
    return (stopped.mean() - searched.mean()).item()


def _label(name: str) -> str:
    return name.replace("_", " ")


def _cells(measured: dict[str, Any]) -> tuple[str, str]:
    difference = measured["stop_minus_search"]
    gradient, error = measured["gradient"], measured["gradient_standard_error"]
    return "-" if difference is None else f"{difference:+.3f}", f"{gradient:+.4f} ± {error:.4f}"


def main() -> None:
    """Measure each world and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=20_000, help="number of groups (default: 20000)")
    parser.add_argument("--seed", type=int, default=0, help="seed (default: 0)")
    parser.add_argument("--json", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    if args.groups < 2:
        parser.error(
            f"--groups is {args.groups}. A standard error needs at least 2 groups. Set --groups to 2 or more."
        )

    machine = describe_machine()
    torch.manual_seed(args.seed)
    results = {}
    for name, (sample, states) in WORLDS.items():
        results[name] = measure_variants(sample(args.groups * GROUP_SIZE))
        print(f"{_label(name)}:\n\n{table(results[name], states)}\n")
    if args.json:
        command = " ".join(["python -m benchmarks.reproduction.length_bias", *sys.argv[1:]])
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.json, {"command": command, **machine, "results": results})


if __name__ == "__main__":
    main()
