"""Start `vllm serve` in its own process."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 300


def free_port():
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving_vllm(model, log, **environment):
    """Start a server of the model with its output in the file `log`, and yield its URL."""
    port = free_port()
    command = [
        str(Path(sys.executable).parent / "vllm"), "serve", str(model), "--host", "127.0.0.1", "--port", str(port),
        "--weight-transfer-config", '{"backend": "cpu_store"}', "--logprobs-mode", "processed_logprobs",
        "--max-logprobs", "-1", "--enforce-eager", "--dtype", "float32",
    ]  # fmt: skip
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, "VLLM_SERVER_DEV_MODE": "1", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the engine is another process; both end together
        )
    try:
        _wait_until_healthy(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_healthy(url, process, log):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise TimeoutError(log.read_text(encoding="utf-8")[-3000:])
