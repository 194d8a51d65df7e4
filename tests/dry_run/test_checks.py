"""The dry run finds all problems of a run and loads no model."""

from pathlib import Path

import pytest

from tspo_trl.dry_run import Report
from tspo_trl.dry_run.checks import longest_prompt
from tspo_trl.dry_run.launch import Launch
from tspo_trl.protocols.chat import ChatToolProtocol
from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.rollout.prompts import row_prompt

from ..chat_tokenizer import make_chat_tokenizer
from .dry_runs import check_fixture, lines, model_fixture, questions_fixture, run_train  # noqa: F401


def test_run_that_can_start_has_no_problem_although_there_are_no_weights(check):
    report = check()
    assert report.problems == []
    assert report.exit_code == 0
    assert str(report).endswith("Ready to run. No model was loaded.")


def test_report_tells_data_search_batches_context_and_memory(check, questions):
    report = check()
    assert lines(report, "Launch") == "1 process, single"
    assert lines(report, "Configuration").startswith("TSPO: 4 turns of 500 tokens, 3 passages a search, 4096 tokens")
    assert f"{questions}: 8 questions" in lines(report, "Dataset")
    assert "12.5% of its questions contain a gold answer" in lines(report, "Dataset")
    assert """'What is the capital of France?' finds first of 3: "Paris\"""" in lines(report, "Retriever")
    assert "a generation makes 4 rollouts: 1 questions times 4" in lines(report, "Batches")
    assert "5 optimizer steps are 5 generations, 20 rollouts and 0.62 epochs of 8 steps" in lines(report, "Batches")
    assert "4096 = " in lines(report, "Context")
    assert "3.09B parameters, of which 3.7M learn" in lines(report, "Model")
    assert "weights        5.8 GiB" in lines(report, "Memory of a GPU (an estimate)")


def test_all_problems_are_found_in_one_go(check, tmp_path):
    report = check(
        model={"model_name_or_path": str(tmp_path / "no-model")},
        files={"train_file": str(tmp_path / "no-questions.jsonl")},
        search={"index": str(tmp_path / "no-index")},
        alpha=-1,
    )
    assert report.exit_code == 1
    found = "\n".join(report.problems)
    for expected in ("`alpha` must be", "No file of questions at", "no-index does not exist"):
        assert expected in found
    assert len(report.problems) == 3  # without a configuration, nothing is compared with the model
    assert str(report).endswith("Cannot run.")


def test_missing_model_is_a_problem(check, tmp_path):
    (problem,) = check(model={"model_name_or_path": str(tmp_path / "no-model")}).problems
    assert problem.startswith("Model: ")


def test_the_trainers_own_checks_are_made(check):
    (problem,) = check(max_completion_length=900).problems
    assert problem.startswith("Configuration: `max_completion_length` is 900, too short for one turn")


def test_malformed_evaluation_data_are_a_problem(check, tmp_path):
    path = tmp_path / "eval.jsonl"
    path.write_text('{"question": "q", "golden_answers": []}\n', encoding="utf-8")
    (problem,) = check(files={"eval_file": str(path)}).problems
    assert problem.startswith("Dataset: ")
    assert "golden_answers" in problem


@pytest.mark.slow
def test_server_that_does_not_answer_is_a_problem(check):
    (problem,) = check(search={"retriever_url": ["http://127.0.0.1:9"]}).problems
    assert problem.startswith("Retriever: ")


def test_too_few_questions_for_a_generation_are_a_problem(check):
    (problem,) = check(steps_per_generation=16).problems
    assert problem.startswith("Batches: `train_file` has 8 questions, but one generation asks 16")


def test_tensor_parallel_size_that_does_not_divide_the_processes_is_a_problem(check):
    report = check(Launch(4, "ddp"), use_vllm=True, vllm_tensor_parallel_size=3)
    assert any("`vllm_tensor_parallel_size=3` does not divide 4 processes" in problem for problem in report.problems)


