"""`tspo-trl evaluate` as a user runs it, with a tiny model, a real index and a real endpoint."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from tspo_trl.cli.evaluate import add_parser
from tspo_trl.cli.main import main
from tspo_trl.evaluation.arguments import AgentArguments

from ..evaluation.endpoint_server import EndpointServer, Reply, Status

BUDGETS = ["--max-turns", "2", "--max-turn-length", "24", "--max-feedback-length", "60", "--top-k", "1"]
BUDGETS += ["--max-completion-length", "200"]


@pytest.fixture
def data(tmp_path):
    """A file of five questions, with the prompts that the tiny model knows."""
    rows = [
        {"id": str(i), "question": f"{i}?", "golden_answers": ["Paris"], "prompt": f"Number {i}, what is it?\n"}
        for i in range(5)
    ]
    path = tmp_path / "capitals.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def command(data, searching_model_path, index_path, tmp_path):
    options = ["--data", data, "--model", searching_model_path, "--index", index_path, "--output", tmp_path / "out"]
    return ["evaluate", *map(str, options), *BUDGETS]


@pytest.fixture
def broken_model_path(searching_model_path, tmp_path):
    """Folder of a model that cannot be loaded."""
    folder = Path(shutil.copytree(searching_model_path, tmp_path / "broken"))
    (folder / "model.safetensors").write_bytes(b"broken")
    return str(folder)


def lines(folder):
    files = sorted((folder / "trajectories").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def test_table_is_printed_and_written(command, tmp_path, capsys):
    assert main(command) == 0
    assert "capitals" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    scored = lines(tmp_path / "out")
    assert report["datasets"]["capitals"]["n"] == len(scored) == 5
    assert report["datasets"]["capitals"]["exact_match"]["mean"] == sum(line["exact_match"] for line in scored) / 5
    assert "capitals" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "capitals" in (tmp_path / "out" / "report.csv").read_text(encoding="utf-8")


def test_settings_say_what_was_evaluated(command, searching_model_path, tmp_path):
    main(command)
    settings = json.loads((tmp_path / "out" / "settings.json").read_text(encoding="utf-8"))
    assert settings["model"] == searching_model_path
    assert len(settings["weights"]) == 64
    assert settings["retriever"]["name"] == "BM25Retriever"
    assert (settings["backend"], settings["protocol"], settings["search_top_k"]) == ("transformers", "tags", 1)
    assert settings["questions"]["capitals"].startswith("5 questions, sha256 ")


def test_second_run_answers_nothing_again(command, tmp_path):
    main(command)
    before = (tmp_path / "out" / "trajectories" / "process_0.jsonl").stat().st_mtime_ns
    assert main(command) == 0
    assert (tmp_path / "out" / "trajectories" / "process_0.jsonl").stat().st_mtime_ns == before


def test_endpoint_is_asked_in_place_of_a_model(command, searching_model_path, tmp_path):
    def policy(body):
        is_second = "<information>" in body["prompt"]
        return Reply("<answer> Paris" if is_second else "<search> capital of France", extra={"stop_reason": None})

    with EndpointServer() as server:
        server.answer = lambda body: Reply(
            policy(body).text, extra={"stop_reason": "</answer>" if "<answer>" in policy(body).text else "</search>"}
        )
        endpoint = ["--base-url", f"{server.url}/v1", "--model", "served", "--tokenizer", searching_model_path]
        assert main([*command, *endpoint]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["datasets"]["capitals"]["exact_match"]["mean"] == 1.0
    assert report["datasets"]["capitals"]["retrieval_recall"]["mean"] == 1.0
    assert server.requests[0]["model"] == "served"


def test_chat_api_sends_turns_as_messages(command, searching_model_path, tmp_path):
    with EndpointServer() as server:
        server.answer = lambda body: Reply(
            "<answer> Paris </answer>" if len(body["messages"]) > 1 else "<search> capital of France </search>"
        )
        endpoint = ["--base-url", f"{server.url}/v1", "--model", "served", "--tokenizer", searching_model_path]
        assert main([*command, *endpoint, "--api", "chat"]) == 0
    assert [message["role"] for message in server.requests[-1]["messages"]] == ["user", "assistant", "user"]
    assert lines(tmp_path / "out")[0]["exact_match"] == 1.0


def test_chat_protocol_calls_the_search_as_a_tool(chat_model_path, index_path, tmp_path):
    rows = [{"id": "0", "question": "What is the capital of France?", "golden_answers": ["Paris"]}]
    data = tmp_path / "capitals.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = ["--data", data, "--model", chat_model_path, "--index", index_path, "--output", tmp_path / "out"]
    budgets = ["--max-turns", "2", "--max-turn-length", "60", "--max-feedback-length", "100", "--top-k", "1"]
    assert main(["evaluate", *map(str, options), "--protocol", "chat", *budgets]) == 0
    (scored,) = lines(tmp_path / "out")
    assert scored["turns"][0]["text"].startswith("<tool_call>")
    assert "Paris is the capital" in scored["turns"][0]["evidence"]


def test_variables_of_the_chat_template_are_rendered_in_the_prompt(command, searching_model_path, tmp_path):
    folder = Path(shutil.copytree(searching_model_path, tmp_path / "template"))
    (folder / "chat_template.jinja").write_text("{{ mood }}{% for m in messages %}{{ m['content'] }}{% endfor %}")
    rows = [{"id": "0", "question": "Who?", "golden_answers": ["Paris"]}]
    data = tmp_path / "who.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with EndpointServer() as server:
        server.answer = lambda body: Reply("<answer> Paris </answer>")
        options = ["--base-url", f"{server.url}/v1", "--model", "served", "--tokenizer", str(folder)]
        variables = ["--chat-template-kwargs", '{"mood": "Calmly. "}', "--data", str(data)]
        assert main([*command, *options, *variables, "--max-completion-length", "2000"]) == 0
    assert server.requests[-1]["prompt"].startswith("Calmly. Answer the given question.")
    settings = json.loads((tmp_path / "out" / "settings.json").read_text(encoding="utf-8"))
    assert settings["chat_template_kwargs"] == {"mood": "Calmly. "}


@pytest.mark.parametrize("text", ["{mood: calm}", "[1]"])
def test_variables_that_are_no_json_object_are_refused(command, capsys, text):
    with pytest.raises(SystemExit):
        main([*command, "--chat-template-kwargs", text])
    assert repr(text) in capsys.readouterr().err


def test_questions_without_an_answer_end_in_status_1(command, searching_model_path, capsys):
    with EndpointServer() as server:
        server.answer = lambda body: Reply("<answer> Paris") if "Number 3" not in body["prompt"] else Status(400)
        options = ["--base-url", f"{server.url}/v1", "--model", "served", "--tokenizer", searching_model_path]
        assert main([*command, *options]) == 1
    assert "4 questions answered, 1 missing" in capsys.readouterr().out


def test_rollouts_stay_within_the_context_that_the_endpoint_names(command, searching_model_path, tmp_path):
    with EndpointServer() as server:
        server.models = {"data": [{"id": "served", "max_model_len": 40}]}
        server.answer = lambda body: Reply("<search> x </search>")
        options = ["--base-url", f"{server.url}/v1", "--model", "served", "--tokenizer", searching_model_path]
        assert main([*command, *options]) == 0
    assert {line["end_reason"] for line in lines(tmp_path / "out")} == {"max_length"}


def test_server_that_cannot_search_is_told_before_the_model_is_loaded(command, broken_model_path, tmp_path, capsys):
    index = command.index("--index")
    with EndpointServer() as server:
        options = ["--retriever-url", server.url, "--model", broken_model_path]
        assert main([*command[:index], *command[index + 2 :], *options]) == 2
    assert "searches at http://127.0.0.1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folder_of_other_settings_is_refused_before_the_model_is_loaded(command, broken_model_path, capsys):
    assert main(command) == 0
    assert main([*command, "--model", broken_model_path]) == 2
    assert "holds a run with other settings" in capsys.readouterr().err


def test_defaults_are_those_of_the_arguments_in_python():
    subparsers = argparse.ArgumentParser().add_subparsers()
    add_parser(subparsers)
    parsed = vars(subparsers.choices["evaluate"].parse_args(["--data", "x", "--output", "y", "--model", "m"]))
    for field in fields(AgentArguments):
        if field.name not in ("model", "backend"):
            assert parsed[field.name] == field.default, field.name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-turns", "0"], "`max_turns` must be at least 1, got 0"),
        (["--limit", "0"], "`limit` must be at least 1, got 0"),
        (["--batch-size", "0"], "`batch_size` must be at least 1, got 0"),
        (["--max-context-length", "0"], "`max_context_length` must be at least 1, got 0"),
        (
            ["--gpu-memory-utilization", "90"],
            "`gpu_memory_utilization` must be a share above 0",
        ),
        (["--api", "chat"], "`api=\"chat\"` is an API of endpoints, but `backend` is 'transformers'"),
        (["--base-url", "http://127.0.0.1:9/v1", "--model", "gpt:4"], "Pass `tokenizer`"),
        (["--max-feedback-length", "2"], "Raise `max_feedback_length`"),
        (["--backend", "vllm", "--base-url", "http://127.0.0.1:9/v1"], "`backend` is 'vllm' and `base_url`"),
        (
            ["--base-url", "http://127.0.0.1:9/v1", "--api", "chat", "--protocol", "chat"],
            'supports `protocol="tags"` only',
        ),
        (["--model", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--index", "/nowhere/at/all"], "`index` /nowhere/at/all does not exist"),
        (["--data", "/nowhere/at/all.jsonl"], "No file of questions at /nowhere/at/all.jsonl"),
    ],
)
def test_mistake_ends_in_one_line_and_leaves_no_folder(command, tmp_path, capsys, options, message):
    assert main([*command, *options]) == 2
    errors = capsys.readouterr().err
    assert message in errors.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def launch(command, num_processes):
    arguments = ["--standalone", "--nproc_per_node", str(num_processes), "-m", "tspo_trl.cli.main", *command]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def lines_of_each_process(folder):
    files = sorted((folder / "trajectories").glob("*.jsonl"))
    return [len(file.read_text(encoding="utf-8").splitlines()) for file in files]


@pytest.mark.slow
def test_two_processes_share_the_questions_and_give_the_table_of_one(command, tmp_path):
    command = [*command, "--batch-size", "2"]
    result = launch(command, 2)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("report.json") == 1
    assert lines_of_each_process(tmp_path / "out") == [3, 2]
    two = (tmp_path / "out" / "report.csv").read_text(encoding="utf-8")
    command[command.index("--output") + 1] = str(tmp_path / "one")
    assert main(command) == 0
    assert (tmp_path / "one" / "report.csv").read_text(encoding="utf-8") == two


@pytest.mark.slow
def test_two_processes_share_what_an_interrupted_run_left(command, tmp_path):
    command = [*command, "--batch-size", "1"]
    assert main(command) == 0
    path = tmp_path / "out" / "trajectories" / "process_0.jsonl"
    first, _, third, *_ = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text(first + third, encoding="utf-8")
    result = launch(command, 2)
    assert result.returncode == 0, result.stderr[-3000:]
    assert lines_of_each_process(tmp_path / "out") == [2 + 2, 1]  # 1 and 4 to one process, 3 to the other


@pytest.mark.slow
def test_mistake_of_several_processes_ends_them_all(command, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine", encoding="utf-8")
    result = launch(command, 2)
    assert result.returncode == 1
    assert "error: " + str(tmp_path / "out") + " exists and does not belong to this evaluation" in result.stderr
