"""The processes of supervisors: at most one per job, by a lock, restarted by any `sollol` command.

Run: python -m sollol_tui.jobs.supervise JOB
"""

import fcntl
import logging
import os
import sys
import threading
import time
from contextlib import suppress
from typing import Final

from sollol_tui.hosts.ssh_agent import lend
from sollol_tui.jobs.events import note
from sollol_tui.jobs.home import SUPERVISOR_LOG, VARIABLE, Home, open_home
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import SollolError, StateError
from sollol_tui.model.states import UNATTENDED, JobState
from sollol_tui.model.text import clean

log = logging.getLogger("sollol.supervisor")
LOCK: Final = "supervisor.lock"
FAILED: Final = "supervisor.failed"  # its time is when a supervisor last ended by an error
RETRY_S: Final = 10.0
_TRIES: Final = 10
_PAUSE_S: Final = 0.05
_LOOK_S: Final = 2.0


def start_supervisor(home: Home, job: str) -> None:
    """Starts a process that looks after `job`; when there is one already, the new one ends.
    Raises StateError when the job's folder cannot be used."""
    import subprocess  # late, as asyncio below: every command looks for orphans, few find any

    descriptor = _open(home, job, SUPERVISOR_LOG, os.O_WRONLY | os.O_APPEND)
    try:
        process = subprocess.Popen(
            # -P: what lies in the user's folder is not ours to import.
            [sys.executable, "-P", "-m", "sollol_tui.jobs.supervise", job],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
            env=os.environ | {VARIABLE: str(home.root)},
        )
    finally:
        os.close(descriptor)
    # It outlives us, or we it: the screen runs for days and must not gather the dead.
    threading.Thread(target=process.wait, daemon=True, name=f"reaper of {job}").start()


def is_supervised(home: Home, job: str) -> bool:
    """Whether a supervisor of this job is alive, told by its lock. Raises StateError."""
    try:
        descriptor = os.open(home.job(job) / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unusable(home, job, error) from None
    try:
        # Shared: whoever asks at the same moment is no supervisor.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def revive(store: Store) -> list[str]:
    """Restarts the supervisor of every job that needs one and has none; returns those jobs. One
    that has just failed is given a pause: it is likely to fail again."""
    lend(store.home.ssh_agent)  # to those that run, too
    orphans = [
        job
        for job in store.attended_jobs()
        if not is_supervised(store.home, job) and not _has_just_failed(store.home, job)
    ]
    for job in orphans:
        start_supervisor(store.home, job)
    return orphans


def _has_just_failed(home: Home, job: str) -> bool:
    try:
        age = time.time() - (home.job(job) / FAILED).stat().st_mtime
    except FileNotFoundError:
        return False
    return 0 <= age < RETRY_S


def _open(home: Home, job: str, name: str, flags: int) -> int:
    """Opens a file of the job's folder, both made when they are not there. Raises StateError."""
    try:
        for folder in (home.root / "jobs", home.job(job)):
            folder.mkdir(mode=0o700, exist_ok=True)
        return os.open(home.job(job) / name, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(home, job, error) from None


def _unusable(home: Home, job: str, error: OSError) -> StateError:
    return StateError(
        f"{error.filename or home.job(job)} cannot be used: {error.strerror}",
        remedy=f"is it yours, and is there space? {job} has no supervisor before",
    )


def _lock(descriptor: int) -> bool:
    """Takes the job's lock; False when another supervisor holds it. Tried for a moment, because
    whoever asks `is_supervised` holds it for an instant too."""
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_PAUSE_S)
    return False


def main(job: str) -> int:
    """Supervises `job` if nobody else does. Exit status 0 also when somebody does, 1 when it
    failed: then the job's stage says why."""
    home = open_home()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    with Store(home) as store:
        # Whoever lets a paused job go on finds the lock taken until this process lets go of it, and
        # leaves the job to it: so it looks once more afterwards.
        while store.job(job).state not in UNATTENDED:
            with os.fdopen(_open(home, job, LOCK, os.O_RDWR), "r+b") as lock:
                if not _lock(lock.fileno()):
                    return 0
                if not _supervise(home, store, job):
                    return 1
    return 0


def _supervise(home: Home, store: Store, job: str) -> bool:
    """Looks after the job until it needs nobody; False when that failed."""
    import asyncio

    try:
        asyncio.run(_attend(home, store, job))
    except _StateGoneError:
        log.warning("%s is there no more: nobody asks for this supervisor", home.database)
        return False
    except Exception as error:
        log.exception("the supervisor failed")
        os.close(_open(home, job, FAILED, os.O_WRONLY | os.O_TRUNC))
        os.utime(home.job(job) / FAILED)
        store.note_stage(job, _sentence(job, error))
        return False
    return True


class _StateGoneError(Exception):
    """Somebody removed the state folder, or put another state there."""


async def _until_gone(home: Home) -> None:
    """Returns once the state's file is another one, or none: SQLite would go on in the old one."""
    import asyncio

    known = home.database.stat()
    while True:
        await asyncio.sleep(_LOOK_S)
        try:
            if not os.path.samestat(known, home.database.stat()):
                return
        except FileNotFoundError:
            return


async def _attend(home: Home, store: Store, job: str) -> None:
    import asyncio

    from sollol_tui.jobs.notify import keep_telling
    from sollol_tui.jobs.safekeeping import keep_safe
    from sollol_tui.jobs.supervisor import Supervisor

    if store.job(job).state not in (JobState.QUEUED, JobState.PLANNING):
        note(store, job, "supervisor_started")
    over = asyncio.Event()
    beside = [
        asyncio.create_task(keep_telling(store, job, over)),
        asyncio.create_task(keep_safe(store, job, over)),
    ]
    work = asyncio.create_task(Supervisor(home, store, job).run())
    gone = asyncio.create_task(_until_gone(home))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise _StateGoneError
        await work
    finally:
        over.set()
        for task in (work, gone):
            task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)
        for error in await asyncio.gather(*beside, return_exceptions=True):
            if isinstance(error, BaseException):
                log.error("beside the job: %s", error, exc_info=error)


def _sentence(job: str, error: Exception) -> str:
    said = str(error) if isinstance(error, SollolError) else f"{type(error).__name__}: {error}"
    first = clean(said.partition("\n")[0], limit=200)
    return f"its supervisor failed: {first}; see: sollol logs {job} --supervisor"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
