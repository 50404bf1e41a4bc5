"""Whether a run may begin on this host, and if not, why and what to do next; and the devices that
it has to itself from then on. Starts nothing."""

import json
import os
import select
import sys
import time
from pathlib import Path
from typing import Any

from remote.lease import HELD_FOR_AN_INSTANT_S, POLL_S, DeviceTakenError, hold_device
from remote.run import FILE as RUN_FILE
from remote.run import Run, RunError, parse_run, read_run


class Refusal(Exception):
    """The command was not carried out; the message says why and what to do next."""


def parse_request(request: Any) -> tuple[Run, dict[str, str]]:
    from remote.launch import interface_of

    if not isinstance(request, dict):
        raise Refusal('stdin must hold {"run": {...}, "secrets": {...}}')
    try:
        run = parse_run(request.get("run"))
        for rank in run.own_ranks:
            interface_of(rank.address)
    except RunError as error:
        raise Refusal(str(error)) from None
    secrets = request.get("secrets") or {}
    for what, values in (("secrets", secrets), ("run.json's env", run.env)):
        if not isinstance(values, dict) or not all(_is_variable(*i) for i in values.items()):
            raise Refusal(f"{what} must be an object of environment variables, name to text")
    return run, secrets


def _is_variable(name: Any, value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value and name.isidentifier()


def make_private(run_dir: Path) -> None:
    os.umask(0o077)
    run_dir.mkdir(parents=True, exist_ok=True)
    if run_dir.stat().st_uid != os.geteuid():
        raise Refusal(f"{run_dir} belongs to another user; choose another workdir for this host")
    run_dir.chmod(0o700)


def nonce_of(run_dir: Path) -> str:
    """Whose run this folder holds; "" when it does not say."""
    try:
        nonce = json.loads((run_dir / RUN_FILE).read_bytes()).get("nonce", "")
    except (OSError, ValueError, AttributeError):
        return ""
    return nonce if isinstance(nonce, str) else ""


def refuse_another(run_dir: Path, run: Run) -> None:
    """Ids are unique for one coordinator only, run directories are shared by all of them."""
    if (run_dir / RUN_FILE).exists() and nonce_of(run_dir) != run.nonce:
        raise Refusal(
            f"the run directory {run_dir} belongs to another job of the same id; submit again, "
            "which gives the job another id"
        )


def refuse_older(run_dir: Path, run: Run) -> None:
    try:
        newest = read_run(run_dir).generation
    except (FileNotFoundError, ValueError):
        return  # no run yet, or one that says nothing readable
    if run.generation < newest:
        raise Refusal(
            f"{run_dir} has already seen generation {newest}; generation {run.generation} is over"
        )


def refuse_hungry(run_dir: Path, run: Run) -> None:
    """With the same settings it would reach its own limit of memory once more."""
    from remote.daemon import OUT_OF_MEMORY_RESTARTS
    from remote.ending import out_of_memory

    try:
        before = read_run(run_dir)
    except (FileNotFoundError, ValueError):
        return
    if run.ram_gb is None or (run.ram_gb, run.train) != (before.ram_gb, before.train):
        return
    times = [reason for file in run_dir.glob("events.agent.*") for reason in out_of_memory(file)]
    if len(times) > OUT_OF_MEMORY_RESTARTS:
        raise Refusal(f"with these settings it was {len(times)} times {times[-1]}")


def refuse_unheard() -> None:
    """A coordinator that died after it asked has been replaced by one that looked for this run
    before the lock was taken, found nothing, and may have called it over."""
    answer = select.poll()
    answer.register(sys.stdout.fileno(), 0)  # only whether the other end is gone
    if answer.poll(0):
        raise Refusal("whoever asked for this start is gone; ask again")


def take_devices(run_dir: Path, run: Run) -> set[int]:
    """What the ranks compute on. The coordinator's own jobs do not meet there; those of two
    coordinators do, and the first agent decides."""
    deadline = time.monotonic() + HELD_FOR_AN_INSTANT_S
    leases: set[int] = set()
    for rank in run.own_ranks:
        while True:
            try:
                lease = hold_device(run_dir, run, rank)
                break
            except DeviceTakenError as error:
                if time.monotonic() > deadline:
                    raise Refusal(str(error)) from None
                time.sleep(POLL_S)
        leases |= {lease} if lease is not None else set()
    return leases
