"""The payload's programs on one host, as typed calls. Their answers are data from a stranger."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sollol_tui.hosts.environment import Environment
from sollol_tui.hosts.ssh import Completed, HostConnection
from sollol_tui.model.errors import CommandError, UnsuitableError
from sollol_tui.model.text import clean, clean_lines

ANSWER_S: Final = 30.0
_REFUSED: Final = 3
_MAX_PROCESSES: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStarted:
    """`adopted` when an agent of the same generation was there already."""

    adopted: bool
    pid: int
    boot_id: str
    start_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProcess:
    pid: int
    role: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What of a run still lives on a host; `nonce` tells whose run that is."""

    agent: bool
    processes: tuple[RunProcess, ...]
    nonce: str = ""

    @property
    def is_clean(self) -> bool:
        return not self.agent and not self.processes


async def start_agent(
    connection: HostConnection,
    environment: Environment,
    run_dir: str,
    run: Mapping[str, Any],
    secrets: Mapping[str, str],
) -> AgentStarted | None:
    """Starts the run's agent, or finds it started: safe to repeat after an answer was lost. None
    when the run is done already.

    Secrets travel on standard input, never in an argument. Raises CommandError with the agent's
    reason when it refuses."""
    request = json.dumps({"run": run, "secrets": secrets}, allow_nan=False).encode() + b"\n"
    answer, done = await _ask(
        connection, environment, "remote.agent", "start", run_dir, data=request, status=_REFUSED
    )
    outcome = answer.get("outcome")
    if outcome == "finished":
        return None
    if outcome not in ("started", "adopted"):
        reason = clean(str(answer.get("reason") or done.complaint or "no reason"), limit=500)
        raise CommandError(connection.host.name, f"its agent refuses the run: {reason}")
    return AgentStarted(
        adopted=outcome == "adopted",
        pid=_whole(answer, "pid", connection),
        boot_id=clean(str(answer.get("boot_id", "")), limit=64),
        start_time=_whole(answer, "start_time", connection),
    )


async def control(
    connection: HostConnection,
    environment: Environment,
    run_dir: str,
    action: str,
) -> None:
    """Leaves the coordinator's word (`run`, `leave`, `stop` or `kill`), which ranks read between
    steps."""
    command = environment.command("remote.agent", "control", run_dir, action)
    await connection.run(command, timeout_s=ANSWER_S)


async def inspect(connection: HostConnection, environment: Environment, run_dir: str) -> Inspection:
    """What of the run lives there now."""
    answer, _ = await _ask(connection, environment, "remote.agent", "inspect", run_dir)
    return _inspection(answer)


async def clean_up(
    connection: HostConnection, environment: Environment, run_dir: str
) -> Inspection:
    """Kills what a dead agent left behind, of this run only, and says what lives then."""
    answer, _ = await _ask(connection, environment, "remote.agent", "clean", run_dir)
    return _inspection(answer)


async def free_port(
    connection: HostConnection, environment: Environment, address: str, ports: tuple[int, int]
) -> int:
    """A port of the range that can be bound at `address`. Raises UnsuitableError when there
    is none."""
    first, last = ports
    answer, _ = await _ask(
        connection, environment, "remote.agent", "port", address, str(first), str(last)
    )
    if answer.get("port") is None:
        raise UnsuitableError(
            connection.host.name,
            f"no port of {first}-{last} is free at {clean(address)}",
            remedy="widen network.ports in the inventory, or see what listens there with `ss -ltn`",
        )
    port = _whole(answer, "port", connection)
    if not first <= port <= last:
        raise CommandError(
            connection.host.name, f"offers port {port}, which is not one of {first}-{last}"
        )
    return port


def last_answer(output: bytes) -> dict[str, Any] | None:
    """The last line that is a JSON object of our version; libraries may print before it."""
    for line in reversed(output.splitlines()):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and value.get("v") == 1:
            return value
    return None


async def _ask(
    connection: HostConnection,
    environment: Environment,
    module: str,
    *arguments: str,
    data: bytes = b"",
    status: int = 0,
) -> tuple[dict[str, Any], Completed]:
    """Runs a program that answers with one JSON line, and ends with 0 or with `status`."""
    command = environment.command(module, *arguments)
    done = await connection.run(command, input=data, timeout_s=ANSWER_S, check=False)
    answer = last_answer(done.stdout)
    what = clean(f"{module} {arguments[0]}", limit=80)
    if done.exit_status not in (0, status):
        raise CommandError(connection.host.name, f"{what} failed: {_why(done)}")
    if answer is None:
        raise CommandError(
            connection.host.name,
            f"{what} gave no answer: {_why(done)}",
            remedy=f"sollol provision {connection.host.name} --recreate",
        )
    return answer, done


def _why(done: Completed) -> str:
    """A Python traceback says why in its last line."""
    lines = [line for line in clean_lines(done.stderr[-4000:], limit=500) if line.strip()]
    return lines[-1] if lines else f"exit status {done.exit_status}"


def _whole(answer: Mapping[str, Any], key: str, connection: HostConnection) -> int:
    value = answer.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise CommandError(
            connection.host.name, f"its agent answers with {key} {clean(repr(value), limit=60)}"
        )
    return value


def _inspection(answer: Mapping[str, Any]) -> Inspection:
    listed = answer.get("processes")
    entries = (listed if isinstance(listed, list) else [])[:_MAX_PROCESSES]
    processes = tuple(
        RunProcess(
            pid=entry["pid"],
            role=clean(str(entry.get("role", "")), limit=60),
            command=clean(str(entry.get("command", "")), limit=300),
        )
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("pid"), int)
    )
    return Inspection(
        agent=answer.get("agent") is True,
        processes=processes,
        nonce=clean(str(answer.get("nonce", "")), limit=64),
    )
