"""What programs have in common that do one thing beside a training: they tell how it ended, and
those that work for a follower leave when nobody hears it any more. Trains nothing."""

import faulthandler
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from remote.base import ModelError
from remote.cores import threads_of_rank
from remote.data.render import DataError
from remote.disk import patient_stream
from remote.engine import DismissedError, WorldError
from remote.events import LAST_WORDS_S, EventWriter
from remote.following import call_when_left
from remote.launch import die_with_launcher
from remote.processes import FAULT_SIGNAL
from remote.run import Run, read_run

FORESEEN = (ModelError, DataError, WorldError)  # their sentences say what to do
Act = Callable[[Run, Path, EventWriter], dict[str, Any]]


def carry_out(arguments: list[str], act: Act) -> int:
    """Does it, and tells the outcome as what `finished` adds; `stopped` where it was told to leave
    before."""
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
    if "OMP_NUM_THREADS" not in run.env:
        torch.set_num_threads(threads_of_rank(run))
    try:
        outcome = act(run, run_dir, events)
    except DismissedError as dismissed:
        events.emit("stopped", reason=str(dismissed))
        print(f"{dismissed}", flush=True)
        return 0
    except Exception as error:
        told = traceback.format_exc()
        sentence = " ".join(str(error).split()) or type(error).__name__
        foreseen = isinstance(error, FORESEEN)
        events.emit("failed", error=sentence, traceback=told, foreseen=foreseen)
        print(told, file=sys.stderr, flush=True)
        return 1
    else:
        events.emit("finished", **outcome)
        return 0
    finally:
        events.catch_up(LAST_WORDS_S)


def main(act: Act, *, followed: bool = True) -> int:
    """What stands behind `python -m`, as an agent starts it. `followed` says that it is of use only
    to who follows: without anybody this process ends."""
    run_dir = Path(sys.argv[1])
    die_with_launcher(run_dir)
    sys.stdout, sys.stderr = patient_stream(1), patient_stream(2)
    faulthandler.register(FAULT_SIGNAL)
    if followed:
        call_when_left(run_dir, _leave)
    return carry_out(sys.argv[1:], act)


def _leave() -> None:
    print("nobody follows any more: leaving", flush=True)
    os._exit(1)
