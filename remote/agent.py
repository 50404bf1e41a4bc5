"""The commands by which a coordinator speaks to a run on this host: start, control, inspect, clean,
port. Each answers with one JSON line; what it does not say it has not done."""

import errno
import ipaddress
import json
import os
import random
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from remote import disk, limits, processes, remains
from remote.attempts import events_file, highest_attempt, log_file, next_attempt
from remote.control import Action, write_control
from remote.ending import last_event
from remote.files import write_atomic
from remote.lease import DeviceTakenError, hold_device, hold_port, is_locked, take_lock
from remote.remains import Remnant
from remote.run import FILE as RUN_FILE
from remote.run import Run, RunError, parse_run, read_run

ADOPT_DEADLINE_S = 10.0
PORT_DEADLINE_S = 1.0  # `port` and an agent that ends hold a port or a device for an instant
REFUSED = 3
_POLL_S = 0.05
_USAGE = """usage: python -P -m remote.agent start RUN_DIR < request.json
       python -P -m remote.agent control RUN_DIR run|leave|stop|kill
       python -P -m remote.agent inspect|clean RUN_DIR
       python -P -m remote.agent port ADDRESS FIRST LAST"""


class Refusal(Exception):
    """The command was not carried out; the message says why and what to do next."""


def start(run_dir: Path, request: Any) -> dict[str, Any]:
    """Starts the run's agent, detached, or finds out that this has been done. Safe to repeat when
    an answer was lost: one folder has one agent, and a run that is done stays done."""
    run, secrets = _parse_request(request)
    _make_private(run_dir)
    deadline = time.monotonic() + ADOPT_DEADLINE_S
    while (lock := take_lock(run_dir)) is None:
        if holder := _holder(run_dir):
            _refuse_another(run_dir, run)
            return _adopt(run_dir, run, holder)
        if time.monotonic() > deadline:
            raise Refusal(
                f"an agent has held {run_dir}/agent.lock for {ADOPT_DEADLINE_S:.0f} s without "
                "saying which it is; look at the newest log.agent.* there"
            )
        time.sleep(_POLL_S)
    _refuse_another(run_dir, run)
    if finished := _finished(run_dir, run):
        return finished
    _refuse_older(run_dir, run)
    _refuse_unheard()
    _refuse_hungry(run_dir, run)
    _clear_away(run_dir)
    held = {lock, *_take_devices(run_dir, run), *_reserve_ports(run)}
    write_control(run_dir, Action.RUN)  # the last word was for an earlier attempt
    write_atomic(run_dir / RUN_FILE, json.dumps(request["run"], indent=1).encode() + b"\n")
    return _start_detached(run_dir, run, secrets, held)


def _parse_request(request: Any) -> tuple[Run, dict[str, str]]:
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


def _make_private(run_dir: Path) -> None:
    os.umask(0o077)
    run_dir.mkdir(parents=True, exist_ok=True)
    if run_dir.stat().st_uid != os.geteuid():
        raise Refusal(f"{run_dir} belongs to another user; choose another workdir for this host")
    run_dir.chmod(0o700)


def _nonce_of(run_dir: Path) -> str:
    """Whose run this folder holds; "" when it does not say."""
    try:
        nonce = json.loads((run_dir / RUN_FILE).read_bytes()).get("nonce", "")
    except (OSError, ValueError, AttributeError):
        return ""
    return nonce if isinstance(nonce, str) else ""


def _refuse_another(run_dir: Path, run: Run) -> None:
    """Ids are unique for one coordinator only, run directories are shared by all of them."""
    if (run_dir / RUN_FILE).exists() and _nonce_of(run_dir) != run.nonce:
        raise Refusal(
            f"the run directory {run_dir} belongs to another job of the same id; submit again, "
            "which gives the job another id"
        )


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


def _refuse_older(run_dir: Path, run: Run) -> None:
    try:
        newest = read_run(run_dir).generation
    except (FileNotFoundError, ValueError):
        return  # no run yet, or one that says nothing readable
    if run.generation < newest:
        raise Refusal(
            f"{run_dir} has already seen generation {newest}; generation {run.generation} is over"
        )


def _refuse_hungry(run_dir: Path, run: Run) -> None:
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


def _refuse_unheard() -> None:
    """A coordinator that died after it asked has been replaced by one that looked for this run
    before the lock was taken, found nothing, and may have called it over."""
    answer = select.poll()
    answer.register(sys.stdout.fileno(), 0)  # only whether the other end is gone
    if answer.poll(0):
        raise Refusal("whoever asked for this start is gone; ask again")


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
        (run_dir / disk.RESERVE).unlink(missing_ok=True)
        limits.remove_group(run_dir)
    return left


def _take_devices(run_dir: Path, run: Run) -> set[int]:
    """What the ranks compute on. The coordinator's own jobs do not meet there; those of two
    coordinators do, and the first agent decides."""
    deadline = time.monotonic() + PORT_DEADLINE_S
    leases: set[int] = set()
    for rank in run.own_ranks:
        while True:
            try:
                lease = hold_device(run_dir, run, rank)
                break
            except DeviceTakenError as error:
                if time.monotonic() > deadline:
                    raise Refusal(str(error)) from None
                time.sleep(_POLL_S)
        leases |= {lease} if lease is not None else set()
    return leases


def _reserve_ports(run: Run) -> set[int]:
    """The ports at which this host is met. A store listens only many seconds from now; until then
    another job would find its port free."""
    ports = {light.port for light in run.own_lighthouses}
    if run.shares_a_world and any(rank.rank == 0 for rank in run.own_ranks):
        ports.add(run.main_port)
    deadline = time.monotonic() + PORT_DEADLINE_S
    leases: set[int] = set()
    for port in sorted(ports):
        while (lease := hold_port(port)) is None:
            if time.monotonic() > deadline:
                raise Refusal(
                    f"main port {port} is in use by another job on this host; "
                    "start the next generation with another port"
                )
            time.sleep(_POLL_S)
        leases.add(lease)
    return leases


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
        "nonce": _nonce_of(run_dir),
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


def free_port(address: str, first: int, last: int) -> dict[str, Any]:
    """A port that no agent holds and a store could listen on: free at `address` and on all
    interfaces, because torch's stores listen on all of them. The search begins anywhere in the
    range, so that coordinators that ask at the same time rarely hear the same."""
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    everywhere = "::" if family == socket.AF_INET6 else "0.0.0.0"
    size = last - first + 1
    begin = random.randrange(size) if size > 0 else 0
    for number in range(size):
        port = first + (begin + number) % size
        if (lease := hold_port(port)) is None:
            continue
        try:
            if _can_listen(family, address, port) and _can_listen(family, everywhere, port):
                return {"port": port}
        finally:
            os.close(lease)
    return {"port": None}


def _can_listen(family: socket.AddressFamily, address: str, port: int) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        # As the stores do: connections of an earlier run that still time out do not matter.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
            listener.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise Refusal(f"cannot listen on {address}: {os.strerror(error.errno or 0)}") from None
    return True


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
        print(json.dumps({"v": 1, "outcome": "refused", "reason": str(error)}), flush=True)
        return REFUSED
    print(json.dumps({"v": 1, **answer}), flush=True)
    return 0


def _real(run_dir: str) -> Path:
    """One run directory has one name: the cookie in the environment of its processes."""
    return Path(os.path.realpath(run_dir))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
