"""The rollout loop of `tspo-trl` compared with TRL's tool loop: same model, questions, retriever and sampled tokens.

    python benchmarks/rollout.py --backend transformers --json benchmarks/results/rollout-transformers.json

The benchmark times the trainers' `_generate`, as a training step calls it: `TSPOTrainer` with `ChatToolProtocol`, and
`GRPOTrainer(tools=[search])`. It first trains a tiny policy, which `--policy` keeps for the next time. The policy
decodes greedily, so both loops must give the same tokens. The share of equal rollouts is printed and written. No two
rollouts search for the same query. The loops alternate in going first, and medians of `--repeats` runs are compared,
with a local BM25 index and with `tspo-trl serve` in a separate process. With `--backend vllm` one engine in this
process serves both loops, and its prefix cache is emptied before each run.

Each second counts once: as generation in `_generate_single_turn`, as search in the retriever, and as loop in the rest
of `_generate`. The check for the end of a turn, which runs during generation, counts as loop.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from machine import PeakMemory, describe_machine
from retrieval import server
from rollout_policy import MAX_LENGTH, ORDINALS, TOP_K, make_questions, train_policy
from step_profile import Stopwatch
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from tspo_trl import TSPOConfig, TSPOTrainer
from tspo_trl.data.searchworld import SearchWorld
from tspo_trl.protocols.chat import ChatToolProtocol
from tspo_trl.protocols.passages import passages_text
from tspo_trl.rollout.stopping import TurnEnd
from tspo_trl.search import BM25Retriever, RemoteRetriever, Retriever, build_index

OURS, TRL = "tspo_trl", "trl"
RETRIEVERS = ("local", "remote")
GENERATION, SEARCH, LOOP = "generation", "search", "loop"
COLUMNS = ("retriever", "rollouts", "loop", "rollouts/s", "tokens/s", "searches", "calls", "search s")
COLUMNS += (GENERATION, SEARCH, LOOP, "peak MB", "speedup", "equal")
COMPLETION_LENGTH = MAX_LENGTH - 768  # the longest prompt fits before it


class TimedRetriever:
    """Retriever of both loops. It times and counts the searches of its `inner` retriever."""

    def __init__(self, watch: Stopwatch) -> None:
        self.inner: Any = None
        self.counts: Counter[str] = Counter()
        self.search = watch.wrap(self._search, SEARCH)

    def _search(self, queries: list[str], k: int) -> list:
        self.counts.update(searches=len(queries), search_calls=1)
        return self.inner.search(queries, k)


def search_tool(retriever: Retriever) -> Callable:
    """The tool of TRL's loop. Its schema is the protocol's, and it returns the text that our loop renders."""

    def search(query: str):
        """
        Search a collection of texts for the passages that match a query best.

        Args:
            query: What to search for.
        """
        [passages] = retriever.search([query], TOP_K)
        return passages_text(passages)

    return search


def make_trainers(args: argparse.Namespace, policy: Path, retriever: Retriever, output: str) -> dict[str, Any]:
    """Both trainers, with the same budgets and greedy decoding."""
    use_vllm = args.backend == "vllm"
    config = {
        "output_dir": output,
        "per_device_train_batch_size": max(args.rollouts),  # also the number of requests that vLLM runs at once
        "num_generations": 4,
        "max_completion_length": COMPLETION_LENGTH,
        "max_tool_calling_iterations": len(ORDINALS),
        "generation_kwargs": {"temperature": 0.0} if use_vllm else {"do_sample": False},
        "use_vllm": use_vllm,
        "vllm_max_model_length": MAX_LENGTH,
        "vllm_gpu_memory_utilization": args.vllm_gpu_memory_utilization,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": not torch.cuda.is_available(),
        "report_to": "none",
    }
    budgets = {
        "max_turns": len(ORDINALS),
        "max_turn_length": COMPLETION_LENGTH // 4,
        "max_feedback_length": COMPLETION_LENGTH // 4,
        "search_top_k": TOP_K,
    }
    row = {"question": "?", "golden_answers": ["?"], "prompt": [{"role": "user", "content": "?"}]}
    tokenizers = [AutoTokenizer.from_pretrained(policy) for _ in range(2)]
    ours = TSPOTrainer(
        str(policy),
        args=TSPOConfig(**config, **budgets),
        train_dataset=Dataset.from_list([row] * 4),
        retriever=retriever,
        protocol=ChatToolProtocol(tokenizers[0]),
        processing_class=tokenizers[0],
    )
    with sharing_engine(ours):
        trl = GRPOTrainer(
            str(policy),
            lambda completions, **kwargs: [0.0] * len(completions),
            GRPOConfig(**config),
            Dataset.from_list([{"prompt": row["prompt"]}] * 4),
            processing_class=tokenizers[1],
            tools=[search_tool(retriever)],
        )
    return {OURS: ours, TRL: trl}


@contextmanager
def sharing_engine(trainer: Any) -> Iterator[None]:
    """Make trainers created in the context use this trainer's vLLM engine, since a process can have only one."""
    if not trainer.use_vllm:
        yield
        return
    import trl.generation.vllm_generation as vllm_generation

    engine_class = vllm_generation.LLM
    vllm_generation.LLM = lambda **kwargs: trainer.vllm_generation.llm
    try:
        yield
    finally:
        vllm_generation.LLM = engine_class


