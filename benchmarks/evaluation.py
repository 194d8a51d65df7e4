"""`tspo-trl evaluate` on real multi-hop questions through an endpoint with a policy of a few rules, without a model.

    python benchmarks/evaluation.py --data DATA --index BM25_INDEX --dense DENSE_INDEX --encoder MODEL

`DATA` is a folder with question files `NAME.jsonl`, which have `golden_answers`, and `corpus.jsonl`, on which the
tokenizer that counts budgets is trained. The policy of `scripted_policy.py` is served by a separate process and
evaluated with BM25, dense and hybrid search. It is not a baseline for a model. It shows that the whole path works, and
how fast it is.
"""

import json
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from machine import describe_machine
from retrieval import local_retrievers, make_parser, server
from scripted_policy import MODEL
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tspo_trl.evaluation.arguments import AgentArguments
from tspo_trl.evaluation.backends import open_agent
from tspo_trl.evaluation.questions import load_question_files
from tspo_trl.evaluation.run import run_evaluation
from tspo_trl.search.arguments import RetrieverArguments, open_retriever
from tspo_trl.search.identity import identity_of
from tspo_trl.search.indexing.bm25 import read_corpus

CORPUS = "corpus.jsonl"
SCORES = {"EM": "exact_match", "F1": "f1", "cover-EM": "cover_exact_match", "recall": "retrieval_recall"}


def make_tokenizer(corpus: Path, folder: Path) -> None:
    """Train a byte-level BPE tokenizer on the first passages and save it."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=16_384,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_end|>"],
        show_progress=False,
    )
    backend.train_from_iterator((passage.contents for passage in islice(read_corpus(corpus), 5000)), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)


def evaluate(arguments: RetrieverArguments, agent_arguments: AgentArguments, files: list[Path], output: Path) -> dict:
    """Evaluate with one retriever. Return the report with the time in seconds."""
    questions = load_question_files(files)
    retriever = open_retriever(arguments)
    agent = open_agent(agent_arguments, retriever)
    settings = {**agent_arguments.settings, "retriever": identity_of(retriever).to_dict()}
    start = time.perf_counter()
    report = run_evaluation(questions, agent, output, settings)
    return {**report, "seconds": time.perf_counter() - start}


def print_table(reports: dict[str, dict[str, Any]]) -> None:
    """Print a Markdown table with a row for each retriever and score."""
    names = list(next(iter(reports.values()))["datasets"])
    print(f"\n| retriever | score | {' | '.join(names)} | average |\n|---|---|{'---|' * (len(names) + 1)}")
    for retriever, report in reports.items():
        rows = [*report["datasets"].values(), report["macro"]]
        for title, score in SCORES.items():
            means = [f"{row[score]['mean']:.3f}" for row in rows]
            print(f"| {retriever} | {title} | {' | '.join(means)} |")
    for retriever, report in reports.items():
        count, missing = report["questions"], report["missing"]
        print(f"{retriever}: {count} questions ({missing} missing) in {report['seconds']:.1f} s")


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """Numbers of questions, seconds and means of a report."""
    rows = {**report["datasets"], "average": report["macro"]}
    means = {name: {title: row[score]["mean"] for title, score in SCORES.items()} for name, row in rows.items()}
    return {"questions": report["questions"], "missing": report["missing"], "seconds": report["seconds"], **means}


def main() -> None:
    """Serve the policy, evaluate it with each retriever, and print the table."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--api",
        choices=("completions", "chat"),
        default="completions",
        help="API of the endpoint (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, help="folder for the evaluations. It is kept")
    args = parser.parse_args()

    machine = describe_machine()
    files = sorted(file for file in args.data.glob("*.jsonl") if file.name != CORPUS)
    reports = {}
    with (
        tempfile.TemporaryDirectory() as temporary,
        server([str(Path(__file__).with_name("scripted_policy.py"))]) as (url, _),
    ):
        folder = args.output or Path(temporary)
        make_tokenizer(args.data / CORPUS, folder / "tokenizer")
        agent_arguments = AgentArguments(
            MODEL, backend="openai", base_url=url, api=args.api, tokenizer=str(folder / "tokenizer")
        )
        for name, arguments in local_retrievers(args).items():
            reports[name] = evaluate(arguments, agent_arguments, files, folder / name.lower())
    print_table(reports)
    if args.json:
        results = {name: figures(report) for name, report in reports.items()}
        values = {"command": " ".join(["python", *sys.argv]), **machine, "results": results}
        args.json.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
