"""Evidence recall of BM25, dense and hybrid retrieval on real multi-hop questions.

    python benchmarks/evidence_recall.py --data DATA --index BM25_INDEX --dense DENSE_INDEX --encoder MODEL

`DATA` is a folder with question files `NAME.jsonl`, which have `golden_answers`. Recall@k is the share of questions
with a gold answer in one of the first k passages. The First-Occurrence Latent Reward uses the same match. For
questions with `supporting_titles`, a second table has the share of these titles among the first k passages.
"""

import json
from pathlib import Path

from retrieval import local_retrievers, make_parser

from tspo_trl.answers import contains_answer
from tspo_trl.search import HybridRetriever, Retriever
from tspo_trl.search.arguments import RetrieverArguments, open_retriever

DEPTHS = (3, 5)
CORPUS = "corpus"


def load_questions(folder: Path) -> dict[str, list[dict]]:
    """Read the questions of each file."""
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
    """Print a Markdown table with a row for each retriever and depth, and return its values."""
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
    """Search for every question and return the passages."""
    return {data: retriever.search([row["question"] for row in rows], max(DEPTHS)) for data, rows in questions.items()}


def averages(results: dict[str, list], questions: dict[str, list[dict]]) -> str:
    """Recall of gold answers at each depth, averaged over the sets."""
    texts = []
    for depth in DEPTHS:
        values = [answer_recall(rows, results[data], depth) for data, rows in questions.items()]
        texts.append(f"@{depth} {sum(values) / len(values):.4f}")
    return ", ".join(texts)


def overlap(reference: dict[str, list], other: dict[str, list]) -> float:
    """Share of the reference's passages that the other retriever also found."""
    pairs = [pair for data in reference for pair in zip(reference[data], other[data], strict=True)]
    found = [len({one.id for one in passages} & {one.id for one in others}) for passages, others in pairs]
    return sum(found) / sum(len(passages) for passages, _ in pairs)


def main() -> None:
    """Search for all questions with each retriever and print both tables."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--num_candidates", type=int, nargs="*", default=[], help="more numbers of candidates for hybrid search"
    )
    parser.add_argument(
        "--other_dense", nargs="*", default=[], metavar="DENSE", help="other kinds of index of the same vectors"
    )
    args = parser.parse_args()

    questions = load_questions(args.data)
    retrievers = {name: open_retriever(one) for name, one in local_retrievers(args).items()}
    results = {name: search_all(retriever, questions) for name, retriever in retrievers.items()}
    values = {"answer_recall": table("gold answer found", answer_recall, questions, results)}
    supported = {data: rows for data, rows in questions.items() if "supporting_titles" in rows[0]}
    values["title_recall"] = table("supporting titles found", title_recall, supported, results)
    for number in args.num_candidates:
        hybrid = HybridRetriever([retrievers["BM25"], retrievers["dense"]], num_candidates=number)
        print(f"hybrid of {number} candidates: {averages(search_all(hybrid, questions), questions)}")
    for index in args.other_dense:
        other = search_all(
            open_retriever(RetrieverArguments(index=args.index, dense=index, encoder=args.encoder)), questions
        )
        found = overlap(results["dense"], other)
        print(f"{index}: {averages(other, questions)}, {found:.3f} of the first {max(DEPTHS)} of dense")
    if args.json:
        args.json.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
