"""Evidence recall of BM25, dense and hybrid retrieval on real multi-hop questions.

    python benchmarks/evidence_recall.py --data DATA --index BM25_INDEX --dense DENSE_INDEX --encoder MODEL

`DATA` is a folder of `NAME.jsonl` files of questions with `golden_answers`. Recall@k is the share of questions with a
gold answer in one of the first k passages, as the First-Occurrence Latent Reward looks for it. For questions with
`supporting_titles` a second table has the share of those titles among the first k passages.
"""

import argparse
import json
from pathlib import Path

from tspo_trl.answers import contains_answer
from tspo_trl.search import HybridRetriever, Retriever
from tspo_trl.search.arguments import RetrieverArguments, open_retriever

DEPTHS = (3, 5)
CORPUS = "corpus"


def load_questions(folder: Path) -> dict[str, list[dict]]:
    """The questions of each file."""
    files = sorted(file for file in folder.glob("*.jsonl") if file.stem != CORPUS)
    return {file.stem: [json.loads(line) for line in file.read_text("utf-8").splitlines()] for file in files}


def answer_recall(rows: list[dict], results: list, depth: int) -> float:
    """Share of questions with a gold answer in the first passages."""
    found = [
        contains_answer("\n".join(passage.contents for passage in passages[:depth]), row["golden_answers"])
        for row, passages in zip(rows, results, strict=True)
    ]
    return sum(found) / len(found)


def title_recall(rows: list[dict], results: list, depth: int) -> float:
    """Share of supporting titles among the first passages, averaged over questions."""
    shares = []
    for row, passages in zip(rows, results, strict=True):
        titles = set(row["supporting_titles"])
        shares.append(len(titles & {passage.title.strip('"') for passage in passages[:depth]}) / len(titles))
    return sum(shares) / len(shares)


def table(name: str, recall, questions: dict[str, list[dict]], results: dict[str, dict[str, list]]) -> dict:
    """Print a Markdown table, a row for each retriever and depth, and return its values."""
    print(f"\n| {name} | {' | '.join(questions)} | average |\n|---|{'---|' * (len(questions) + 1)}")
    values: dict[str, dict[str, float]] = {}
    for retriever, per_set in results.items():
        for depth in DEPTHS:
            row = {data: recall(rows, per_set[data], depth) for data, rows in questions.items()}
            row["average"] = sum(row.values()) / len(row)
            print(f"| {retriever} @{depth} | {' | '.join(f'{value:.3f}' for value in row.values())} |")
            values[f"{retriever}@{depth}"] = row
    return values


def search_all(retriever: Retriever, questions: dict[str, list[dict]]) -> dict[str, list]:
    """The passages of every question."""
    return {data: retriever.search([row["question"] for row in rows], max(DEPTHS)) for data, rows in questions.items()}


def averages(results: dict[str, list], questions: dict[str, list[dict]]) -> str:
    """Average over the sets of questions with a gold answer found, at each depth."""
    texts = []
    for depth in DEPTHS:
        values = [answer_recall(rows, results[data], depth) for data, rows in questions.items()]
        texts.append(f"@{depth} {sum(values) / len(values):.4f}")
    return ", ".join(texts)


def overlap(reference: dict[str, list], other: dict[str, list]) -> float:
    """Share of the reference's passages that the other found as well."""
    pairs = [pair for data in reference for pair in zip(reference[data], other[data], strict=True)]
    found = [len({one.id for one in passages} & {one.id for one in others}) for passages, others in pairs]
    return sum(found) / sum(len(passages) for passages, _ in pairs)


def main() -> None:
    """Search all questions with each retriever and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of question files")
    parser.add_argument("--index", required=True, help="Lucene index")
    parser.add_argument("--dense", required=True, help="FAISS index")
    parser.add_argument("--encoder", required=True, help="model of the dense index")
    parser.add_argument(
        "--num_candidates", type=int, nargs="*", default=[], help="hybrid search with other numbers of candidates, too"
    )
    parser.add_argument(
        "--other_dense", nargs="*", default=[], metavar="DENSE", help="other kinds of index over the same vectors, too"
    )
    parser.add_argument("--json", type=Path, help="write the values there, too")
    args = parser.parse_args()

    dense = {"index": args.index, "dense": args.dense, "encoder": args.encoder}
    arguments = {
        "BM25": RetrieverArguments(index=args.index),
        "dense": RetrieverArguments(**dense),
        "hybrid": RetrieverArguments(**dense, hybrid=True),
    }
    questions = load_questions(args.data)
    retrievers = {name: open_retriever(one) for name, one in arguments.items()}
    results = {name: search_all(retriever, questions) for name, retriever in retrievers.items()}
    values = {"answer_recall": table("gold answer found", answer_recall, questions, results)}
    supported = {data: rows for data, rows in questions.items() if "supporting_titles" in rows[0]}
    values["title_recall"] = table("supporting titles found", title_recall, supported, results)
    for number in args.num_candidates:
        hybrid = HybridRetriever([retrievers["BM25"], retrievers["dense"]], num_candidates=number)
        print(f"hybrid of {number} candidates: {averages(search_all(hybrid, questions), questions)}")
    for index in args.other_dense:
        other = search_all(open_retriever(RetrieverArguments(**{**dense, "dense": index})), questions)
        found = overlap(results["dense"], other)
        print(f"{index}: {averages(other, questions)}, {found:.3f} of the first {max(DEPTHS)} of dense")
    if args.json:
        args.json.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
