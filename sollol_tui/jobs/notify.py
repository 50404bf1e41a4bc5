"""Tells a program of the user's how a job fares: done, failed, stuck, or a worker lost. Uses no
shell, and whatever that program does, the job goes on."""

import asyncio
import json
import logging
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sollol_tui.hosts.shell import quote, split
from sollol_tui.jobs.dataset import locate
from sollol_tui.jobs.events import note, read_events
from sollol_tui.jobs.records import load
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.timeline import read_timeline
from sollol_tui.jobs.view import read_job
from sollol_tui.model.errors import InputError, StateError
from sollol_tui.model.happenings import WORTH_TELLING, Happening, occasion
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.text import clean

log = logging.getLogger("sollol.supervisor")
LIMIT_S: Final = 30.0  # how long the program may take
_LOOK_S: Final = 1.0
_TAIL: Final = 4096  # bytes of its errors that are kept


def whole_command(command: str, folder: Path) -> str:
    """The command as it can be run from anywhere: a program with a path is looked for from
    `folder`, another one in PATH. Raises InputError when there is none."""
    try:
        words = split(command)
    except ValueError as error:
        raise InputError.single("notify.command", f"cannot be read: {error}") from None
    if not words:
        raise InputError.single("notify.command", "names no program")
    program = str(locate(words[0], folder)) if "/" in words[0] else words[0]
    found = shutil.which(program)
    if found is None:
        what = "is not a program that can be run" if "/" in program else "is not in PATH"
        raise InputError.single("notify.command", f"{clean(words[0], limit=200)} {what}")
    return quote(found, *words[1:])


async def keep_telling(store: Store, job: str, over: asyncio.Event) -> None:
    """Tells the job's program what happens until `over`, and then what came last. A supervisor that
    was started again tells only what none has told before."""
    command = load(JobSpec, store.job(job).spec).notify.command
    if command is None:
        return
    words, is_last = split(command), False
    while not is_last:
        is_last = over.is_set()
        try:
            await _tell_news(store, job, words)
        except StateError as error:  # busy, or a full disk: the next look is soon
            log.warning("notify.command waits: %s", error)
        except Exception:
            log.exception("notify.command is given up")
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await over.wait()


async def _tell_news(store: Store, job: str, words: list[str]) -> None:
    told = {event.data.get("of") for event in read_events(store, job, ["told"])}
    for happening in read_timeline(store, job, WORTH_TELLING):
        what = occasion(happening)
        if what is None or happening.key in told:
            continue
        problem = await _run(words, _message(store, happening, what))
        note(store, job, "told", of=happening.key)
        if problem:
            note(store, job, "notice", message=f"notify.command, told of '{what}', {problem}")


def _message(store: Store, happening: Happening, what: str) -> dict[str, Any]:
    """What the program reads; its keys stay what they are (docs/commands.md)."""
    view = read_job(store, happening.job)
    return {
        "schema": "sollol.notify/1",
        "event": what,
        "at": happening.seen_at,
        "job": view.id,
        "name": view.name,
        "state": view.state,
        "host": happening.host or None,
        "sentence": happening.sentence,
        "step": view.step,
        "max_steps": view.max_steps,
        "loss": view.loss,
        "output_dir": view.output_dir,
    }


async def _run(words: list[str], message: dict[str, Any]) -> str:
    """Runs the program to its end or its time limit; returns what went wrong, in words."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # so that its own children end with it
            cwd=Path.home(),
        )
    except (OSError, ValueError) as error:
        return f"could not be started: {getattr(error, 'strerror', None) or error}"
    assert process.stdin is not None
    assert process.stderr is not None
    said = b""
    try:
        async with asyncio.timeout(LIMIT_S):
            with suppress(OSError):  # it need not read
                process.stdin.write(json.dumps(message).encode() + b"\n")
                await process.stdin.drain()
            process.stdin.close()
            while piece := await process.stderr.read(_TAIL):
                said = (said + piece)[-_TAIL:]
            status = await process.wait()
    except TimeoutError:
        return f"took longer than {LIMIT_S:g} s and was ended"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    lines = [clean(line, limit=200) for line in said.splitlines() if line.strip()]
    return f"ended with status {status}{f': {lines[-1]}' if lines else ''}" if status else ""
