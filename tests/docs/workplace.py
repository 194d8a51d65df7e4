"""Runs the code blocks of a documentation page in a prepared folder.

The folder contains what a reader of the page has: a corpus, questions, an index, finished runs, and folders with the
names of models, which transformers prefers to the hub. It does not contain what the page itself creates. The functions
of `shell_functions.sh` shorten long commands.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil

from tspo_trl.trajectory import write_json_lines

from ..chat_tokenizer import make_chat_tokenizer
from ..conftest import PASSAGES
from ..search.tiny_encoder import make_tiny_bert, make_tiny_encoder
from ..tiny_models import TAG_ACTIONS, TAG_ENDINGS, save, teach, tiny_qwen2
from .markdown_blocks import ROOT

FUNCTIONS = Path(__file__).with_name("shell_functions.sh")
PYTHON_BLOCKS = Path(__file__).with_name("python_blocks.py")
TIME_LIMIT = 300  # seconds of one block

# Number of rows. `tspo-trl data prepare` writes to `data/`. The recipes need at least 512 training questions.
QUESTION_FILES = {"train.jsonl": 600, "dev.jsonl": 4, "test.jsonl": 4}
QUESTION_FILES |= {"data/train.jsonl": 600, "data/test/nq.jsonl": 4, "data/test/bamboogle.jsonl": 4}
MODELS = [f"Qwen/Qwen2.5-{size}" for size in ("0.5B-Instruct", "3B", "3B-Instruct", "7B", "7B-Instruct")]
RUNS = ["runs/mine-grpo", "runs/quickstart-tspo-0/training", "runs/quickstart-grpo-0/training"]  # copies of runs/mine
TRAIN = (
    "accelerate launch examples/train.py --model_name_or_path Qwen/Qwen2.5-0.5B-Instruct --index indexes/mine "
    "--train_file train.jsonl --output_dir runs/mine"
)
EVALUATE = (
    "tspo-trl evaluate --model Qwen/Qwen2.5-0.5B-Instruct --index indexes/mine --data test.jsonl "
    "--output runs/baseline-evaluation"
)
MADE_BY_A_PAGE = re.compile(r"--output(?:_dir)?[ =]([\w./-]+)")
QUESTIONS = [
    ("What is the capital of France?", "Paris"),
    ("What is the capital of Italy?", "Rome"),
    ("Which capital lies on the Seine?", "Paris"),
    ("Which capital lies on the Tiber?", "Rome"),
]


class BlockError(AssertionError):
    """A block of a page failed. The text names the block and contains its output."""


def prepare(folder):
    """Fill an empty folder with what every page starts with."""
    for name in ("examples", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("results", "__pycache__"))
    rows = [{"id": str(i), "contents": f"{title}\n{text}"} for i, (title, text) in enumerate(PASSAGES)]
    write_json_lines(folder / "corpus.jsonl", rows)
    questions = [{"question": question, "golden_answers": [answer]} for question, answer in QUESTIONS]
    for name, count in QUESTION_FILES.items():
        write_json_lines(folder / name, questions * (count // len(questions)))
    make_models(folder)
    with Page(folder, "the workplace") as page:
        page.run_bash("tspo-trl index --corpus corpus.jsonl --output indexes/mine")
        page.run_bash(TRAIN)
        page.run_bash(EVALUATE)
    for run in RUNS:
        shutil.copytree(folder / "runs/mine", folder / run)
    shutil.copytree(folder / "indexes/mine", folder / "runs/quickstart-tspo-0/index")


def make_models(folder):
    """Save tiny models under the names of large ones: policies that search and answer, and encoders."""
    tokenizer = make_chat_tokenizer()
    policy = tiny_qwen2(tokenizer, hidden_size=64)
    teach(policy, tokenizer, TAG_ENDINGS, TAG_ACTIONS)
    for name in MODELS:
        save(policy, tokenizer, folder / name)
    make_tiny_bert(folder / "intfloat/e5-base-v2")
    make_tiny_encoder(folder / "sentence-transformers/all-MiniLM-L6-v2")


def copy_without_what_is_made(prepared, folder, blocks):
    """Copy the prepared folder for a page, without what its commands create."""
    made = {str(Path(path)) for block in blocks for path in MADE_BY_A_PAGE.findall(block.code)}

    def left_out(directory, names):
        return {name for name in names if str(Path(directory, name).relative_to(prepared)) in made}

    shutil.copytree(prepared, folder, ignore=left_out)


class Page:
    """Runs the blocks of a page in its folder, and ends the processes that they leave."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.environment = os.environ | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        }
        self.left_running = []
        self.interpreter = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.left_running:
            if process.is_running():
                process.terminate()
        for process in psutil.wait_procs(self.left_running, timeout=20)[1]:
            process.kill()
        if self.interpreter is not None:
            self.interpreter.communicate()

    def assert_runs(self, block):
        """Run a block. Raises `BlockError` if it fails."""
        (self.run_bash if block.language == "bash" else self.run_python)(block.code, block.line)

    def run_bash(self, code, line=1):
        """Run commands up to the first that fails. Background processes continue."""
        log = self.folder / "output.log"
        script = f"source {FUNCTIONS}\n{code}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(TIME_LIMIT)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                status = f"no end after {TIME_LIMIT} s"
        self.left_running += [other for other in psutil.process_iter() if session_of(other) == process.pid]
        if status != 0:
            self.fail(code, line, f"exit status {status}", log.read_text(errors="replace"))

    def run_python(self, code, line=1):
        """Run code in the interpreter of the page, which keeps the names of earlier blocks."""
        log = self.folder / "output.log"
        if self.interpreter is None:
            self.interpreter = subprocess.Popen(
                [sys.executable, str(PYTHON_BLOCKS)],
                cwd=self.folder,
                env=self.environment | {"PYTHONPATH": str(self.folder)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log.open("wb"),
                text=True,
            )
        limit = threading.Timer(TIME_LIMIT, self.interpreter.kill)
        limit.start()
        print(json.dumps({"code": code, "name": f"{self.name}, line {line}"}), file=self.interpreter.stdin, flush=True)
        answer = self.interpreter.stdout.readline()
        limit.cancel()
        error = json.loads(answer) if answer else f"The interpreter ended, or took more than {TIME_LIMIT} s."
        if error:
            self.fail(code, line, error, log.read_text(errors="replace"))

    def fail(self, code, line, error, output):
        raise BlockError(f"{self.name}, line {line}:\n\n{code}\n{error}\n{output[-6000:]}")


def session_of(process):
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None
