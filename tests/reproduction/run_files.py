"""Made-up result files of the reproduction."""

from tspo_trl.evaluation.folder import write_json


def write_run(folder, regime, variant, seed, exact_match, *, final=0.5, **other):
    """
    Write a result file with a curve of the exact match and a held-out exact match after training.

    `other` replaces other curves (a list, or one number for every step) or other values of the file.
    """
    curves = {"near_miss": 0.2, "complete_failure": 0.6, "all_wrong_groups": 0.75, "groups_without_signal": 0.25}
    curves = {**curves, "turns": 2.0, "searches": 1.0, "advantage_early_stopping": None}
    curves |= {name: other.pop(name) for name in list(other) if name in curves}
    steps = len(exact_match)
    record = {
        "regime": regime,
        "variant": variant,
        "seed": seed,
        "settings": {"steps": steps},
        "policy": "abc",
        "start": {"exact_match": 0.03, "near_miss": 0.17, "retrieval_rate": 0.2, "greedy_exact_match": 0.1},
        "end": {"exact_match": final, "near_miss": 0.1, "retrieval_rate": 0.6, "greedy_exact_match": 0.6},
        "curves": {
            "exact_match": exact_match,
            **{name: value if isinstance(value, list) else [value] * steps for name, value in curves.items()},
        },
        "machine": {"commit": "c0ffee", "versions": {"torch": "2.9", "vllm": None}},
        "seconds": 60.0,
        "peak_memory_mb": 900.0,
        **other,
    }
    (folder / regime).mkdir(parents=True, exist_ok=True)
    write_json(folder / regime / f"{variant}-seed{seed}.json", record)