def time_phases(trainers: dict[str, Any], watch: Stopwatch) -> None:
    """Time generation, except for the check for the end of a turn, which counts as loop."""
    for trainer in trainers.values():
        trainer._generate_single_turn = watch.wrap(trainer._generate_single_turn, GENERATION)
        trainer._last_loaded_step = trainer.state.global_step  # vLLM has already loaded these weights
        trainer.model.train()
    TurnEnd.__call__ = watch.wrap(TurnEnd.__call__, LOOP)


def run_once(trainer: Any, prompts: list, retriever: TimedRetriever, watch: Stopwatch) -> tuple[dict[str, Any], tuple]:
    """Run one batch of rollouts. Return figures, and the ids of prompts and completions with the mask."""
    if trainer.use_vllm:
        trainer.vllm_generation.llm.reset_prefix_cache()
    if trainer.tools:  # as TRL's training step does for its batch
        trainer._sync_tool_dicts = [{tool.__name__: tool for tool in trainer.tools}] * len(prompts)
        trainer._async_tool_dicts = [{}] * len(prompts)
    with PeakMemory() as memory:
        watch.switch()
        watch.seconds.clear()
        retriever.counts = Counter(searches=0, search_calls=0)
        start, start_cpu = time.perf_counter(), time.process_time()
        prompt_ids, completion_ids, mask, *_ = trainer._generate(prompts)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
        watch.switch()
    tokens = sum(map(sum, mask))
    figures = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,  # of this process, so other load on the machine hardly matters
        "rollouts_per_second": len(prompts) / seconds,
        "generated_tokens": tokens,
        "tokens_per_second": tokens / seconds,
        **retriever.counts,
        **{f"{phase}_seconds": watch.seconds[phase] for phase in (GENERATION, SEARCH, LOOP)},
        **{f"{phase}_share": watch.seconds[phase] / seconds for phase in (GENERATION, SEARCH, LOOP)},
        **memory.peak,
    }
    return figures, (prompt_ids, completion_ids, mask)


