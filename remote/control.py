"""The coordinator's last word to a run: one small file that ranks and agent read between steps."""

import json
from enum import StrEnum
from pathlib import Path

from remote.files import write_atomic

FILE = "control"


class Action(StrEnum):
    RUN = "run"
    STOP = "stop"  # finish the step, save a checkpoint, leave
    LEAVE = "leave"  # finish the step, have the other hosts go on, leave (engine: elastic)
    KILL = "kill"  # leave now


def write_control(run_dir: Path, action: Action) -> None:
    write_atomic(run_dir / FILE, json.dumps({"v": 1, "action": action}).encode() + b"\n")


def read_control(run_dir: Path) -> Action:
    """What the coordinator wants now. No file yet means run; an action that this payload does not
    know is taken as run, because a newer coordinator only asks for it where it is understood."""
    try:
        return Action(json.loads((run_dir / FILE).read_bytes())["action"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return Action.RUN
