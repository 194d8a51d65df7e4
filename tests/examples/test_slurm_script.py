"""The SLURM script runs on this machine, with loopback addresses as machines and stand-ins for the cluster's programs.

Every stand-in records its arguments. `srun` then runs the command here. `tspo-trl` and `vllm` answer health checks at
the address of their machine only, because all machines share the ports of this one.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "slurm" / "train_multi_node.slurm"
pytestmark = pytest.mark.slow

MACHINES = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]

# All stand-ins are this program under different names.
STAND_IN = """#!{python}
import http.server, json, os, signal, subprocess, sys, time
name, arguments, folder = os.path.basename(sys.argv[0]), sys.argv[1:], {folder!r}
if name == "python" and arguments[0] == "-c":  # reads the recipe
    os.execv(sys.executable, [sys.executable, *arguments])
with open(os.path.join(folder, "calls.jsonl"), "a") as file:
    keys = ("TSPO_TRL_TOKEN", "VLLM_SERVER_DEV_MODE", "SLURM_PROCID")
    environment = {{key: os.environ[key] for key in keys if key in os.environ}}
    file.write(json.dumps({{"name": name, "arguments": arguments, "environment": environment}}) + "\\n")
if name == "scontrol":
    print("\\n".join({machines!r}))
elif name == "srun":
    options = [argument for argument in arguments if argument.startswith("--")]
    command = arguments[next(i for i, argument in enumerate(arguments) if not argument.startswith("--")):]
    tasks = int(next(o for o in options if o.startswith("--ntasks=")).split("=")[1])
    nodes = next(o for o in options if o.startswith("--nodelist=")).split("=")[1].split(",")
    steps = [
        subprocess.Popen(command, env={{**os.environ, "SLURM_PROCID": str(i), "SLURMD_NODENAME": nodes[i]}})
        for i in range(tasks)
    ]
    signal.signal(signal.SIGTERM, lambda *_: [step.terminate() for step in steps])
    sys.exit(max(abs(step.wait()) for step in steps))
elif name in ("tspo-trl", "vllm"):
    if os.environ.get("FAILS") == name:
        sys.exit(5)
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
        def log_message(self, *_):
            pass
    machine = os.environ["SLURMD_NODENAME"]
    server = http.server.ThreadingHTTPServer((machine, int(arguments[arguments.index("--port") + 1])), Handler)
    if os.environ.get("ENDS") in (name, f"{{name}} on {{machine}}"):  # after it was found healthy
        server.timeout = 30
        server.handle_request()
        time.sleep(3)
        sys.exit(5)
    server.serve_forever()
elif name == "accelerate":
    time.sleep(float(os.environ.get("TRAINS_FOR", "0")))
    sys.exit(int(os.environ.get("TRAINING_ENDS_WITH", "0")))
elif name == "python":
    sys.exit(int(os.environ.get("DRY_RUN_ENDS_WITH", "0")))
"""


@pytest.fixture
def cluster(tmp_path, free_ports):
    """Environment in which the script finds the stand-ins."""
    for name in ("srun", "scontrol", "tspo-trl", "vllm", "accelerate", "python"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        text = STAND_IN.format(python=sys.executable, folder=str(tmp_path), machines=MACHINES)
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)
    ports = dict(zip(("VLLM_PORT", "RETRIEVER_PORT"), map(str, free_ports), strict=True))
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("TSPO_TRL_", "SLURM", "VLLM_"))
    }
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**environment, **ports, "PATH": path, "SLURM_JOB_NODELIST": "node[1-3]", "START_TIMEOUT": "20"}


@pytest.fixture
def free_ports():
    """Two ports that no other test uses. Each is free on all machines, because their addresses differ."""
    import socket

    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def run_script(environment, **changes):
    return subprocess.run(
        ["bash", str(SCRIPT)],
        env={**environment, **changes},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def calls(tmp_path, name):
    lines = (tmp_path / "calls.jsonl").read_text(encoding="utf-8").splitlines()
    return [call for call in map(json.loads, lines) if call["name"] == name]


def option(call, name):
    return call["arguments"][call["arguments"].index(name) + 1]


def left_running(tmp_path):
    """Command lines of stand-ins that still run."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if str(tmp_path / "bin") in command and process.status() != psutil.STATUS_ZOMBIE:
            found.append(command)
    return found


RECIPE = "examples/recipes/qwen2.5-7b-instruct-multi-node.yaml"
CONFIG = "examples/accelerate_configs/multi_node.yaml"
MODEL = "Qwen/Qwen2.5-7B-Instruct"


