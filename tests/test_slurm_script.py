"""The SLURM script runs on this machine, with loopback addresses for machines and stand-ins for what a cluster brings.

`srun` and `scontrol` are stand-ins that record how they are called; `srun` then runs the command here. `tspo-trl`,
`vllm`, `python` and `accelerate` record their arguments too; the first two answer health checks at their addresses.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "examples" / "slurm" / "train_multi_node.slurm"
pytestmark = pytest.mark.slow

MACHINES = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]

# Every stand-in is this program under another name.
STAND_IN = """#!{python}
import http.server, json, os, signal, subprocess, sys, time
name, arguments, folder = os.path.basename(sys.argv[0]), sys.argv[1:], {folder!r}
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
    steps = [subprocess.Popen(command, env={{**os.environ, "SLURM_PROCID": str(i)}}) for i in range(tasks)]
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
    address = arguments[arguments.index("--host") + 1], int(arguments[arguments.index("--port") + 1])
    server = http.server.ThreadingHTTPServer(address, Handler)
    if os.environ.get("ENDS") == name:  # after it was found healthy
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
    environment = {name: value for name, value in os.environ.items() if name != "TSPO_TRL_TOKEN"}
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**environment, **ports, "PATH": path, "SLURM_JOB_NODELIST": "node[1-3]", "START_TIMEOUT": "20"}


@pytest.fixture
def free_ports():
    """Two ports that no other test uses; the machines' addresses differ, so each may be used on all of them."""
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


def test_retrieval_vllm_and_training_get_the_same_addresses(tmp_path, cluster):
    result = run_script(cluster)
    assert result.returncode == 0, result.stderr
    retriever_port, vllm_port = cluster["RETRIEVER_PORT"], cluster["VLLM_PORT"]

    replicas = calls(tmp_path, "tspo-trl")
    assert sorted(option(call, "--host") for call in replicas) == ["127.0.0.1", "127.0.0.2"]
    assert {option(call, "--port") for call in replicas} == {retriever_port}
    (vllm,) = calls(tmp_path, "vllm")
    assert (option(vllm, "--host"), option(vllm, "--port")) == ("127.0.0.3", vllm_port)

    training = calls(tmp_path, "accelerate")
    assert sorted(option(call, "--machine_rank") for call in training) == ["0", "1"]
    for call in training:
        arguments = call["arguments"]
        assert option(call, "--main_process_ip") == "127.0.0.1"
        assert (option(call, "--num_machines"), option(call, "--num_processes")) == ("2", "16")
        assert option(call, "--vllm_server_base_url") == f"http://127.0.0.3:{vllm_port}"
        urls = arguments[arguments.index("--retriever_url") + 1 :][:2]
        assert urls == [f"http://127.0.0.1:{retriever_port}", f"http://127.0.0.2:{retriever_port}"]
    steps = calls(tmp_path, "srun")
    machines = [o.split("=")[1] for call in steps for o in call["arguments"] if o.startswith("--nodelist=")]
    replicas, dry_run, vllm, training = ["127.0.0.1", "127.0.0.2"], "127.0.0.1", "127.0.0.3", "127.0.0.1,127.0.0.2"
    assert sorted(machines) == sorted([*replicas, dry_run, vllm, training])


def test_all_replicas_and_the_trainer_have_one_secret_token(tmp_path, cluster):
    assert run_script(cluster).returncode == 0
    callers = [call for name in ("tspo-trl", "python", "accelerate") for call in calls(tmp_path, name)]
    (token,) = {call["environment"]["TSPO_TRL_TOKEN"] for call in callers}
    assert len(token) == 32


def test_vllm_is_started_as_weight_updates_need_it(tmp_path, cluster):
    assert run_script(cluster).returncode == 0
    (vllm,) = calls(tmp_path, "vllm")
    assert vllm["environment"]["VLLM_SERVER_DEV_MODE"] == "1"
    assert json.loads(option(vllm, "--weight-transfer-config")) == {"backend": "nccl"}
    assert option(vllm, "--logprobs-mode") == "processed_logprobs"
    recipe = yaml.safe_load((ROOT / "examples/recipes/qwen2.5-7b-instruct-multi-node.yaml").read_text())
    assert option(vllm, "--max-model-len") == str(recipe["vllm_max_model_length"])
    assert vllm["arguments"][1] == recipe["model_name_or_path"]


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


def test_server_that_ends_during_training_ends_the_job(tmp_path, cluster):
    result = run_script(cluster, ENDS="vllm", TRAINS_FOR="60")
    assert result.returncode == 1
    assert "a server ended while training ran" in result.stderr
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
