"""Starts `tspo-trl serve` in another process."""

import os
import re
import subprocess
import sys
from contextlib import contextmanager

COMMAND = [sys.executable, "-m", "tspo_trl.cli.main", "serve"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "TSPO_TRL_TOKEN"}


@contextmanager
def serving(*options, **environment):
    """Start a server on a free port. Yields its process and its URL."""
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", *map(str, options)],
        env=ENVIRONMENT | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert re.fullmatch(r"Listening on http://[\d.]+:\d+\n", line), process.stderr.read()
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate()