def training_arguments(cluster, recipe=RECIPE, model=MODEL, length="6144", group_port="51216"):
    """Arguments of the dry run and of the training script."""
    urls = [f"http://{machine}:{cluster['RETRIEVER_PORT']}" for machine in MACHINES[:2]]
    return [
        *("--config", recipe, "--model_name_or_path", model, "--retriever_url", *urls, "--vllm_mode", "server"),
        *("--vllm_server_base_url", f"http://127.0.0.3:{cluster['VLLM_PORT']}", "--vllm_group_port", group_port),
        *("--vllm_max_model_length", length, "--resume_from_checkpoint", "true"),
    ]


def vllm_arguments(cluster, model=MODEL, length="6144", tensor_parallel="4", data_parallel="2"):
    return [
        *("serve", model, "--weight-transfer-config", '{"backend": "nccl"}'),
        *("--logprobs-mode", "processed_logprobs", "--max-logprobs", "-1"),
        *("--host", "0.0.0.0", "--port", cluster["VLLM_PORT"], "--dtype", "bfloat16"),
        *("--tensor-parallel-size", tensor_parallel, "--data-parallel-size", data_parallel),
        *("--max-model-len", length),
    ]


def launch_arguments(cluster, rank, num_processes="16"):
    return [
        *("launch", "--machine_rank", rank, "--config_file", CONFIG, "--num_machines", "2"),
        *("--num_processes", num_processes, "--main_process_ip", "127.0.0.1", "--main_process_port", "29500"),
        "examples/train.py",
    ]


def test_every_program_gets_exactly_these_arguments(tmp_path, cluster):
    result = run_script(cluster)
    assert result.returncode == 0, result.stderr
    retrieval = ["serve", "--index", "indexes/wiki-18", "--host", "0.0.0.0", "--port", cluster["RETRIEVER_PORT"]]
    assert [call["arguments"] for call in calls(tmp_path, "tspo-trl")] == [retrieval] * 2
    (dry_run,) = calls(tmp_path, "python")
    assert dry_run["arguments"] == [
        *("examples/train.py", *training_arguments(cluster)),
        *("--dry_run", "--dry_run_accelerate_config", CONFIG, "--dry_run_num_processes", "16"),
    ]
    (vllm,) = calls(tmp_path, "vllm")
    assert vllm["arguments"] == vllm_arguments(cluster)
    training = sorted((call["arguments"] for call in calls(tmp_path, "accelerate")), key=lambda found: found[2])
    assert training == [launch_arguments(cluster, rank) + training_arguments(cluster) for rank in "01"]


def test_every_step_runs_on_its_machine(tmp_path, cluster):
    assert run_script(cluster).returncode == 0
    steps = [
        [argument for argument in call["arguments"] if argument.startswith(("--nod", "--ntasks", "--overlap"))]
        for call in calls(tmp_path, "srun")
    ]
    one = ["--overlap", "--nodes=1", "--ntasks=1"]
    retrieval, dry_run, vllm = [[*one, f"--nodelist={m}"] for m in MACHINES[:2]], MACHINES[0], MACHINES[2]
    training = ["--overlap", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--nodelist=127.0.0.1,127.0.0.2"]
    expected = [*retrieval, [*one, f"--nodelist={dry_run}"], [*one, f"--nodelist={vllm}"], training]
    assert sorted(steps) == sorted(expected)


def test_vllm_serves_what_the_recipe_trains(tmp_path, cluster):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        'model_name_or_path: "mine/model" # with a comment\nvllm_max_model_length: 3072\nvllm_group_port: 51300\n',
        encoding="utf-8",
    )
    assert run_script(cluster, RECIPE=str(recipe)).returncode == 0
    (vllm,) = calls(tmp_path, "vllm")
    assert vllm["arguments"] == vllm_arguments(cluster, "mine/model", "3072")
    expected = training_arguments(cluster, str(recipe), "mine/model", "3072", "51300")
    for call in calls(tmp_path, "accelerate"):
        assert call["arguments"][-len(expected) :] == expected


def test_settings_override_the_recipe_for_vllm_and_training_alike(tmp_path, cluster):
    changes = {"MODEL": "other/model", "VLLM_MAX_MODEL_LENGTH": "5000", "VLLM_GROUP_PORT": "51400"}
    assert run_script(cluster, **changes).returncode == 0
    (vllm,) = calls(tmp_path, "vllm")
    assert vllm["arguments"] == vllm_arguments(cluster, "other/model", "5000")
    expected = training_arguments(cluster, RECIPE, *changes.values())
    for call in [*calls(tmp_path, "python"), *calls(tmp_path, "accelerate")]:
        start = call["arguments"].index("--config")
        assert call["arguments"][start : start + len(expected)] == expected


