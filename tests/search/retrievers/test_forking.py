"""Searches in forked, spawned and launched processes. Each test has a time limit, because the failure is a hang."""

import os
import signal
import subprocess
import sys

import pytest

CAPITALS = 'QUERIES = ["capital of France", "capital of Germany", "capital of Spain", "capital of Italy"] * 4\n'
ANSWERS = ['"Paris"', '"Berlin"', '"Madrid"', '"Rome"'] * 4

DATA_LOADER = """
from torch.utils.data import DataLoader, Dataset
from tspo_trl.search import BM25Retriever

class Searches(Dataset):
    def __init__(self, retriever):
        self.retriever = retriever
    def __len__(self):
        return len(QUERIES)
    def __getitem__(self, i):
        return self.retriever.search([QUERIES[i]], k=1)[0][0].title

if __name__ == "__main__":
    retriever = BM25Retriever({index!r})
    retriever.search(QUERIES, k=1)
    loader = DataLoader(Searches(retriever), batch_size=4, num_workers=2, multiprocessing_context={method!r})
    print([title for batch in loader for title in batch])
"""


@pytest.mark.parametrize(
    "method",
    ["fork", pytest.param("spawn", marks=pytest.mark.slow), pytest.param("forkserver", marks=pytest.mark.slow)],
)
def test_data_loader_workers_search(tmp_path, clean_environment, index_path, method):
    script = tmp_path / "loader.py"
    script.write_text(CAPITALS + DATA_LOADER.format(index=str(index_path), method=method), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, script], env=clean_environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert result.stdout.strip() == str(ANSWERS)


def test_parent_and_forked_child_search_side_by_side(run_python, index_path):
    program = f"""
import os
from tspo_trl.search import BM25Retriever
retriever = BM25Retriever({str(index_path)!r})
child = os.fork()
for _ in range(200):
    [[passage]] = retriever.search(["capital of France"], k=1)
    assert passage.title == '"Paris"'
if child == 0:
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    assert run_python(program) == "0"


def test_errors_in_a_forked_child_are_those_of_the_retriever(run_python, index_path, tmp_path):
    program = f"""
import os, shutil
from tspo_trl.search import BM25Retriever
shutil.copytree({str(index_path)!r}, {str(tmp_path / "copy")!r})
retriever = BM25Retriever({str(tmp_path / "copy")!r})
child = os.fork()
if child == 0:
    shutil.rmtree({str(tmp_path / "copy")!r})
    try:
        retriever.search(["Seine"], k=1)
    except FileNotFoundError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    assert "does not exist. Build one with" in run_python(program)


def test_search_process_that_was_killed_is_replaced(retriever):
    from tspo_trl.search.retrievers.forking import ForkGuard

    guard = ForkGuard()
    guard._process = -1  # as in a forked process
    copy = guard.replacement(retriever)
    assert guard.replacement(retriever) is copy
    os.kill(copy._process.pid, signal.SIGKILL)
    copy._process.wait()
    with pytest.raises(RuntimeError, match="has died"):
        copy.search(["Seine"], k=1)
    [[passage]] = guard.replacement(retriever).search(["capital of Spain"], k=1)
    assert passage.title == '"Madrid"'


def test_an_interrupted_search_does_not_answer_the_next_one(retriever):
    from tspo_trl.search.retrievers.forking import ForkGuard

    guard = ForkGuard()
    guard._process = -1
    copy = guard.replacement(retriever)

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            copy.search(["capital of Italy"] * 100_000, k=3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    [[passage]] = guard.replacement(retriever).search(["capital of Spain"], k=1)
    assert passage.title == '"Madrid"'


def test_forked_search_prints_nothing_of_its_own(clean_environment, index_path):
    program = f"""
import os
from tspo_trl.search import BM25Retriever
retriever = BM25Retriever({str(index_path)!r})
child = os.fork()
if child == 0:
    retriever.search(["Seine"], k=1)
    os._exit(0)
os.waitpid(child, 0)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], env=clean_environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert (result.stdout, result.stderr) == ("", "")


@pytest.mark.parametrize(
    "retriever",
    ["RemoteRetriever('http://127.0.0.1:9')", pytest.param("BM25Retriever({index!r})", marks=pytest.mark.slow)],
)
def test_search_process_ends_with_the_process_that_made_it(run_python, index_path, retriever):
    program = f"""
import os
from tspo_trl.search import BM25Retriever, RemoteRetriever
from tspo_trl.search.retrievers.forking import ProcessRetriever
print(ProcessRetriever({retriever.format(index=str(index_path))})._process.pid, flush=True)
os._exit(0)
"""
    process = int(run_python(program))
    status = subprocess.run(
        ["timeout", "20", "tail", f"--pid={process}", "-f", "/dev/null"], check=False
    )  # returns when the process is gone
    assert status.returncode == 0


@pytest.mark.slow
def test_two_processes_of_accelerate_launch_search(tmp_path, clean_environment, index_path):
    script = tmp_path / "two.py"
    script.write_text(
        f"""
from accelerate import Accelerator
from accelerate.utils import gather_object
from tspo_trl.search import BM25Retriever

accelerator = Accelerator(cpu=True)
retriever = BM25Retriever({str(index_path)!r})
query = ["capital of France", "capital of Italy"][accelerator.process_index]
for _ in range(50):
    [[passage]] = retriever.search([query], k=1)
    titles = gather_object([passage.title])
if accelerator.is_main_process:
    print(titles)
accelerator.end_training()
""",
        encoding="utf-8",
    )
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    options = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", str(script)]
    environment = clean_environment | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        launch + options, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert """['"Paris"', '"Rome"']""" in result.stdout
