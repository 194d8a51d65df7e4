"""Five TSPO steps on SearchWorld in one or several processes, started by torchrun. Each process saves its results.

    torchrun --nproc_per_node 2 tests/training_runs/searchworld_run.py '{"world": ..., "output_dir": ...}'

The argument is JSON: `world` (folder of [`make_searchworld`]), `output_dir`, `settings` (of `TSPOConfig`), `replay`
(folder of an earlier run whose rollouts are taken in place of new ones, if need be dealt out anew).
"""

import contextlib
import json
import sys
from pathlib import Path

import torch
from datasets import Dataset
from transformers.integrations import is_deepspeed_zero3_enabled

from tspo_trl import TSPOConfig, TSPOTrainer
from tspo_trl.data import SearchWorld
from tspo_trl.quickstart.run import LIMITS
from tspo_trl.quickstart.warm_start import warm_start
from tspo_trl.rewards import exact_match_reward
from tspo_trl.search import BM25Retriever, build_index
from tspo_trl.search.statistics import SearchStatistics
from tspo_trl.trainer.checkpoints import last_complete_checkpoint

STEPS = 5


def make_searchworld(folder):
    """A small world with its index and a policy that searches, finds and misreads."""
    world = SearchWorld(
        seed=0, num_people=60, num_places=30, num_works=30, num_train_questions=60, num_test_questions=3
    )
    world.save(folder / "world")
    build_index(folder / "world" / "corpus.jsonl", folder / "index")
    warm_start(world, BM25Retriever(folder / "index"), folder / "policy", steps=100)


def length_reward(completions, **kwargs):
    """Reward all rollouts differently, so that every step changes the parameters."""
    return [len(text) / 1000 for text in completions]


class RecordingTrainer(TSPOTrainer):
    """Trainer that records rollouts and advantages of each step, or replays recorded rollouts."""

    def __init__(self, *args, recorded=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.rollouts, self.advantages = [], []
        self._recorded = iter(recorded or [])
        self._generate_rollouts = self.rollout_loop.run
        self.rollout_loop.run = self._replay if recorded else self._record

    def _record(self, *args):
        rollouts, statistics = self._generate_rollouts(*args)
        self.rollouts.append(rollouts)
        return rollouts, statistics

    def _replay(self, prompt_ids, *_):
        first = self.accelerator.process_index * len(prompt_ids)
        rollouts = next(self._recorded)[first : first + len(prompt_ids)]
        assert [rollout.prompt_ids for rollout in rollouts] == prompt_ids, "the batch is another one"
        return rollouts, SearchStatistics()

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        lengths = output["completion_mask"].sum(dim=1).tolist()
        rows = output["advantages"].tolist()
        self.advantages.append([row[:length] for row, length in zip(rows, lengths, strict=True)])
        return output


def read_run(output_dir):
    """Results of each process of a run."""
    return [torch.load(path, weights_only=False) for path in sorted(Path(output_dir).glob("process_*.pt"))]


def joined(processes, name):
    """`rollouts` or `advantages` of all processes, step by step."""
    return [[one for process in processes for one in process[name][step]] for step in range(STEPS)]


def whole_parameters(model):
    """All parameters, gathered if DeepSpeed has partitioned them (a collective operation)."""
    parameters = dict(model.named_parameters())
    gathering = contextlib.nullcontext()
    if is_deepspeed_zero3_enabled():
        import deepspeed

        gathering = deepspeed.zero.GatheredParameters(list(parameters.values()))
    with gathering:
        return {name: parameter.detach().clone() for name, parameter in parameters.items()}


def main(world, output_dir, settings, replay=None):
    """Train, from the last checkpoint if there is one, and write `process_*.pt`."""
    world = Path(world)
    rows = [json.loads(line) for line in (world / "world" / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    columns = ("prompt", "question", "golden_answers")
    args = TSPOConfig(
        output_dir=output_dir,
        max_steps=STEPS,
        num_generations=4,
        reward_weights=[1.0, 0.1],
        learning_rate=1e-3,
        adam_epsilon=1e-3,  # steps follow the gradients and not their signs, so that rounding stays small
        lr_scheduler_type="constant",
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        **LIMITS,
        **{"save_strategy": "no", **settings},
    )
    trainer = RecordingTrainer(
        model=str(world / "policy"),
        reward_funcs=[exact_match_reward, length_reward],
        args=args,
        train_dataset=Dataset.from_list([{name: row[name] for name in columns} for row in rows]),
        retriever=BM25Retriever(world / "index"),
        recorded=joined(read_run(replay), "rollouts") if replay else None,
    )
    before = whole_parameters(trainer.model)
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(output_dir))
    left = {
        "rollouts": trainer.rollouts,
        "advantages": trainer.advantages,
        "before": before,
        "parameters": whole_parameters(trainer.model),
        "log": trainer.state.log_history,
        "deepspeed_stage": getattr(trainer.model_wrapped, "zero_optimization_stage", int)(),
    }
    path = Path(output_dir) / f"process_{trainer.accelerator.process_index}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(left, path)
    trainer.accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
