"""The real loop of a rank, which also writes down what it computed and committed, takes its time
over a step, and when a test asks for it hurries, spoils its weights, or stops in the middle of a
sum.

Lies over the payload's `remote/train.py`, which goes by the name of `remote/loop.py` there.
"""

import faulthandler
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from remote import loop
from remote.engine import Tally
from remote.engine.group import Group
from remote.launch import die_with_launcher
from remote.processes import FAULT_SIGNAL
from remote.session import Session
from remote.step import Step

STEP_S = float(os.environ.get("SOLLOL_RECORDED_STEP_S", "0"))
_compute, _commit, _is_over = loop.compute, loop.commit, Group.is_over


def write(session: Session, kind: str, step: Step, **more: Any) -> None:
    # Static ranks have one group for life.
    group = getattr(session.engine, "_group", None)
    key = getattr(group, "key", f"{session.run.generation}/0/0")
    line = {
        "kind": kind,
        "t": time.monotonic(),
        "slot": session.own.slot,
        "step": step.number,
        "group": [int(number) for number in key.split("/")],
        **more,
    }
    path = session.run_dir / f"record.{session.own.slot}.{session.events.attempt}"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, json.dumps(line).encode() + b"\n")
    os.close(file)


def compute(session: Session, step: Step) -> Tally:
    write(session, "computed", step, samples=step.share.tolist())
    if not (session.run_dir / "hurry").exists():
        time.sleep(STEP_S)
    return _compute(session, step)


def commit(session: Session, step: Step, tally: Tally) -> float:
    norm = _commit(session, step, tally)
    slots = [rank.slot for rank in session.engine.members().ranks]
    loss = tally.loss_sum / step.tokens
    write(session, "committed", step, slots=slots, digest=session.model.digest(), loss=loss)
    spoil = session.run_dir / "spoil"
    if spoil.exists():
        spoil.unlink()
        parameter = session.model.parameters[0].data
        parameter[0].add_(1.0)
        write(session, "spoilt", step, digest=session.model.digest())
    return norm


def is_over(group: Group) -> bool:
    """Asked again and again while gloo is adding up."""
    over = _is_over(group)
    freeze = Path(sys.argv[1]) / "freeze"
    if not over and freeze.exists():
        freeze.unlink()
        os.kill(os.getpid(), signal.SIGSTOP)
    return over


loop.compute, loop.commit, Group.is_over = compute, commit, is_over

if __name__ == "__main__":
    die_with_launcher(Path(sys.argv[1]))
    faulthandler.register(FAULT_SIGNAL)  # or its agent kills it by asking where it stands
    sys.exit(loop.main(sys.argv[1:]))