def compare(
    trainers: dict[str, Any], prompts: list, retriever: TimedRetriever, watch: Stopwatch, repeats: int
) -> dict[str, Any]:
    """Run both loops on the same prompts several times: medians, ratio of rates, and share of equal rollouts."""
    runs: dict[str, list] = {name: [] for name in trainers}
    num_equal = 0
    for i in range(repeats):
        outputs = {}
        for name in list(trainers)[:: 1 if i % 2 == 0 else -1]:
            figures, outputs[name] = run_once(trainers[name], prompts, retriever, watch)
            runs[name].append(figures)
        pairs = zip(*(zip(*outputs[name], strict=True) for name in trainers), strict=True)
        num_equal += sum(ours == theirs for ours, theirs in pairs)
    medians = {
        name: {key: statistics.median(run[key] for run in of_one) for key in of_one[0]}
        for name, of_one in runs.items()
    }
    ratios = [trl["seconds"] / ours["seconds"] for ours, trl in zip(runs[OURS], runs[TRL], strict=True)]
    return {
        **medians,
        "speedup": statistics.median(ratios),
        "speedup_range": [min(ratios), max(ratios)],
        "equal_rollouts": num_equal / (repeats * len(prompts)),
    }


def print_row(retriever: str, size: int, result: dict[str, Any]) -> None:
    """Print a Markdown row for each loop."""
    for name in (OURS, TRL):
        figures = result[name]
        shares = " | ".join(f"{figures[f'{phase}_share']:.1%}" for phase in (GENERATION, SEARCH, LOOP))
        memory = figures.get("device_mb", figures["resident_mb"])
        print(
            f"| {retriever} | {size} | {name} | {figures['rollouts_per_second']:.2f} | "
            f"{figures['tokens_per_second']:.0f} | {figures['searches']:.0f} | {figures['search_calls']:.0f} | "
            f"{figures['search_seconds']:.2f} | {shares} | {memory:.0f} | "
            f"{result['speedup']:.2f} | {result['equal_rollouts']:.3f} |",
            flush=True,
        )


def measure_all(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Measure every retriever with every number of rollouts."""
    world = SearchWorld(args.seed, num_people=1000, num_places=400, num_works=400)
    world.save(folder / "world")
    build_index(folder / "world" / "corpus.jsonl", folder / "index")
    policy = args.policy or folder / "policy"
    if not policy.exists():
        train_policy(policy, world, steps=args.policy_steps, seed=args.seed)
    watch = Stopwatch()
    watch.stack = [LOOP]
    retriever = TimedRetriever(watch)
    trainers = make_trainers(args, policy, retriever, str(folder / "out"))
    time_phases(trainers, watch)
    questions = make_questions(world, max(args.rollouts), random.Random(args.seed))
    prompts = [trainers[OURS].protocol.prompt(question) for question, _ in questions]
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    results = []
    serve = ["-m", "tspo_trl.cli.main", "serve", "--index", str(folder / "index"), "--port", "0"]
    with server(serve) as (url, _):
        retrievers = {"local": BM25Retriever(folder / "index"), "remote": RemoteRetriever(url)}
        for name in args.retrievers:
            retriever.inner = retrievers[name]
            compare(trainers, prompts[:8], retriever, watch, repeats=1)  # warm-up
            for size in args.rollouts:
                result = compare(trainers, prompts[:size], retriever, watch, args.repeats)
                print_row(name, size, result)
                results.append({"retriever": name, "rollouts": size, **result})
    return results


def main() -> None:
    """Measure, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("transformers", "vllm"), default="transformers")
    parser.add_argument(
        "--rollouts", type=int, nargs="+", default=[32, 128, 512], help="numbers of rollouts in a batch"
    )
    parser.add_argument("--retrievers", choices=RETRIEVERS, nargs="+", default=RETRIEVERS)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each loop (default: %(default)s)")
    parser.add_argument(
        "--policy", type=Path, help="folder of the policy. If it is missing, the policy is trained and saved there"
    )
    parser.add_argument("--policy_steps", type=int, default=400, help="training steps (default: %(default)s)")
    parser.add_argument("--vllm_gpu_memory_utilization", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    started = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        results = measure_all(args, Path(folder))
    if args.json:
        figures = {"command": " ".join(["python", *sys.argv]), "backend": args.backend, **started, "results": results}
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if any(result["equal_rollouts"] < 1 for result in results):
        sys.exit("The loops gave different tokens, so their times cannot be compared.")


if __name__ == "__main__":
    main()
