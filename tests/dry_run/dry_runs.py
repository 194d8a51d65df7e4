"""Fixtures that tests of the dry run import: a model without weights, questions, and a run to check."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from trl import ModelConfig

from tspo_trl.dry_run import DryRunArguments, Launch, check_run, planned_config
from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.search.arguments import RetrieverArguments

from .qwen_shapes import QWEN2_5_3B, save_without_weights

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", name="model_without_weights")
def model_fixture(tmp_path_factory, tokenizer):
    return save_without_weights(tmp_path_factory.mktemp("qwen"), tokenizer, QWEN2_5_3B)


@pytest.fixture(name="questions")
def questions_fixture(tmp_path):
    rows = [{"question": "What is the capital of France?", "golden_answers": ["Paris"]}] * 7
    rows += [{"question": "Is Rome or Paris the capital of Italy?", "golden_answers": ["Rome"]}]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def tags(tokenizer, args):
    return TagProtocol()


@pytest.fixture(name="check")
def check_fixture(tmp_path, model_without_weights, index_path, questions):
    """Runs the checks of a small LoRA run that can start. `changes` go to the configuration."""

    def run(launch=Launch(1, "single"), gpu=80, model=None, files=None, search=None, protocol=tags, **changes):  # noqa: B008
        def read_config(launch):
            return planned_config(launch.num_processes)(
                **{
                    "output_dir": str(tmp_path / "out"),
                    "per_device_train_batch_size": 4,
                    "num_generations": 4,
                    "use_cpu": True,
                    "max_steps": 5,
                    **changes,
                }
            )

        model_args = {"model_name_or_path": model_without_weights, "use_peft": True, "dtype": "bfloat16"}
        return check_run(
            lambda: launch,
            read_config,
            protocol,
            **{"train_file": questions, "eval_file": None, **(files or {})},
            retriever_args=RetrieverArguments(**(search or {"index": str(index_path)})),
            model_args=ModelConfig(**{**model_args, **(model or {})}),
            dry_run_args=DryRunArguments(dry_run_gpu_memory=gpu),
        )

    return run


def lines(report, section):
    return "\n".join(report.sections[section])


def run_train(*arguments, launcher=()):
    """Runs `examples/train.py` in its own process, or in those that the launcher starts."""
    command = [sys.executable, *launcher, str(ROOT / "examples" / "train.py"), *map(str, arguments)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False, cwd=ROOT)
