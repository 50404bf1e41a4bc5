"""The commands by which a coordinator speaks to a run on this host: start, control, inspect, clean,
port. Each answers with one JSON line; what it does not say it has not done."""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from remote import disk, limits, processes, remains
from remote.admission import (
    Refusal,
    make_private,
    nonce_of,
    parse_request,
    refuse_another,
    refuse_hungry,
    refuse_older,
    refuse_unheard,
    take_devices,
)
from remote.attempts import events_file, highest_attempt, log_file, next_attempt
from remote.control import Action, write_control
from remote.ending import last_event
from remote.files import write_atomic
from remote.lease import is_locked, take_lock
from remote.ports import free_port, reserve_ports
from remote.remains import Remnant
from remote.run import FILE as RUN_FILE
from remote.run import Run

ADOPT_DEADLINE_S = 10.0
REFUSED = 3
_POLL_S = 0.05
_USAGE = """usage: python -P -m remote.agent start RUN_DIR < request.json
       python -P -m remote.agent control RUN_DIR run|leave|stop|kill
       python -P -m remote.agent inspect|clean RUN_DIR
       python -P -m remote.agent port ADDRESS FIRST LAST"""


def start(run_dir: Path, request: Any) -> dict[str, Any]:
    """Starts the run's agent, detached, or finds out that this has been done. Safe to repeat when
    an answer was lost: one folder has one agent, and a run that is done stays done."""
    run, secrets = parse_request(request)
    make_private(run_dir)
    deadline = time.monotonic() + ADOPT_DEADLINE_S
    while (lock := take_lock(run_dir)) is None:
        if holder := _holder(run_dir):
            refuse_another(run_dir, run)
            return _adopt(run_dir, run, holder)
        if time.monotonic() > deadline:
            raise Refusal(
                f"an agent has held {run_dir}/agent.lock for {ADOPT_DEADLINE_S:.0f} s without "
                "saying which it is; look at the newest log.agent.* there"
            )
        time.sleep(_POLL_S)
    refuse_another(run_dir, run)
    if finished := _finished(run_dir, run):
        return finished
    refuse_older(run_dir, run)
    refuse_unheard()
    refuse_hungry(run_dir, run)
    _clear_away(run_dir)
    held = {lock, *take_devices(run_dir, run), *reserve_ports(run)}
    write_control(run_dir, Action.RUN)  # the last word was for an earlier attempt
    write_atomic(run_dir / RUN_FILE, json.dumps(request["run"], indent=1).encode() + b"\n")
    return _start_detached(run_dir, run, secrets, held)


def _holder(run_dir: Path) -> dict[str, Any] | None:
    """The record of the agent that lives, once it has written it."""
    for identity, line in reversed(remains.recorded(run_dir)):
        if line.get("role") == "agent" and processes.is_alive(identity):
            return line
    return None


def _adopt(run_dir: Path, run: Run, holder: Mapping[str, Any]) -> dict[str, Any]:
    if holder.get("generation") != run.generation:
        raise Refusal(
            f"an agent of generation {holder.get('generation')} works in {run_dir}, not of "
            f"{run.generation}; stop it before another generation is started"
        )
    _wake(run_dir)
    return {"outcome": "adopted", **_identity_of(holder)}


def _identity_of(line: Mapping[str, Any]) -> dict[str, Any]:
    return {key: line.get(key) for key in ("pid", "boot_id", "start_time", "attempt")}


def _finished(run_dir: Path, run: Run) -> dict[str, Any] | None:
    """The answer to a launch that comes again after everything was done."""
    attempt = highest_attempt(run_dir, "agent")
    said = last_event(events_file(run_dir, "agent", attempt), "agent_finished")
    if said and said.get("generation") == run.generation and said.get("outcome") == "done":
        return {"outcome": "finished", "attempt": attempt}
    return None


def _clear_away(run_dir: Path) -> None:
    """What an agent that was killed left is dead before anything new starts."""
    if left := _remove_orphans(run_dir):
        pids = ", ".join(str(remnant.identity.pid) for remnant in left)
        raise Refusal(f"processes {pids} of an earlier attempt in {run_dir} cannot be killed")


