"""Train one cell of the reproduction (a regime, a variant and a seed) and write its result as JSON.

    python -m benchmarks.reproduction.run --regime misread-3 --variant tspo --seed 1

World, index and start policy are made once in `--work`. All variants start from the same policy and see the same
questions in the same order, with the same number of rollouts and updates and the same hyper-parameters. A cell is not
run again if its file exists.
"""

import argparse
import math
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from transformers import logging as transformers_logging
from transformers.trainer_callback import PrinterCallback

from benchmarks.machine import PeakMemory, describe_machine
from tspo_trl import TSPOConfig, TSPOTrainer
from tspo_trl.evaluation.folder import read_json, write_json
from tspo_trl.quickstart.evaluation import evaluate
from tspo_trl.search import BM25Retriever
from tspo_trl.trajectory import read_json_lines

from .policies import open_policy, open_retriever, weights_digest
from .regimes import REGIMES
from .variants import VARIANTS
from .worlds import WORLDS

NUM_GENERATIONS = 8
MICRO_BATCH = 16  # larger ones are slower on a CPU, because activations no longer fit its cache
LEARNING_RATE = 1e-3  # best of `tune.py` for GRPO

CURVES = {
    "exact_match": "rewards/exact_match_reward/mean",
    "near_miss": "tspo/near_miss",
    "complete_failure": "tspo/complete_failure",
    "all_wrong_groups": "tspo/all_wrong_groups",
    "groups_without_signal": "tspo/groups_without_signal",
    "groups_without_signal_grpo": "tspo/groups_without_signal_grpo",
    "first_occurrence_turn": "tspo/first_occurrence_turn",
    "turns": "rollout/turns",
    "searches": "rollout/searches",
    "duplicate_queries": "rollout/duplicate_queries",
    "ended_by_max_turns": "rollout/end/max_turns",
    "completion_length": "completions/mean_length",
    "entropy": "entropy",
    "advantage_early_stopping": "tspo/advantage/early_stopping",
    "advantage_late_stopping": "tspo/advantage/late_stopping",
    "step_time": "step_time",
}


@dataclass(frozen=True)
class Cell:
    """
    One training run.

    Args:
        regime (`str`):
            One of `REGIMES`.
        variant (`str`):
            One of `VARIANTS`.
        seed (`int`):
            Seed of the order of the questions and of all sampling.
        learning_rate (`float`, *optional*, defaults to `LEARNING_RATE`):
            Constant learning rate.
    """

    regime: str
    variant: str
    seed: int
    learning_rate: float = LEARNING_RATE

    def file(self, results: Path) -> Path:
        """Path of the result file."""
        return results / self.regime / f"{self.variant}-seed{self.seed}.json"


def run_cell(cell: Cell, work: Path, file: Path) -> dict[str, Any]:
    """
    Train and evaluate a cell.

    Args:
        cell ([`Cell`]):
            What to run.
        work (`Path`):
            Folder of worlds, indexes, start policies and trajectories.
        file (`Path`):
            JSON file to write. If it exists, its contents are returned and nothing is run.

    Returns:
        `dict[str, Any]`: settings, held-out scores before and after training, a curve for each of `CURVES`, versions
        and cost.
    """
    if file.exists():
        return read_json(file)
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    disable_progress_bars()
    regime = REGIMES[cell.regime]
    retriever = open_retriever(regime.world, work)
    policy = open_policy(cell.regime, retriever, work)
    before = _scores_before(cell, policy, retriever, work)

    machine, start = describe_machine(), time.perf_counter()
    output = work / cell.regime / file.stem
    shutil.rmtree(output, ignore_errors=True)
    with PeakMemory() as memory:
        trainer = make_trainer(cell, policy, retriever, work, output)
        trainer.train()
        seconds_of_training = time.perf_counter() - start
        after = evaluate(trainer, "after")
    result = {
        "regime": cell.regime,
        "variant": cell.variant,
        "seed": cell.seed,
        "settings": {
            "steps": regime.steps,
            "groups": regime.groups,
            "num_generations": NUM_GENERATIONS,
            "learning_rate": cell.learning_rate,
            "habits": regime.habits,
            "limits": WORLDS[regime.world].limits,
            "options": trainer.args.credit_options,
        },
        "policy": weights_digest(policy),
        "start": before,
        "end": after,
        "curves": _curves(trainer.state.log_history),
        "machine": machine,
        "seconds": time.perf_counter() - start,
        "seconds_of_training": seconds_of_training,
        "peak_memory_mb": memory.peak["resident_mb"],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, result)
    return result


def _scores_before(cell: Cell, policy: Path, retriever: BM25Retriever, work: Path) -> dict[str, float]:
    """Held-out scores of a start policy. They are computed once per policy."""
    file = policy / "scores.json"
    if not file.exists():
        trainer = make_trainer(replace(cell, seed=0), policy, retriever, work, work / cell.regime / "start")
        scores = evaluate(trainer, "before")
        write_json(file, scores)
    return read_json(file)


def make_trainer(cell: Cell, policy: Path, retriever: BM25Retriever, work: Path, output: Path) -> TSPOTrainer:
    """Make the trainer of a cell."""
    regime, variant = REGIMES[cell.regime], VARIANTS[cell.variant]
    world = WORLDS[regime.world]
    num_rollouts = regime.groups * NUM_GENERATIONS
    args = TSPOConfig(
        output_dir=str(output),
        max_steps=regime.steps,
        per_device_train_batch_size=MICRO_BATCH,
        gradient_accumulation_steps=num_rollouts // MICRO_BATCH,
        per_device_eval_batch_size=128,
        num_generations=NUM_GENERATIONS,
        num_generations_eval=1,
        learning_rate=cell.learning_rate,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        seed=cell.seed,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
        **world.limits,
        **variant.options,
    )
    questions = work / regime.world / "world"
    trainer = variant.trainer(
        model=str(policy),
        args=args,
        train_dataset=_dataset(questions / "train.jsonl"),
        eval_dataset=_dataset(questions / "test.jsonl"),
        retriever=retriever,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _dataset(path: Path) -> Dataset:
    columns = ("prompt", "question", "golden_answers")
    return Dataset.from_list([{name: row[name] for name in columns} for row in read_json_lines(path)])


def _curves(log_history: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """Values of each metric step by step, `None` if a step has no value."""
    rows = [row for row in log_history if "tspo/near_miss" in row]
    return {name: [_number(row.get(metric)) for row in rows] for name, metric in CURVES.items()}


def _number(value: Any) -> float | None:
    return None if value is None or math.isnan(float(value)) else round(float(value), 5)


def main() -> None:
    """Run one cell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--regime", required=True, choices=REGIMES, help="start policy and world")
    parser.add_argument("--variant", required=True, choices=VARIANTS, help="credit assignment")
    parser.add_argument("--seed", type=int, required=True, help="seed of the questions' order and of sampling")
    parser.add_argument("--learning_rate", type=float, default=LEARNING_RATE, help="(default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("runs/reproduction"), help="(default: %(default)s)")
    parser.add_argument(
        "--results", type=Path, default=Path("runs/reproduction-results"), help="(default: %(default)s)"
    )
    args = parser.parse_args()
    cell = Cell(args.regime, args.variant, args.seed, args.learning_rate)
    file = cell.file(args.results)
    result = run_cell(cell, args.work, file)
    print(f"{file}: exact match {result['start']['exact_match']:.3f} -> {result['end']['exact_match']:.3f}")


if __name__ == "__main__":
    main()