def test_rollout_longer_than_vllm_reads_is_a_problem_with_vllm_only(check):
    (problem,) = check(use_vllm=True, vllm_max_model_length=4096).problems
    assert "but `vllm_max_model_length` is 4096" in problem
    assert check(vllm_max_model_length=4096).problems == []


def test_prompt_counts_towards_the_context(check):
    longest = int(lines(check(), "Context").split()[2])
    assert check(max_completion_length=32_768 - longest).problems == []
    (problem,) = check(max_completion_length=32_769 - longest).problems
    assert "take 32769" in problem
    assert "but the model reads 32768" in problem


def test_feedback_budget_that_cannot_hold_its_tags_is_a_problem(check):
    (problem,) = check(max_feedback_length=3).problems
    assert "`max_feedback_length` is 3" in problem


def test_too_small_a_gpu_is_a_problem(check):
    (problem,) = check(gpu=8).problems
    assert problem.startswith("Memory: about ")
    assert "but a GPU has 8" in problem


def test_full_training_on_one_gpu_is_a_problem_where_adapters_are_none(check):
    model = {"use_peft": False, "dtype": "float32"}
    assert check(gpu=40).problems == []
    (problem,) = check(gpu=40, model=model).problems
    assert "train adapters" in problem


def test_rollouts_that_transformers_keeps_at_once_are_a_problem_without_vllm(check, tmp_path):
    path = tmp_path / "many.jsonl"
    path.write_text('{"question": "Who?", "golden_answers": ["I"]}\n' * 80, encoding="utf-8")
    changes = {"steps_per_generation": 80, "files": {"train_file": str(path)}}
    (problem,) = check(gpu=40, **changes).problems
    assert "Generate with vLLM (`use_vllm`), or lower `steps_per_generation`" in problem
    assert check(gpu=40, use_vllm=True, **changes).problems == []


def test_share_of_vllm_that_cannot_hold_the_model_is_a_problem(check):
    (problem,) = check(gpu=24, use_vllm=True, vllm_gpu_memory_utilization=0.2).problems
    assert "vLLM's share (4.8 GiB) leaves room for about 0 cached tokens" in problem
    report = check(gpu=24, use_vllm=True, vllm_gpu_memory_utilization=0.4)
    assert report.problems == []
    assert "vllm           9.6 GiB" in lines(report, "Memory of a GPU (an estimate)")


def test_vllm_server_takes_no_memory_of_the_gpus_that_train(check):
    report = check(use_vllm=True, vllm_mode="server")
    assert "vllm " not in lines(report, "Memory of a GPU (an estimate)")


def test_tokenizer_that_is_not_here_is_a_warning(check, tmp_path, model_without_weights):
    config = Path(model_without_weights, "config.json").read_text(encoding="utf-8")
    (tmp_path / "config-only").mkdir()
    (tmp_path / "config-only" / "config.json").write_text(config, encoding="utf-8")
    report = check(model={"model_name_or_path": str(tmp_path / "config-only")})
    assert report.problems == []
    assert any("prompts were not measured" in warning for warning in report.warnings)


def test_longest_prompt_is_what_the_trainer_would_encode(make_trainer, tokenizer):
    questions = ["Who?", "What is the capital of France, and of Spain, and of Italy?", "Where is it?"]
    rows = [{"question": question} for question in questions]
    trainer = make_trainer()
    encoded, _, _ = trainer._tokenize_prompts([row_prompt(row, tokenizer, trainer.protocol) for row in rows])
    assert longest_prompt(tokenizer, rows, TagProtocol()) == max(map(len, encoded))


def test_prompt_of_a_row_is_measured_in_place_of_its_question(tokenizer, chat_tokenizer):
    rows = [{"question": "Who?", "prompt": "Who is it? " * 90}, {"question": "Where? " * 90, "prompt": "Where is it?"}]
    assert longest_prompt(tokenizer, rows, TagProtocol()) == len(tokenizer(rows[0]["prompt"])["input_ids"])
    messages = [{"role": "system", "content": "Search. " * 90}, {"role": "user", "content": "Who?"}]
    encoded = chat_tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert longest_prompt(chat_tokenizer, [{"prompt": messages}], TagProtocol()) == len(encoded)