def test_recipe_without_a_model_is_refused_before_anything_starts(tmp_path, cluster):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("vllm_max_model_length: 3072\n", encoding="utf-8")
    result = run_script(cluster, RECIPE=str(recipe))
    assert result.returncode == 2
    assert "must say model_name_or_path and vllm_max_model_length" in result.stderr
    assert not (tmp_path / "calls.jsonl").exists()


def test_number_of_gpus_comes_from_slurm_and_vllm_uses_all(tmp_path, cluster):
    assert run_script(cluster, SLURM_GPUS_ON_NODE="4", VLLM_TENSOR_PARALLEL="1").returncode == 0
    (vllm,) = calls(tmp_path, "vllm")
    assert vllm["arguments"] == vllm_arguments(cluster, tensor_parallel="1", data_parallel="4")
    assert {option(call, "--num_processes") for call in calls(tmp_path, "accelerate")} == {"8"}


def test_all_replicas_and_the_trainer_have_one_secret_token(tmp_path, cluster):
    assert run_script(cluster).returncode == 0
    callers = [call for name in ("tspo-trl", "python", "accelerate") for call in calls(tmp_path, name)]
    (token,) = {call["environment"]["TSPO_TRL_TOKEN"] for call in callers}
    assert len(token) == 32


def test_vllm_is_started_in_the_mode_that_weight_updates_need(tmp_path, cluster):
    assert run_script(cluster).returncode == 0
    (vllm,) = calls(tmp_path, "vllm")
    assert vllm["environment"]["VLLM_SERVER_DEV_MODE"] == "1"


def test_nothing_is_left_running_after_success(tmp_path, cluster):
    assert run_script(cluster).returncode == 0
    assert left_running(tmp_path) == []


def test_exit_status_is_that_of_training_and_servers_are_stopped(tmp_path, cluster):
    assert run_script(cluster, TRAINING_ENDS_WITH="7").returncode == 7
    assert left_running(tmp_path) == []


def test_failed_dry_run_starts_neither_vllm_nor_training(tmp_path, cluster):
    assert run_script(cluster, DRY_RUN_ENDS_WITH="1").returncode == 1
    (dry_run,) = calls(tmp_path, "python")
    assert "--dry_run" in dry_run["arguments"]
    assert option(dry_run, "--dry_run_num_processes") == "16"
    assert calls(tmp_path, "vllm") == calls(tmp_path, "accelerate") == []
    assert left_running(tmp_path) == []


@pytest.mark.parametrize("server", ["tspo-trl", "vllm"])
def test_server_that_does_not_start_ends_the_job_before_training(tmp_path, cluster, server):
    result = run_script(cluster, FAILS=server)
    assert result.returncode == 1
    assert "ended before it answered" in result.stderr
    assert calls(tmp_path, "accelerate") == []
    assert left_running(tmp_path) == []


@pytest.mark.parametrize(
    ("server", "message"), [("vllm", "vLLM ended while"), ("tspo-trl", "all retrieval servers ended while")]
)
def test_job_ends_with_vllm_and_with_the_last_replica(tmp_path, cluster, server, message):
    result = run_script(cluster, ENDS=server, TRAINS_FOR="60")
    assert result.returncode == 1
    assert message in result.stderr
    assert left_running(tmp_path) == []


def test_replica_that_ends_while_another_lives_does_not_end_the_job(tmp_path, cluster):
    assert run_script(cluster, ENDS="tspo-trl on 127.0.0.2", TRAINS_FOR="10").returncode == 0
    assert len(calls(tmp_path, "accelerate")) == 2
    assert left_running(tmp_path) == []


def test_cancelled_job_leaves_nothing_running(tmp_path, cluster):
    process = subprocess.Popen(
        ["bash", str(SCRIPT)], env={**cluster, "TRAINS_FOR": "60"}, cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        while not (tmp_path / "calls.jsonl").is_file() or len(calls(tmp_path, "accelerate")) < 2:
            assert process.poll() is None
            time.sleep(0.1)
        process.terminate()
        assert process.wait(timeout=60) == 143
    finally:
        process.kill()
    assert left_running(tmp_path) == []


def test_one_machine_is_too_few(tmp_path, cluster):
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text("#!/bin/sh\necho 127.0.0.1\n", encoding="utf-8")
    result = run_script(cluster)
    assert result.returncode == 2
    assert "Ask for at least --nodes=2" in result.stderr
