"""Every recipe in `examples/` names the source of its values, adds up, and fits its machines."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from trl import ModelConfig

from tspo_trl import TSPOConfig
from tspo_trl.dry_run import DryRunArguments, planned_config, planned_launch
from tspo_trl.dry_run.batch import plan_batches
from tspo_trl.search.arguments import RetrieverArguments

from ..dry_run.qwen_shapes import QWEN2_5_3B, QWEN2_5_7B, save_without_weights
from ..serving import serving

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "examples" / "recipes").glob("*.yaml"))
FULL = [path for path in RECIPES if "lora" not in path.stem]

# scripts/nq_hotpotqa/v0.2/train_grpo.sh of Search-R1, with defaults from verl/trainer/config/ppo_trainer.yaml
SEARCH_R1 = {
    "num_generations": 5,
    "max_turns": 4,
    "search_top_k": 3,
    "max_turn_length": 500,
    "max_feedback_length": 500,
    "temperature": 1.0,
    "beta": 0.001,
    "epsilon": 0.2,
    "entropy_coef": 0.001,
    "num_iterations": 1,
    "learning_rate": 1e-6,
    "lr_scheduler_type": "constant_with_warmup",
    "warmup_steps": 0.285,
    "max_grad_norm": 1.0,
}


def ids(paths):
    return [path.stem for path in paths]


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def plan(recipe, num_questions=170_000):
    names = {field.name for field in fields(TSPOConfig)}
    changes = {name: value for name, value in recipe.items() if name in names}
    arguments = {name: value for name, value in recipe.items() if name.startswith("dry_run")}
    arguments["dry_run_accelerate_config"] = str(ROOT / arguments["dry_run_accelerate_config"])
    launch = planned_launch(DryRunArguments(**arguments))
    return plan_batches(planned_config(launch.num_processes)(**changes, use_cpu=True), num_questions)


def test_models_and_cards_of_the_project_have_a_recipe():
    assert set(ids(RECIPES)) == {
        "qwen2.5-3b-base", "qwen2.5-3b-instruct", "qwen2.5-7b-base", "qwen2.5-7b-instruct",
        "qwen2.5-7b-instruct-multi-node", "qwen2.5-3b-instruct-lora-24gb", "qwen2.5-7b-instruct-lora-80gb",
    }  # fmt: skip


@pytest.mark.parametrize("path", RECIPES, ids=ids(RECIPES))
def test_every_value_names_its_source(path):
    settings = [line for line in path.read_text(encoding="utf-8").splitlines() if re.match(r"\w+:", line)]
    assert len(settings) == len(read(path))
    without = [s for s in settings if not re.search(r"# .*(Search-R1 (script|config|code)|ours|TSPO abstract)", s)]
    assert without == []


@pytest.mark.parametrize("path", RECIPES, ids=ids(RECIPES))
def test_every_key_is_an_argument_of_the_script(path):
    known = {
        field.name for kind in (RetrieverArguments, DryRunArguments, TSPOConfig, ModelConfig) for field in fields(kind)
    }
    assert set(read(path)) <= known | {"train_file", "eval_file", "reward_funcs"}


@pytest.mark.parametrize("path", FULL, ids=ids(FULL))
def test_full_recipe_has_the_published_values_of_search_r1(path):
    recipe = read(path)
    assert {name: recipe[name] for name in SEARCH_R1} == SEARCH_R1


@pytest.mark.parametrize("path", RECIPES, ids=ids(RECIPES))
def test_value_attributed_to_search_r1_is_search_r1s(path):
    recipe, text = read(path), path.read_text(encoding="utf-8")
    attributed = re.findall(r"^(\w+): \S+ # Search-R1 (?:script|config)", text, flags=re.MULTILINE)
    assert {name for name in attributed if name in SEARCH_R1 and recipe[name] != SEARCH_R1[name]} == set()
    assert len(attributed) > 10


@pytest.mark.parametrize("path", RECIPES, ids=ids(RECIPES))
def test_values_of_tspo_are_the_defaults_of_the_configuration(path):
    recipe = read(path)
    names = ["alpha", "credit", "turn_level_groups", "turn_baseline", "absent_turns", "latent_in_mixed_groups"]
    defaults = {field.name: field.default for field in fields(TSPOConfig)}
    assert {name: recipe[name] for name in names} == {name: defaults[name] for name in names}


@pytest.mark.parametrize("path", FULL, ids=ids(FULL))
def test_full_recipe_makes_search_r1s_batches_on_its_gpus(path):
    result = plan(read(path))
    assert (result.questions_per_generation, result.completions_per_generation) == (512, 2560)
    assert (result.completions_per_step, result.steps_per_generation) == (256, 10)
    assert result.generations == 1005


@pytest.mark.parametrize(
    ("name", "questions", "per_step"), [("3b-instruct-lora-24gb", 32, 80), ("7b-instruct-lora-80gb", 64, 160)]
)
def test_lora_recipe_makes_the_batches_of_its_comments(name, questions, per_step):
    result = plan(read(ROOT / "examples" / "recipes" / f"qwen2.5-{name}.yaml"))
    assert (result.num_processes, result.questions_per_generation) == (1, questions)
    assert (result.completions_per_step, result.steps_per_generation) == (per_step, 2)


@pytest.mark.parametrize("path", RECIPES, ids=ids(RECIPES))
def test_products_in_the_comments_are_right(path):
    products = re.findall(r"# (\d+) x (\d+) GPUs? x (\d+) = ([\d,]+) rollouts", path.read_text(encoding="utf-8"))
    assert len(products) == 2
    for a, b, c, product in products:
        assert int(a) * int(b) * int(c) == int(product.replace(",", ""))


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=ids(RECIPES))
def test_recipe_passes_the_dry_run(tmp_path, path, tokenizer, index_path):
    shape = QWEN2_5_7B if "7b" in path.stem else QWEN2_5_3B
    model = save_without_weights(tmp_path / "model", tokenizer, shape)
    questions = tmp_path / "questions.jsonl"
    row = '{"question": "What is the capital of France?", "golden_answers": ["Paris"]}\n'
    questions.write_text(row * 512, encoding="utf-8")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with serving("--index", index_path) as (_, url):
        command = [sys.executable, "examples/train.py", "--config", str(path), "--dry_run"]
        command += ["--model_name_or_path", model, "--train_file", str(questions), "--retriever_url", url]
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=300, env=environment, check=False, cwd=ROOT
        )
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    assert "Ready to run. No model was loaded." in result.stdout
    assert f"of {read(path)['dry_run_gpu_memory']} GiB" in result.stdout
    assert "less than a tenth" not in result.stdout
