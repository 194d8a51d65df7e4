"""The example scripts run as their docstrings say."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import EarlyStoppingCallback
from trl import TrlParser

from tspo_trl import TSPOConfig
from tspo_trl.data.questions import load_questions
from tspo_trl.dry_run import planned_config
from tspo_trl.trajectory import read_json_lines, write_json_lines

from ..chat_tokenizer import make_chat_tokenizer
from ..serving import serving
from ..tiny_models import tiny_qwen2

EXAMPLES = Path(__file__).parents[2] / "examples"
ONE_PROCESS = ["--cpu", "--num_processes", "1"]
DDP_CONFIG = ["--config_file", str(EXAMPLES / "accelerate_configs" / "ddp.yaml"), "--num_processes", "2"]
TWO_PROCESSES = ["--multi_gpu", "--num_processes", "2"]  # with `--use_cpu` in the script: gloo on the CPU


@pytest.fixture
def questions_path(tmp_path):
    path = tmp_path / "questions.jsonl"
    write_json_lines(path, [{"question": "What is the capital of France?", "golden_answers": ["Paris"]}] * 8)
    return path


@pytest.fixture(scope="module")
def script():
    """`examples/train.py` as a module."""
    spec = importlib.util.spec_from_file_location("train_script", EXAMPLES / "train.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look there for their types
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def check_selection(script, tmp_path, questions_path):
    """Check the selection of the best checkpoint. `settings` go to the configuration."""

    def check(eval_file=questions_path, early_stopping_patience=None, **settings):
        arguments = {"eval_file": eval_file, "early_stopping_patience": early_stopping_patience}
        script_args = script.ScriptArguments(train_file=questions_path, **arguments)
        settings = {"eval_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "exact_match", **settings}
        training_args = TSPOConfig(output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False, **settings)
        script.check_selection(script_args, training_args, load_questions(eval_file) if eval_file else None)

    return check


def run_train(launcher, search, questions, model, output, *arguments):
    """Run `accelerate launch examples/train.py` for two steps of short rollouts."""
    launch = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", *launcher]
    script = [
        str(EXAMPLES / "train.py"), "--model_name_or_path", model, *search, "--train_file", questions,
        "--output_dir", output, "--max_steps", "2", "--logging_steps", "1", "--per_device_train_batch_size", "8",
        "--num_generations", "4", "--max_turns", "2", "--max_turn_length", "24", "--max_feedback_length", "60",
        "--max_completion_length", "200", "--search_top_k", "1", "--use_cpu", "--bf16", "False", "--report_to", "none",
        "--save_strategy", "no", "--learning_rate", "1e-3", *arguments,
    ]  # fmt: skip
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch, *map(str, script)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "rollouts"), [(ONE_PROCESS, 8), (TWO_PROCESSES, 16), (DDP_CONFIG, 16)])
def test_accelerate_launch_trains_on_json_lines(
    tmp_path, launcher, rollouts, index_path, questions_path, searching_model_path
):
    result = run_train(launcher, ["--index", index_path], questions_path, searching_model_path, tmp_path / "out")
    assert result.returncode == 0, result.stderr[-3000:]
    for step in (1, 2):
        records = list(read_json_lines(tmp_path / "out" / "trajectories" / f"step_{step:06d}.jsonl"))
        assert [record["group"] for record in records] == [group for group in range(rollouts // 4) for _ in range(4)]
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.slow
def test_two_processes_train_on_one_server_with_one_cache(tmp_path, index_path, questions_path, searching_model_path):
    with serving("--index", index_path) as (_, url):
        search = ["--retriever_url", url, "--retriever_cache", tmp_path / "cache.sqlite"]
        result = run_train(TWO_PROCESSES, search, questions_path, searching_model_path, tmp_path / "out")
    assert result.returncode == 0, result.stderr[-3000:]
    assert "search/cache_hit_rate" in result.stdout
    records = list(read_json_lines(tmp_path / "out" / "trajectories" / "step_000002.jsonl"))
    assert len(records) == 16
    assert "search_failed" not in {record["end_reason"] for record in records}


@pytest.mark.slow
def test_settings_are_read_from_a_yaml_file(tmp_path, index_path, questions_path, searching_model_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("alpha: 0.25\ncredit: prefix\nreward_funcs: [exact_match, format]\n", encoding="utf-8")
    result = run_train(
        ONE_PROCESS,
        ["--index", index_path],
        questions_path,
        searching_model_path,
        tmp_path / "out",
        "--config",
        recipe,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "rewards/format_reward/mean" in result.stdout
    records = list(read_json_lines(tmp_path / "out" / "trajectories" / "step_000001.jsonl"))
    assert {reward for r in records if not r["outcome"] for reward in (t["reward"] for t in r["turns"])} <= {0.0, 0.25}


@pytest.mark.slow
def test_chat_protocol_trains_with_the_models_own_tool_calls(tmp_path, index_path, questions_path):
    tokenizer = make_chat_tokenizer()
    tiny_qwen2(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    chat = ["--protocol", "chat", "--log_completions", "--max_feedback_length", "120"]
    search = ["--index", index_path]
    result = run_train(ONE_PROCESS, search, questions_path, tmp_path / "model", tmp_path / "out", *chat)
    assert result.returncode == 0, result.stderr[-3000:]
    (completions, *_) = sorted((tmp_path / "out" / "completions").glob("*.parquet"))
    assert "search for it with the tool `search`" in str(Dataset.from_parquet(str(completions))[0]["prompt"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "message"),
    [("protocol: xml", "`protocol` is 'xml'"), ("reward_funcs: [bleu]", "`reward_funcs` contains")],
)
def test_unknown_choice_in_a_yaml_file_is_refused(tmp_path, line, message, questions_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"{line}\n", encoding="utf-8")
    config = ["--config", recipe]
    result = run_train(ONE_PROCESS, ["--index", "i"], questions_path, "no-such-model", tmp_path / "out", *config)
    assert result.returncode != 0
    assert message in result.stderr


@pytest.mark.slow
def test_missing_index_is_refused_before_the_model_loads(tmp_path, questions_path):
    search = ["--index", tmp_path / "no-index"]
    result = run_train(ONE_PROCESS, search, questions_path, "no-such-model", tmp_path / "out")
    assert result.returncode != 0
    assert "no-index does not exist. Build one with `tspo-trl index" in result.stderr


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"eval_file": None}, "`eval_file`"),
        ({"metric_for_best_model": None}, "`metric_for_best_model`"),
        ({"eval_strategy": "no"}, "`eval_strategy`"),
        (
            {"eval_file": None, "eval_strategy": "no", "metric_for_best_model": None},
            "`eval_file`, `metric_for_best_model`, `eval_strategy`",
        ),
    ],
)
def test_early_stopping_says_what_it_lacks(check_selection, changes, missing):
    check_selection(early_stopping_patience=2)
    with pytest.raises(ValueError, match=f"`early_stopping_patience` is 2, but without {missing} nothing is compared"):
        check_selection(early_stopping_patience=2, **changes)


def test_metric_that_no_evaluation_gives_is_refused(check_selection):
    for known in ("exact_match", "eval_exact_match", "f1", "searches"):
        check_selection(metric_for_best_model=known)
    for unknown in ("em", "loss", "macro/exact_match", "questions/exact_match", "eval_eval_exact_match"):
        with pytest.raises(ValueError, match=rf"`metric_for_best_model` is '{unknown}'. Choose among \['exact_match'"):
            check_selection(metric_for_best_model=unknown)


@pytest.mark.parametrize("recipe", sorted((EXAMPLES / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_documented_selection_goes_with_every_recipe(script, recipe):
    documentation = (EXAMPLES.parent / "docs" / "training.md").read_text(encoding="utf-8")
    command = re.search(r"(--eval_file .*? --early_stopping_patience 5) --dry_run\n", documentation, re.S)
    flags = ["--config", str(recipe), *command[1].replace("\\\n", " ").split(), "--use_cpu"]
    parser = TrlParser((*script.ARGUMENTS, planned_config(8)))
    script_args, *_, training_args = parser.parse_args_and_config(flags)
    assert script_args.early_stopping_patience == 5
    assert training_args.load_best_model_at_end


def test_best_checkpoint_without_a_metric_is_not_chosen_by_the_loss(check_selection):
    settings = {"load_best_model_at_end": True, "save_strategy": "steps", "save_steps": 1}
    with pytest.raises(ValueError, match="`metric_for_best_model` is 'loss'"):
        check_selection(metric_for_best_model=None, **settings)


def test_several_data_sources_may_select(check_selection, tmp_path):
    rows = [{"question": "q", "golden_answers": ["a"], "data_source": source} for source in ("nq", "hotpotqa")]
    path = tmp_path / "dev.jsonl"
    write_json_lines(path, rows)
    for known in ("exact_match", "macro/exact_match", "nq/f1", "eval_hotpotqa/exact_match"):
        check_selection(eval_file=path, metric_for_best_model=known)
    with pytest.raises(ValueError, match="`metric_for_best_model` is 'triviaqa/exact_match'"):
        check_selection(eval_file=path, metric_for_best_model="triviaqa/exact_match")


def test_patience_without_an_evaluation_is_refused(script):
    with pytest.raises(ValueError, match="`early_stopping_patience` must be at least 1, got 0"):
        script.ScriptArguments(train_file="train.jsonl", early_stopping_patience=0)


def test_collapse_is_told_by_default_and_stops_the_run_if_wanted(script):
    (alarm,) = script.make_callbacks(script.ScriptArguments(train_file="train.jsonl"))
    assert not alarm.stop
    arguments = {"stop_on_collapse": True, "early_stopping_patience": 3}
    alarm, early_stopping = script.make_callbacks(script.ScriptArguments(train_file="train.jsonl", **arguments))
    assert alarm.stop
    assert isinstance(early_stopping, EarlyStoppingCallback)
    assert early_stopping.early_stopping_patience == 3


def test_help_shows_the_fields_of_the_configuration_in_their_order(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        script.read_all_but_config()
    printed = capsys.readouterr().out
    shown = [name for name in re.findall(r"^  --(\w+)", printed, re.MULTILINE) if name in TSPOConfig.__annotations__]
    own = [name for name in TSPOConfig.__annotations__ if name in TSPOConfig.__dataclass_fields__]
    assert sorted(shown) == sorted(own)
    assert [name for name in shown if name != "max_completion_length"] == own[1:]


@pytest.mark.slow
def test_run_that_does_not_get_better_stops_early(tmp_path, index_path, questions_path, searching_model_path):
    selection = [
        "--eval_file", questions_path, "--eval_strategy", "steps", "--eval_steps", "1", "--save_strategy", "steps",
        "--save_steps", "1", "--save_total_limit", "2", "--load_best_model_at_end", "--metric_for_best_model",
        "exact_match", "--early_stopping_patience", "2", "--learning_rate", "0", "--max_steps", "6",
    ]  # fmt: skip
    search = ["--index", index_path]
    result = run_train(ONE_PROCESS, search, questions_path, searching_model_path, tmp_path / "out", *selection)
    assert result.returncode == 0, result.stderr[-3000:]
    # With a learning rate of 0 the first evaluation stays the best one.
    assert {path.name for path in (tmp_path / "out").glob("checkpoint-*")} == {"checkpoint-1", "checkpoint-3"}


@pytest.mark.slow
def test_two_processes_stop_together_when_the_policy_collapses(tmp_path, index_path, questions_path, tiny_model_path):
    settings = ["--stop_on_collapse", "--max_steps", "12"]
    search = ["--index", index_path]
    result = run_train(TWO_PROCESSES, search, questions_path, tiny_model_path, tmp_path / "out", *settings)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stderr.count("COLLAPSE at step 10: rollout/searches is 0, below 0.1") == 1
    steps = {int(path.stem.removeprefix("step_")) for path in (tmp_path / "out" / "trajectories").glob("step_*.jsonl")}
    assert max(steps) == 10


@pytest.mark.slow
def test_selection_that_cannot_work_is_a_problem_of_the_dry_run(tmp_path, index_path, questions_path, tiny_model_path):
    selection = ["--early_stopping_patience", "2", "--dry_run"]
    search = ["--index", index_path]
    result = run_train(ONE_PROCESS, search, questions_path, tiny_model_path, tmp_path / "out", *selection)
    assert result.returncode == 1
    assert "without `eval_file`, `metric_for_best_model`, `eval_strategy` nothing is compared" in result.stdout


@pytest.mark.slow
def test_tiny_model_is_made_for_a_corpus_and_learns_the_tags(tmp_path, questions_path):
    corpus = tmp_path / "corpus.jsonl"
    rows = [{"id": str(i), "contents": f'"Title {i}"\nParis is the capital of France, number {i}.'} for i in range(50)]
    write_json_lines(corpus, rows)
    arguments = ["--corpus", corpus, "--questions", questions_path, "--output", tmp_path / "tiny", "--steps", "40"]
    command = [sys.executable, str(EXAMPLES / "make_tiny_model.py"), *map(str, arguments), "--vocab_size", "500"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tiny")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "tiny").config.vocab_size == len(tokenizer)
    again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 2
    assert "choose another --output" in again.stderr
