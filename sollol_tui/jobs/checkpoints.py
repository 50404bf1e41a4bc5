"""A job's newest checkpoint on its way: from a worker to the coordinator when the job pauses, and
to the workers that lack it before the job goes on. Verified at both ends; makes none."""

import asyncio
import logging
import re
import shutil
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from sollol_tui.hosts.fetch import fetch_tree
from sollol_tui.hosts.receiver import STALL_S
from sollol_tui.hosts.saved import damage_here
from sollol_tui.hosts.shell import quote
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.hosts.transfer import PIECE, send_tree
from sollol_tui.hosts.tree import read_tree
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.output import sync_folder
from sollol_tui.jobs.worker import Worker
from sollol_tui.model.errors import TransferError, UnreachableError
from sollol_tui.model.units import format_bytes

log = logging.getLogger("sollol.supervisor")
PREFIX: Final = "checkpoint-"
_NAME: Final = re.compile(r"checkpoint-([1-9]\d{0,14})")


def kept(home: Home, job: str) -> int | None:
    """The step of the newest checkpoint that the coordinator has; None for none."""
    names = (path.name for path in kept_folder(home, job).glob(f"{PREFIX}*"))
    return max(_steps(names), default=None)


def drop_damaged(home: Home, job: str) -> str:
    """Removes the checkpoint that the coordinator keeps when it is not what its manifest says: it
    must not take the place of a whole one. Returns a sentence about it; "" for none."""
    if (step := kept(home, job)) is None:
        return ""
    folder = kept_folder(home, job) / f"{PREFIX}{step}"
    if not (damage := damage_here(folder)):
        return ""
    shutil.rmtree(folder)
    return (
        f"checkpoint-{step}, kept on this machine, is damaged ({damage}) and was removed; the job "
        "goes on from the newest whole one that its workers have"
    )


async def bring_newest(home: Home, job: str, workers: Sequence[Worker]) -> int | None:
    """Makes sure that the newest whole checkpoint of the workers is here; returns its step, None
    when there is none anywhere. One that is damaged is passed over. Raises UnreachableError when no
    worker that may have one can be asked."""
    holders: dict[int, list[Worker]] = {}
    asked = (worker.over_ssh(partial(_list, worker.run_dir)) for worker in workers)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    silent: UnreachableError | None = None
    for worker, steps in zip(workers, answers, strict=True):
        if isinstance(steps, UnreachableError):
            silent = steps
        elif isinstance(steps, BaseException):
            raise steps
        else:
            for step in steps:
                holders.setdefault(step, []).append(worker)
    if silent is not None and not holders:
        raise silent
    here = kept(home, job) or 0
    for step in sorted((step for step in holders if step > here), reverse=True):
        for worker in holders[step]:
            try:
                await worker.over_ssh(partial(_fetch, home, job, step, worker))
            except TransferError as error:
                log.warning("%s: checkpoint-%d is passed over: %s", worker.host.name, step, error)
            else:
                return step
    return here or None


async def give(home: Home, job: str, worker: Worker) -> None:
    """Makes sure that a worker has, whole, the coordinator's checkpoint, and the weights with which
    the job begins when they are another job's."""
    if (begin := beginning_folder(home, job)).is_dir():
        await _send(worker, begin, f"{worker.run_dir}/{begin.name}", "the weights to begin with")
    if (step := kept(home, job)) is not None:
        name = f"{PREFIX}{step}"
        target = f"{worker.run_dir}/checkpoints/{name}"
        await _send(worker, kept_folder(home, job) / name, target, name)


async def _send(worker: Worker, folder: Path, target: str, what: str) -> None:
    tree = await asyncio.to_thread(read_tree, folder)

    def report(done: int, total: int) -> None:
        worker.say(f"sending {what}: {format_bytes(done)} of {format_bytes(total)}")

    async def send(connection: HostConnection) -> None:
        # What is there may be damaged, and the ranks would pass it over for an older one.
        await connection.run(
            f"if cd {quote(target)} 2>/dev/null; then sha256sum -c >/dev/null 2>&1 || "
            f"rm -rf -- {quote(target)}; fi",
            input="".join(f"{file.sha256}  {file.name}\n" for file in tree.files).encode(),
            timeout_s=STALL_S + tree.size / PIECE,
        )
        await send_tree(connection, tree, target, report=report)

    await worker.over_ssh(send)


async def _list(run_dir: str, connection: HostConnection) -> list[int]:
    shown = await connection.run(
        f"ls -1 {quote(run_dir + '/checkpoints')} 2>/dev/null || :", timeout_s=STALL_S
    )
    return _steps(shown.stdout.decode(errors="replace").splitlines())


async def _fetch(
    home: Home, job: str, step: int, worker: Worker, connection: HostConnection
) -> None:
    folder, name = kept_folder(home, job), f"{PREFIX}{step}"

    def publish(part: Path) -> Path:
        place = folder / name
        part.rename(place)
        sync_folder(folder)
        for old in _steps(path.name for path in folder.iterdir()):
            if old != step:
                shutil.rmtree(folder / f"{PREFIX}{old}")
        return place

    def report(done: int, total: int) -> None:
        worker.say(f"bringing {name}: {format_bytes(done)} of {format_bytes(total)}")

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    source, part = f"{worker.run_dir}/checkpoints/{name}", folder / f".{name}.part"
    await fetch_tree(connection, source, part, publish=publish, report=report)


def beginning_folder(home: Home, job: str) -> Path:
    """Where the weights lie with which a job begins when they are another job's."""
    return home.job(job) / "begin"


def kept_folder(home: Home, job: str) -> Path:
    """Where the coordinator keeps the newest checkpoint of a job."""
    return home.job(job) / "checkpoints"


def _steps(names: Iterable[str]) -> list[int]:
    return [int(found[1]) for name in names if (found := _NAME.fullmatch(name))]
