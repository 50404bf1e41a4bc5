"""Makes a host able to train: workdir, uv, Python, environment, payload, self-check."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from sollol_tui.hosts.environment import Environment
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.inventory import Packages

__all__ = ["Environment", "Step", "StepState", "provision"]


class StepState(StrEnum):
    CHECKING = "checking"
    UNCHANGED = "unchanged"
    WORKING = "working"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a step is doing now; `name` is workdir, uv, python, environment, payload or selfcheck."""

    name: str
    state: StepState
    detail: str = ""


async def provision(
    connection: HostConnection,
    facts: HostFacts,
    packages: Packages,
    *,
    accelerator: str,
    env: Mapping[str, str],
    report: Callable[[Step], None],
) -> Environment:
    """Makes the host able to train; a second run changes nothing. `accelerator` is cpu or cuda.
    Raises UnsuitableError or CommandError with the reason and the remedy."""
    raise NotImplementedError
