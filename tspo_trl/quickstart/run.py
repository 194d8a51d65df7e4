"""Stages of the quickstart."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from rich.console import Console
from transformers import ProgressCallback

from ..data import SearchWorld
from ..evaluation.folder import claim_folder, read_json, write_json
from ..search import BM25Retriever, build_index
from ..trainer.checkpoints import last_complete_checkpoint
from ..trainer.config import TSPOConfig
from ..trainer.trainer import TSPOTrainer
from .evaluation import evaluate
from .progress import LiveLine
from .report import plot_learning_curve, print_summary, print_trajectory, solved_pair
from .settings import QuickstartSettings
from .warm_start import warm_start

# Enough for a world of short names and passages.
LIMITS: dict[str, Any] = {
    "max_turns": 4,
    "max_turn_length": 24,
    "max_feedback_length": 100,
    "max_completion_length": 420,
    "search_top_k": 2,
}


def run_quickstart(output: Path, settings: QuickstartSettings, console: Console) -> dict[str, Any]:
    """
    Run the quickstart, or resume an interrupted run.

    Args:
        output (`Path`):
            Folder of the run.
        settings ([`QuickstartSettings`]):
            Settings of the run.
        console (`rich.console.Console`):
            Console to print to.

    Returns:
        `dict`: contents of `report.json`.

    Raises:
        FileExistsError: The folder contains something else, or a run with other settings.
    """
    start = time.perf_counter()
    # A second thread speeds up so small a model little, and delays it if the machine has other work.
    torch.set_num_threads(1)
    world = make_world(settings)
    claim_folder(output, asdict(settings), "quickstart run")
    if (output / "report.json").is_file():
        console.print(f"{output} contains a finished run. Choose another --output for a new run.")
        report = read_json(output / "report.json")
        print_summary(console, report, output)
        return report

    retriever = make_retriever(world, output, console)
    policy = make_policy(world, retriever, settings, output, console)
    trainer = make_trainer(world, retriever, policy, settings, output / "training")
    before = evaluate_once(trainer, output / "before.json", "before", console)
    console.print(f"Training with {settings.method.upper()} for {settings.steps} steps")
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(output / "training"))
    after = evaluate_once(trainer, output / "after.json", "after", console)

    report = {
        "method": settings.method,
        "seed": settings.seed,
        "steps": settings.steps,
        "num_test_questions": len(world.test_questions),
        **{f"{name}_before": value for name, value in before.items()},
        **{f"{name}_after": value for name, value in after.items()},
        "seconds": time.perf_counter() - start,
        "seconds_warm_start": read_json(policy / "warm_start.json")["seconds"],
    }
    plot_learning_curve(trainer.state.log_history, report, output / "learning_curve.png")
    print_solved(console, output / "training" / "trajectories", settings.steps)
    write_json(output / "report.json", report)
    print_summary(console, report, output)
    return report


def make_world(settings: QuickstartSettings) -> SearchWorld:
    """Make the world of a run."""
    return SearchWorld(
        settings.seed,
        num_people=settings.num_people,
        num_places=settings.num_places,
        num_works=settings.num_works,
        num_train_questions=settings.num_train_questions,
        num_test_questions=settings.num_test_questions,
    )


def make_retriever(world: SearchWorld, output: Path, console: Console) -> BM25Retriever:
    """Write the world and its index if they are missing, and open the index."""
    if not (output / "index").exists():
        if not (output / "world" / "corpus.jsonl").exists():
            world.save(output / "world")
        build_index(output / "world" / "corpus.jsonl", output / "index")
    retriever = BM25Retriever(output / "index")
    console.print(f"World of {len(retriever):,} passages, {len(world.test_questions)} held-out questions")
    return retriever


def make_policy(
    world: SearchWorld, retriever: BM25Retriever, settings: QuickstartSettings, output: Path, console: Console
) -> Path:
    """Warm-start a policy if there is none. Return its folder."""
    policy, unfinished = output / "policy", output / "policy.part"
    if not policy.exists():
        console.print(f"Warm start: {settings.warm_start_steps} supervised steps on imperfect demonstrations")
        start = time.perf_counter()
        warm_start(
            world,
            retriever,
            unfinished,
            seed=settings.seed,
            steps=settings.warm_start_steps,
            top_k=LIMITS["search_top_k"],
        )
        write_json(unfinished / "warm_start.json", {"seconds": time.perf_counter() - start})
        unfinished.rename(policy)
    return policy


def make_trainer(
    world: SearchWorld, retriever: BM25Retriever, policy: Path, settings: QuickstartSettings, output: Path
) -> TSPOTrainer:
    """Make the trainer, with small budgets."""
    off: dict[str, Any] = {"alpha": 0.0, "turn_level_groups": "never"}
    batch_size = settings.groups * settings.num_generations
    args = TSPOConfig(
        output_dir=str(output),
        max_steps=settings.steps,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=batch_size,
        num_generations=settings.num_generations,
        num_generations_eval=2,
        learning_rate=3e-4,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_steps=10,
        save_total_limit=1,
        seed=settings.seed,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        **LIMITS,
        **(off if settings.method == "grpo" else {}),
    )
    columns = ("prompt", "question", "golden_answers")
    trainer = TSPOTrainer(
        model=str(policy),
        args=args,
        train_dataset=Dataset.from_list([{name: row[name] for name in columns} for row in world.train_questions]),
        eval_dataset=Dataset.from_list([{name: row[name] for name in columns} for row in world.test_questions]),
        retriever=retriever,
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(LiveLine())
    return trainer


def evaluate_once(trainer: TSPOTrainer, path: Path, stage: str, console: Console) -> dict[str, float]:
    """Evaluate the policy if `path` is missing, and write the result to `path`."""
    if not path.is_file():
        console.print(f"Evaluation {stage} training")
        write_json(path, evaluate(trainer, stage))
    return read_json(path)


def print_solved(console: Console, trajectories: Path, steps: int) -> None:
    """Print the trajectories of a question that training solved."""
    pair = solved_pair(
        trajectories / "eval_before_step_000000.jsonl", trajectories / f"eval_after_step_{steps:06d}.jsonl"
    )
    if pair is None:
        console.print("No held-out question was wrong before training and right after.")
        return
    for title, record in zip(("Before training", "After training"), pair, strict=True):
        print_trajectory(console, title, record)
