"""`accelerate launch` as the agent calls it: reads the same configuration file, starts the module
in a session of its own, passes SIGTERM on, exits with 1 and its own report when the rank fails."""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path


class ChildFailedError(Exception):
    pass


def read_configuration(path: str) -> dict[str, object]:
    lines = Path(path).read_text().splitlines()
    pairs = (line.split(": ", 1) for line in lines if line and not line.startswith("#"))
    return {key: json.loads(value) for key, value in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--config_file", required=True)
    parser.add_argument("-m", "--module", action="store_true", required=True)
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    config = read_configuration(options.config_file)
    # What makes real accelerate start one world of CPU ranks over several hosts, or one of its own.
    assert config["distributed_type"] == "MULTI_GPU" or config["num_machines"] == 1
    assert config["num_processes"] == config["num_machines"]
    world = {
        "RANK": str(config["machine_rank"]),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(config["num_processes"]),
        "MASTER_ADDR": str(config["main_process_ip"]),
        "MASTER_PORT": str(config["main_process_port"]),
    }
    child = subprocess.Popen(
        [sys.executable, "-u", "-m", options.script, *options.arguments],
        env=os.environ | world,
        start_new_session=True,
    )
    signal.signal(signal.SIGTERM, lambda number, _: child.send_signal(number))
    code = child.wait()
    if code != 0:
        sys.stderr.write(f"  exitcode  : {code} (pid: {child.pid})\n")
        raise ChildFailedError(f"{options.script} FAILED")


if __name__ == "__main__":
    main()