def _remove_orphans(run_dir: Path) -> list[Remnant]:
    """Kills at once: without an agent nothing of a run can end in good order any more. The dead are
    not our children; init collects them."""
    left = remains.remove(lambda: remains.living(run_dir), term_grace_s=0.0, reap=lambda: None)
    if not left:
        shutil.rmtree(run_dir / remains.TEMPORARY, ignore_errors=True)
        with contextlib.suppress(OSError):  # on a disk that cannot be written it stays
            (run_dir / disk.RESERVE).unlink(missing_ok=True)
        limits.remove_group(run_dir)
    return left


def _start_detached(
    run_dir: Path, run: Run, secrets: Mapping[str, str], held: set[int]
) -> dict[str, Any]:
    attempt = next_attempt(run_dir, "agent")
    log = log_file(run_dir, "agent", attempt)
    answer, report = os.pipe()
    if (child := os.fork()) == 0:
        _become_agent(run_dir, run, secrets, attempt, log, held, report)
    os.close(report)
    os.waitpid(child, 0)
    with os.fdopen(answer, "rb") as pipe:
        line = pipe.read()
    if not line:
        raise Refusal(f"the agent ended before it could report; {log} says why")
    return {"outcome": "started", **_identity_of(json.loads(line))}


def _become_agent(
    run_dir: Path,
    run: Run,
    secrets: Mapping[str, str],
    attempt: int,
    log: Path,
    held: set[int],
    report: int,
) -> NoReturn:
    """The forked side of `start`: reports once its identity is on disk, then works to the end."""
    from remote.daemon import Daemon, detach

    code = 1
    try:
        detach(log, keep={*held, report})
        identity = processes.identify(os.getpid())
        assert identity is not None
        more = {"attempt": attempt, "generation": run.generation}
        remains.record(run_dir, identity, "agent", **more)
        line = {"pid": identity.pid, "boot_id": identity.boot_id, **more}
        os.write(report, json.dumps(line | {"start_time": identity.start_time}).encode())
        os.close(report)
        Daemon(run_dir, run, attempt=attempt, secrets=secrets).work()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        # Past every handler of the command it was forked from, and past a GPU driver that hangs.
        sys.stderr.flush()
        os._exit(code)


def inspect(run_dir: Path) -> dict[str, Any]:
    """What of this run lives on this host."""
    return {
        "nonce": nonce_of(run_dir),
        "agent": is_locked(run_dir),
        "processes": [_describe(remnant) for remnant in remains.living(run_dir)],
    }


def _describe(remnant: Remnant) -> dict[str, Any]:
    pid = remnant.identity.pid
    return {"pid": pid, "role": remnant.role, "command": processes.command(pid)}


def clean(run_dir: Path) -> dict[str, Any]:
    """Kills what a dead agent left. A living one is left alone: it cleans up after itself when
    asked by `control kill`."""
    if not is_locked(run_dir):
        _remove_orphans(run_dir)
    return inspect(run_dir)


def control(run_dir: Path, action: str) -> dict[str, Any]:
    if not run_dir.is_dir():
        raise Refusal(f"there is no run in {run_dir}")
    write_control(run_dir, Action(action))
    _wake(run_dir)
    return {"action": action, "agent": is_locked(run_dir)}


def _wake(run_dir: Path) -> None:
    """An agent that a signal has stopped hears no word, and would keep all that it has."""
    if stopped := remains.stopped_agent(run_dir):
        processes.send_signal(stopped, signal.SIGCONT)


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case ["start", run_dir]:
                answer = start(_real(run_dir), json.load(sys.stdin))
            case ["control", run_dir, ("run" | "leave" | "stop" | "kill") as action]:
                answer = control(_real(run_dir), action)
            case ["inspect", run_dir]:
                answer = inspect(_real(run_dir))
            case ["clean", run_dir]:
                answer = clean(_real(run_dir))
            case ["port", address, first, last]:
                answer = free_port(address, int(first), int(last))
            case _:
                print(_USAGE, file=sys.stderr)
                return 2
    except (Refusal, ValueError, OSError) as error:
        reason = disk.told(error) if isinstance(error, OSError) else str(error)
        print(json.dumps({"v": 1, "outcome": "refused", "reason": reason}), flush=True)
        return REFUSED
    print(json.dumps({"v": 1, **answer}), flush=True)
    return 0


def _real(run_dir: str) -> Path:
    """One run directory has one name: the cookie in the environment of its processes."""
    return Path(os.path.realpath(run_dir))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
