"""What programs have in common that do one thing beside a training: they tell how it ended, and
those that work for a follower leave when nobody hears it any more. Trains nothing."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from remote import program
from remote.engine import DismissedError
from remote.events import EventWriter
from remote.following import call_when_left
from remote.run import Rank, Run
from remote.start import FORESEEN, keep_to_cores

Act = Callable[[Run, Path, EventWriter], dict[str, Any]]


def carry_out(arguments: list[str], act: Act) -> int:
    """Does it, and tells the outcome as what `finished` adds; `stopped` where it was told to leave
    before."""

    def tell(run: Run, own: Rank, run_dir: Path, events: EventWriter) -> None:
        keep_to_cores(run)
        try:
            outcome = act(run, run_dir, events)
        except DismissedError as dismissed:
            events.emit("stopped", reason=str(dismissed))
            print(f"{dismissed}", flush=True)
        else:
            events.emit("finished", **outcome)

    return program.carry_out(arguments, tell, FORESEEN)


def main(act: Act, *, followed: bool = True) -> int:
    """What stands behind `python -m`, as an agent starts it. `followed` says that it is of use only
    to who follows: without anybody this process ends."""
    program.begin(sys.argv[1:])
    if followed:
        call_when_left(Path(sys.argv[1]), _leave)
    return carry_out(sys.argv[1:], act)


def _leave() -> None:
    print("nobody follows any more: leaving", flush=True)
    os._exit(1)
