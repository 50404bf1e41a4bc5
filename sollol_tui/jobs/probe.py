"""Asks hosts what they are or how busy they are, many at once. A lost host is a value here."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Final, Generic, TypeVar

from sollol_tui.hosts.ssh import HostConnection, connect
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import AuthenticationError, HostError, HostKeyError, unexpected
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.snapshot import HostState, HostView, Reading

FRESH_S: Final = 5.0  # a reading younger than this is not asked for again
T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Answers(Generic[T]):
    """What each host said, or the error that names it."""

    said: dict[str, T] = field(default_factory=dict)
    errors: dict[str, HostError] = field(default_factory=dict)

    def reasons(self) -> dict[str, str]:
        """Why each silent host is silent, and what to do."""
        return {
            name: "; ".join(filter(None, [error.message, error.remedy]))
            for name, error in self.errors.items()
        }


async def ask(
    home: Home,
    hosts: Iterable[Host],
    question: Callable[[HostConnection], Awaitable[T]],
    *,
    timeout_s: float | None = None,
) -> Answers[T]:
    """Puts one question to every host. `timeout_s` bounds the connection; a host that cannot be
    reached keeps nobody else waiting longer than that."""
    answers: Answers[T] = Answers()

    async def one(host: Host) -> None:
        try:
            async with connect(host, [home.known_hosts], timeout_s=timeout_s) as connection:
                answers.said[host.name] = await question(connection)
        except HostError as error:
            answers.errors[host.name] = error
        except Exception as error:  # a defect of ours is told for the host where it showed
            answers.errors[host.name] = unexpected(host.name, error)

    async with asyncio.TaskGroup() as group:
        for host in hosts:
            group.create_task(one(host))
    return answers


def note_readings(store: Store, inventory: Inventory, answers: Answers[Reading]) -> None:
    """Keeps what the hosts said as their newest readings."""
    for name, reading in answers.said.items():
        data = asdict(reading)
        store.note_reading(inventory.file, name, state=HostState.UP, reason="", data=data)
    note_silence(store, inventory, answers)


def note_silence(store: Store, inventory: Inventory, answers: Answers[T]) -> None:
    """Keeps why hosts could not be asked."""
    for name, reason in answers.reasons().items():
        refused = isinstance(answers.errors[name], AuthenticationError | HostKeyError)
        state = HostState.REFUSED if refused else HostState.DOWN
        store.note_reading(inventory.file, name, state=state, reason=reason, data={})


def stale_hosts(inventory: Inventory, views: Iterable[HostView]) -> list[Host]:
    """The enabled hosts of which nothing fresh is known; workers of a running job tell it."""
    now = time.time()
    fresh = {view.name for view in views if view.at is not None and now - view.at < FRESH_S}
    return [host for host in inventory.hosts if host.enabled and host.name not in fresh]
