"""Writes remote/worker.in and remote/worker.lock from the extra `worker` of pyproject.toml.

Run: make lock

The lock pins every package for Linux and Python 3.11-3.13, apart from what torch itself pins for
one accelerator (CUDA, ROCm): those come with the torch build that a worker gets, so one lock serves
all of them as constraints.
"""

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLLOWS_TORCH = re.compile(r"(nvidia-(?!ml-py)|cuda-|triton|pytorch-triton)")


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = ROOT / "remote" / "worker.in"
    requirements = project["optional-dependencies"]["worker"]
    header = "# Written by tools/lock.py from pyproject.toml.\n"
    wanted.write_text(header + "\n".join(requirements) + "\n")
    compiled = subprocess.run(
        [
            "uv",
            "pip",
            "compile",
            "--universal",
            "--python-version",
            "3.11",
            "--no-header",
            "--no-annotate",
            "--no-emit-index-url",
            "--no-emit-find-links",
            "--upgrade",
            str(wanted),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    pins = [
        line
        for line in compiled.splitlines()
        if line and not FOLLOWS_TORCH.match(line) and not line.startswith("torch==")
    ]
    torch = next(line for line in requirements if line.startswith("torch=="))
    header = "# Written by tools/lock.py; constraints for every accelerator's build of torch.\n"
    (ROOT / "remote" / "worker.lock").write_text(header + "\n".join(sorted([*pins, torch])) + "\n")


if __name__ == "__main__":
    main()
