"""Copies a run's event and log files to the coordinator, byte for byte, while they grow."""

from collections.abc import Callable
from pathlib import Path

from sollol_tui.hosts.environment import Environment
from sollol_tui.hosts.ssh import HostConnection


async def follow(
    connection: HostConnection,
    environment: Environment,
    run_dir: str,
    copies: Path,
    *,
    on_beat: Callable[[bool], None],
    on_data: Callable[[str, Path], None],
) -> None:
    """Appends to `copies/<file>` until cancelled. `on_beat` says whether the agent lives. Raises
    UnreachableError when the connection is lost or silent."""
    raise NotImplementedError
