"""The payload's programs on one host, as typed calls. Their answers are data from a stranger."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sollol_tui.hosts.environment import Environment
from sollol_tui.hosts.ssh import HostConnection


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
    """What of a run still lives on a host."""

    agent: bool
    processes: tuple[RunProcess, ...]

    @property
    def is_clean(self) -> bool:
        return not self.agent and not self.processes


async def start_agent(
    connection: HostConnection,
    environment: Environment,
    run_dir: str,
    run: Mapping[str, Any],
    secrets: Mapping[str, str],
) -> AgentStarted:
    """Starts the run's agent, or finds it started: safe to repeat. Raises CommandError."""
    raise NotImplementedError


async def control(
    connection: HostConnection,
    environment: Environment,
    run_dir: str,
    action: Literal["run", "stop", "kill"],
) -> None:
    """Leaves the coordinator's word for the run."""
    raise NotImplementedError


async def inspect(connection: HostConnection, environment: Environment, run_dir: str) -> Inspection:
    """What of the run lives there now."""
    raise NotImplementedError


async def clean(connection: HostConnection, environment: Environment, run_dir: str) -> Inspection:
    """Kills what a dead agent left behind, then inspects."""
    raise NotImplementedError


async def free_port(
    connection: HostConnection, environment: Environment, address: str, ports: tuple[int, int]
) -> int | None:
    """The first port of the range that can be bound at `address`; None when all are taken."""
    raise NotImplementedError
