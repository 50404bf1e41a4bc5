"""A worker's environment on this machine, for what a test makes and judges with torch."""

import os
import subprocess

import pytest

from tests.cluster.coordinator import CHECKOUT

WORKER_PYTHON = CHECKOUT / ".venv-worker" / "bin" / "python"
needs_worker_python = pytest.mark.skipif(
    not WORKER_PYTHON.exists() and os.environ.get("SOLLOL_REQUIRE_CLUSTER") != "1",
    reason="make test makes .venv-worker",
)


def worker_python(*arguments: str) -> str:
    """Runs the Python of a worker's environment on this machine."""
    done = subprocess.run(
        [WORKER_PYTHON, "-P", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={"PYTHONPATH": str(CHECKOUT), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
