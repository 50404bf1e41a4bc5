"""The coordinator's last word to a run: one small file that ranks and agent read between steps."""

import json
import os
from enum import StrEnum
from pathlib import Path

from remote.disk import is_full
from remote.files import write_atomic

FILE = "control"


class Action(StrEnum):
    RUN = "run"
    STOP = "stop"  # finish the step, save a checkpoint, leave
    LEAVE = "leave"  # finish the step, have the other hosts go on, leave (engine: elastic)
    KILL = "kill"  # leave now


def write_control(run_dir: Path, action: Action) -> None:
    """On a disk without room the word goes where the last one stands: it takes none there."""
    word = json.dumps({"v": 1, "action": action}).encode() + b"\n"
    try:
        write_atomic(run_dir / FILE, word)
    except OSError as error:
        if not is_full(error):
            raise
        descriptor = os.open(run_dir / FILE, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.pwrite(descriptor, word.rstrip().ljust(os.fstat(descriptor).st_size), 0)
        finally:
            os.close(descriptor)


def read_control(run_dir: Path) -> Action:
    """What the coordinator wants now. No file yet means run; an action that this payload does not
    know is taken as run, because a newer coordinator only asks for it where it is understood."""
    try:
        return Action(json.loads((run_dir / FILE).read_bytes())["action"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return Action.RUN