def test_prompts_of_two_sets_may_be_of_two_forms(check, tmp_path):
    rows = {
        "train": '{"question": "Who?", "golden_answers": ["I"], "prompt": "Who is it?"}\n',
        "eval": '{"question": "Who?", "golden_answers": ["I"]}\n',
    }
    for name, row in rows.items():
        (tmp_path / f"{name}.jsonl").write_text(row * 8, encoding="utf-8")
    files = {f"{name}_file": str(tmp_path / f"{name}.jsonl") for name in rows}
    own = lines(check(files={"train_file": files["train_file"]}), "Context").split()[2]
    both = lines(check(files=files), "Context").split()[2]
    assert int(own) < 20 < int(both)


def test_longest_prompt_is_measured_in_the_chat_template(tokenizer):
    from copy import deepcopy

    chat = deepcopy(tokenizer)
    chat.chat_template = "<|im_end|>{{ messages[0]['content'] }}{% if add_generation_prompt %}<|im_end|>{% endif %}"
    assert (
        longest_prompt(chat, [{"question": "Who?"}], TagProtocol())
        == len(tokenizer(TagProtocol().prompt("Who?"))["input_ids"]) + 2
    )


def test_longest_prompt_with_a_search_tool_holds_the_tools_description():
    chat = make_chat_tokenizer()
    rows = [{"question": "Who?"}]
    with_tool, without = (longest_prompt(chat, rows, one) for one in (ChatToolProtocol(chat), TagProtocol()))
    described = chat.apply_chat_template(
        [{"role": "user", "content": "q"}], tools=ChatToolProtocol(chat).tools, tokenize=False
    )
    assert '"name": "search"' in described
    assert with_tool > len(chat(described)["input_ids"])
    assert without < with_tool


def test_protocol_that_does_not_fit_the_chat_template_is_a_problem(check):
    (problem,) = check(protocol=lambda tokenizer, _: ChatToolProtocol(tokenizer)).problems
    assert problem.startswith("Context: ")
    assert "chat template" in problem


def test_report_counts_its_problems_and_goes_on():
    report = Report()
    with report.section("First"):
        raise ValueError("one")
    with report.section("Second"):
        report.add("Second", "fine")
    assert report.problems == ["First: one"]
    assert "  1. First: one" in str(report)
    assert "Second\n  fine" in str(report)


@pytest.mark.slow
def test_script_leaves_with_0_and_makes_no_output_folder(tmp_path, model_without_weights, index_path, questions):
    result = run_train(
        *("--dry_run", "--model_name_or_path", model_without_weights, "--index", index_path),
        *("--train_file", questions, "--output_dir", tmp_path / "out", "--max_steps", "2"),
        *("--per_device_train_batch_size", "2", "--num_generations", "4"),
        *("--dry_run_num_processes", "4", "--dry_run_gpu_memory", "400"),
    )
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    assert "4 processes, ddp" in result.stdout
    assert "a generation makes 8 rollouts: 2 questions times 4" in result.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_script_leaves_with_1_and_says_all_that_is_wrong(tmp_path, model_without_weights, questions):
    result = run_train(
        *("--dry_run", "--model_name_or_path", model_without_weights, "--index", tmp_path / "no-index"),
        *("--train_file", questions, "--output_dir", tmp_path / "out", "--max_turns", "0"),
    )
    assert result.returncode == 1
    assert "`max_turns` must be a whole number of at least 1" in result.stdout
    assert "no-index does not exist" in result.stdout


@pytest.mark.slow
def test_unknown_key_of_a_recipe_is_a_problem(tmp_path, model_without_weights, index_path, questions):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("alhpa: 0.25\n", encoding="utf-8")
    result = run_train(
        *("--dry_run", "--model_name_or_path", model_without_weights, "--index", index_path),
        *("--train_file", questions, "--output_dir", tmp_path / "out", "--config", recipe),
    )
    assert result.returncode == 1
    assert "--alhpa" in result.stdout
