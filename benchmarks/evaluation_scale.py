"""Cost of an evaluation without generation and search, with 51,713 questions, the size of the seven benchmarks.

    python benchmarks/evaluation_scale.py --corpus CORPUS --index BM25_INDEX

A scripted policy searches for each question and answers with the title of the first passage. There is no model. The
benchmark measures the seconds in the policy, in the retriever and in everything else (prompts, tokens, feedback,
scores, files, the report with its bootstrap), and the peak of resident memory. In a second run, every question is
already answered.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count, islice
from pathlib import Path
from typing import Any

from evaluation import make_tokenizer
from machine import PeakMemory, describe_machine
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tspo_trl.evaluation.agent import SearchAgent
from tspo_trl.evaluation.questions import load_question_files
from tspo_trl.evaluation.run import run_evaluation
from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.rollout.loop import RolloutLoop
from tspo_trl.rollout.state import RolloutLimits
from tspo_trl.search import BM25Retriever
from tspo_trl.search.indexing.bm25 import read_corpus

NUM_QUESTIONS = {"nq": 3610, "triviaqa": 11313, "popqa": 14267, "hotpotqa": 7405, "2wikimultihopqa": 12576}
NUM_QUESTIONS |= {"musique": 2417, "bamboogle": 125}
LIMITS = RolloutLimits(max_turns=4, max_turn_length=500, max_feedback_length=500, max_completion_length=4096, top_k=3)


class Timed:
    """Calls a function and adds up its seconds."""

    def __init__(self, function: Callable):
        self.function, self.seconds, self.num_calls = function, 0.0, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return self.function(*args, **kwargs)
        finally:
            self.seconds += time.perf_counter() - start
            self.num_calls += 1


class ScriptedPolicy:
    """Searches for the question, then answers with the title of the first passage."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer

    def __call__(self, prompt_ids: list[list[int]], max_new_tokens: list[int]) -> tuple[list[list[int]], None]:
        texts = [self._turn(text) for text in self.tokenizer.batch_decode(prompt_ids)]
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"], None

    def _turn(self, text: str) -> str:
        question, *after = text.rsplit("Question: ", 1)[1].split("<information>")
        if not after:
            return f"<search> {question.strip()} </search>"
        title = re.search(r'\(Title: "(.*?)"\)', after[0])
        return f"<answer> {title[1] if title else 'unknown'} </answer>"


def write_questions(corpus: Path, folder: Path) -> list[Path]:
    """Write a file of made-up questions about the passages for each benchmark, with its number of questions."""
    passages = [passage for passage in read_corpus(corpus) if passage.title.strip('"')]
    about = (
        (
            f"What is said of {passage.title} with {' '.join(passage.text.split()[n : n + 6])}?",
            passage.title.strip('"'),
        )
        for n in count(step=6)
        for passage in passages
    )
    paths = []
    for name, number in NUM_QUESTIONS.items():
        rows = [
            {"id": f"test_{i}", "question": question, "golden_answers": [title]}
            for i, (question, title) in enumerate(islice(about, number))
        ]
        paths.append(folder / f"{name}.jsonl")
        paths[-1].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return paths


def measure(agent: SearchAgent, files: list[Path], output: Path, batch_size: int) -> dict[str, float]:
    """Seconds of one run by part, and its peak memory."""
    policy, search = Timed(agent.generate), Timed(agent.loop.retriever.search)
    agent.generate, agent.loop.retriever.search = policy, search  # type: ignore[method-assign]
    start = time.perf_counter()
    with PeakMemory() as memory:
        report = run_evaluation(load_question_files(files), agent, output, {}, batch_size=batch_size)
    seconds = time.perf_counter() - start
    agent.generate, agent.loop.retriever.search = policy.function, search.function  # type: ignore[method-assign]
    return {
        "questions": report["questions"],
        "seconds": seconds,
        "policy_seconds": policy.seconds,
        "search_seconds": search.seconds,
        "other_seconds": seconds - policy.seconds - search.seconds,
        "peak_mb": memory.peak["resident_mb"],
    }


def main() -> None:
    """Evaluate twice and print the time of each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="corpus of the index")
    parser.add_argument("--index", required=True, help="Lucene index")
    parser.add_argument("--batch_size", type=int, default=512, help="questions per batch (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="JSON file for the values")
    args = parser.parse_args()

    machine = describe_machine()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_tokenizer(args.corpus, folder / "tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
        loop = RolloutLoop(tokenizer, BM25Retriever(args.index), TagProtocol(), LIMITS)
        agent = SearchAgent(loop, ScriptedPolicy(tokenizer))
        files = write_questions(args.corpus, folder)
        runs = {name: measure(agent, files, folder / "out", args.batch_size) for name in ("first", "second")}
    print("| run | questions | seconds | policy | search | all else | peak MiB |\n|---|---|---|---|---|---|---|")
    for name, run in runs.items():
        parts = [f"{run[f'{part}seconds']:.1f}" for part in ("", "policy_", "search_", "other_")]
        print(f"| {name} | {run['questions']} | {' | '.join(parts)} | {run['peak_mb']:.0f} |")
    if args.json:
        values = {"command": " ".join(["python", *sys.argv]), **machine, "runs": runs}
        args.json.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
