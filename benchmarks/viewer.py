"""Time to write a report of many trajectories, to open it in headless Chromium, and to filter it.

    python benchmarks/viewer.py --rollouts 5000 --json benchmarks/results/viewer.json

The trajectories are made up. Groups of eight search three times and read three passages of 100 words each time.
"""

import argparse
import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from machine import describe_machine
from playwright.sync_api import Page, sync_playwright

from tspo_trl.trajectory import Trajectory, Turn, trajectory_to_dict, write_json_lines
from tspo_trl.viewer import write_report

GROUP, SEARCHES, PASSAGES, PASSAGE_WORDS, GROUPS_PER_STEP = 8, 3, 3, 100, 16
REPEATS = 5
SEARCH = "() => {{ search.value = '{}'; search.dispatchEvent(new Event('input', {{bubbles: true}})); }}"
CHECK = "() => document.querySelector('[name={}]').click()"
FILTERS = {
    "question text": SEARCH.format("question 7"),
    "no question": SEARCH.format("zzz"),
    "all again": SEARCH.format(""),
    "all wrong": CHECK.format("all_wrong"),
    "near miss, too": CHECK.format("near_miss"),
    "one step": """() => {
        const step = document.querySelector('[name=step]');
        step.selectedIndex = 3;
        step.dispatchEvent(new Event('change', {bubbles: true}));
    }""",
}
# Measures the handler, layout and painting, until the list is drawn.
TIMED = """async () => {
    const start = performance.now();
    (%s)();
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return performance.now() - start;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=5000, help="number of trajectories (default: %(default)s)")
    parser.add_argument("--run", help="folder of a run to measure instead of made-up trajectories")
    parser.add_argument("--json", metavar="FILE", help="JSON file for the result")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        run = Path(args.run or folder)
        if not args.run:
            write_run(run, args.rollouts)
        result = measure(run, Path(folder) / "report.html")
    print(json.dumps(result, indent=2))
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def write_run(folder: Path, num_rollouts: int) -> None:
    """Write made-up trajectories of a run."""
    generator = random.Random(0)
    words = ["".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randint(2, 9))) for _ in range(5000)]
    lines = [line for group in range(-(-num_rollouts // GROUP)) for line in group_lines(group, words, generator)]
    size = GROUP * GROUPS_PER_STEP
    for step, first in enumerate(range(0, num_rollouts, size), start=1):
        of_step = ({"step": step, **line} for line in lines[:num_rollouts][first : first + size])
        write_json_lines(folder / "trajectories" / f"step_{step:06d}.jsonl", of_step)


def group_lines(group: int, words: list[str], generator: random.Random) -> Iterator[dict[str, Any]]:
    """The rollouts of one question. Half of the groups are all wrong."""
    gold = f"Answer{group}"
    for _ in range(GROUP):
        hit = generator.choice([None, 0, 1, 2])
        is_right = group % 2 == 0 and hit is not None and generator.random() < 0.5
        turns = [search_turn(k, gold if k == hit else "nothing", words, generator) for k in range(SEARCHES)]
        prediction = gold if is_right else "London"
        text = f"<think> {' '.join(generator.choices(words, k=30))} </think><answer> {prediction} </answer>"
        last = Turn(text, (0, 0), action="answer", content=prediction, reward=float(is_right), advantage=0.1)
        yield trajectory_to_dict(
            Trajectory((*turns, last), "answered"),
            group=group % GROUPS_PER_STEP,
            question=f"Question {group} about {' '.join(generator.choices(words, k=8))}?",
            golden_answers=[gold],
            outcome=float(is_right),
            first_occurrence=hit,
        )


def search_turn(k: int, held: str, words: list[str], generator: random.Random) -> Turn:
    """A turn with the word `held` in its evidence."""
    texts = [" ".join(generator.choices(words, k=PASSAGE_WORDS)) for _ in range(PASSAGES)]
    evidence = "\n".join(f'Doc {i}(Title: "{words[i]}") {text}' for i, text in enumerate(texts, start=1)) + f" {held}"
    query = " ".join(generator.choices(words, k=4))
    text = f"<think> {' '.join(generator.choices(words, k=40))} </think><search> {query} </search>"
    credit = {"reward": 0.0, "advantage": generator.uniform(-2, 2)}
    return Turn(text, (k, k + 1), "search", query, (query,), evidence, (k, k), evidence, **credit)


def measure(run: Path, path: Path) -> dict[str, Any]:
    """Measure writing, opening and filtering the report, and its size."""
    start = time.perf_counter()
    write_report(run, path)
    seconds_to_make = time.perf_counter() - start
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened, filtered = [], []
        for _ in range(REPEATS):
            page = browser.new_page()
            start = time.perf_counter()
            page.goto(path.as_uri())
            page.wait_for_selector("#steps", state="visible")
            opened.append(time.perf_counter() - start)
            filtered.append(time_filters(page))
            page.close()
        version = browser.version
        browser.close()
    return {
        "machine": describe_machine(),
        "browser": f"Chromium {version}, headless",
        "trajectories": sum(1 for file in run.glob("trajectories/*.jsonl") for _ in file.open(encoding="utf-8")),
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "seconds_to_make": round(seconds_to_make, 2),
        "seconds_to_open": {"median": round(median(opened), 2), "most": round(max(opened), 2)},
        "milliseconds_to_filter": {
            name: {"median": round(median(values), 1), "most": round(max(values), 1)}
            for name in FILTERS
            for values in [[one[name] for one in filtered]]
        },
    }


def time_filters(page: Page) -> dict[str, float]:
    """Milliseconds of each filter on the list of groups, one after another."""
    page.evaluate("location.hash = '#/groups'")
    page.wait_for_selector("#rows .row")
    return {name: page.evaluate(TIMED % change) for name, change in FILTERS.items()}


if __name__ == "__main__":
    main()
