"""Says what this environment can do, as the real self-check does, without torch."""

import json
import platform
import sys

import psutil

if __name__ == "__main__":
    answer = {"v": 1, "torch": "stub", "accelerator": "cpu", "python": platform.python_version()}
    sys.stdout.write(json.dumps({**answer, "cores": psutil.cpu_count()}) + "\n")
