"""An evaluation that measures nothing, in the standard library: the contract's events, and its end
when nobody follows. `python -m remote.evaluate RUN_DIR SLOT ATTEMPT`."""

import os
import sys
import threading
from pathlib import Path

from remote.adapter_here import adapter_of

from remote.events import EventWriter
from remote.following import call_when_left
from remote.launch import die_with_launcher
from remote.run import read_run


def main(arguments: list[str]) -> int:
    run_dir, slot, attempt = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    run = read_run(run_dir)
    events = EventWriter(
        run_dir / f"events.{slot}.{attempt}.jsonl",
        job=run.job,
        host=run.host,
        slot=slot,
        attempt=attempt,
        generation=run.generation,
    )
    call_when_left(run_dir, lambda: os._exit(1))
    events.emit("loading", what=run.base_name)
    try:
        weights = adapter_of(run_dir)
        if os.environ.get("SOLLOL_STUB_FAIL") == run.program:
            raise RuntimeError("the stub was told to fail")
    except Exception as error:
        sys.stderr.write(f"Traceback:\n{error}\n")
        events.emit("failed", error=str(error), traceback="", foreseen=False)
        return 1
    if os.environ.get("SOLLOL_STUB_HOLDS") == run.program:
        events.emit("progress", phase="before", done=0, total=1)
        threading.Event().wait()
    for number in range(run.samples):
        texts = {"prompt": "say 1", "expected": "1", "before": "\x1b[31mno", "after": weights}
        events.emit("example", place=f"row {number}", **texts)
    held_out = run.train.val_size > 0
    events.emit("finished", rows=4 if held_out else 40, tokens=100, loss_before=5.0, loss=2.0,
                device="cpu", seconds=0.1)  # fmt: skip
    return 0


if __name__ == "__main__":
    die_with_launcher(Path(sys.argv[1]))
    sys.exit(main(sys.argv[1:]))
