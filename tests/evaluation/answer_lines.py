"""Lines of trajectory files in the form of an evaluation."""

import json


def line(id, exact_match=0.0, *, data_source="nq", **changes):
    """Return a line with one turn. The other scores follow from exact match unless they are given."""
    return {
        "data_source": data_source,
        "id": id,
        "question": f"Question {id}?",
        "golden_answers": ["Paris", "paris, France"],
        "outcome": exact_match,
        "first_occurrence": None,
        "exact_match": exact_match,
        "f1": exact_match,
        "cover_exact_match": exact_match,
        "retrieval_recall": 0.0,
        "near_miss": 0.0,
        "searches": 1.0,
        "prediction": "Paris",
        "end_reason": "answered",
        "turns": [{"text": "<answer> Paris </answer>", "token_span": [0, 5]}],
        **changes,
    }


def write_lines(path, *lines):
    """Write the lines to a file, create its folder, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def write_evaluation(folder, *lines, settings=None):
    """Write the folder of an evaluation and return its path."""
    write_lines(folder / "trajectories" / "process_0.jsonl", *lines)
    if settings is not None:
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder
