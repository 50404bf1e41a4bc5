"""A process that carries out one slot of a run: how it begins, its events, and how it tells that it
failed. Knows no torch, and not what is carried out.
"""

import faulthandler
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from remote.disk import patient_stream
from remote.events import LAST_WORDS_S, EventWriter
from remote.launch import die_with_launcher
from remote.processes import FAULT_SIGNAL
from remote.run import Rank, Run, read_run

Act = Callable[[Run, Rank, Path, EventWriter], None]


def begin(arguments: list[str]) -> None:
    """What stands before all else behind `python -m`, as an agent starts it: it ends with its
    launcher, a full disk costs its log lines and nothing more, and its agent may ask where it
    stands."""
    die_with_launcher(Path(arguments[0]))
    sys.stdout, sys.stderr = patient_stream(1), patient_stream(2)
    faulthandler.register(FAULT_SIGNAL)


def carry_out(arguments: list[str], act: Act, foreseen: tuple[type[Exception], ...] = ()) -> int:
    """Does it for `RUN_DIR SLOT ATTEMPT`; its exit status. Errors that are `foreseen` say by
    themselves what to do; of others the kind is told too."""
    run_dir, slot, attempt = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    run = read_run(run_dir)
    events = EventWriter.of_run(run, run_dir, slot, attempt)
    try:
        act(run, run.rank_of_slot(slot), run_dir, events)
    except Exception as error:
        told = traceback.format_exc()
        is_foreseen = isinstance(error, foreseen)
        kind, sentence = type(error).__name__, " ".join(str(error).split())
        if not is_foreseen:
            sentence = f"{kind}: {sentence}" if sentence else kind
        events.emit("failed", error=sentence or kind, traceback=told, foreseen=is_foreseen)
        print(told, file=sys.stderr, flush=True)
        return 1
    finally:
        events.catch_up(LAST_WORDS_S)
    return 0
