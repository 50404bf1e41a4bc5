"""An evaluation that measures nothing, in the standard library: the contract's events, and its end
when nobody follows. `python -m remote.evaluate RUN_DIR SLOT ATTEMPT`."""

import os
import sys
import threading
from pathlib import Path

from remote.adapter_here import adapter_of

from remote.events import EventWriter
from remote.following import call_when_left
from remote.program import begin, carry_out
from remote.run import Rank, Run


def evaluate(run: Run, own: Rank, run_dir: Path, events: EventWriter) -> None:
    call_when_left(run_dir, lambda: os._exit(1))
    events.emit("loading", what=run.base_name)
    weights = adapter_of(run_dir)
    if os.environ.get("SOLLOL_STUB_FAIL") == run.program:
        raise RuntimeError("the stub was told to fail")
    if os.environ.get("SOLLOL_STUB_HOLDS") == run.program:
        events.emit("progress", phase="before", done=0, total=1)
        threading.Event().wait()
    for number in range(run.samples):
        texts = {"prompt": "say 1", "expected": "1", "before": "\x1b[31mno", "after": weights}
        events.emit("example", place=f"row {number}", **texts)
    held_out = run.train.val_size > 0
    events.emit("finished", rows=4 if held_out else 40, tokens=100, loss_before=5.0, loss=2.0,
                device="cpu", seconds=0.1)  # fmt: skip


if __name__ == "__main__":
    begin(sys.argv[1:])
    sys.exit(carry_out(sys.argv[1:], evaluate))
