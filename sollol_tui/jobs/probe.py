"""Asks hosts what they are and how busy they are, many at once. A lost host is a value here."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from sollol_tui.hosts.facts import gather_facts
from sollol_tui.hosts.ssh import connect
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import AuthenticationError, HostError, HostKeyError
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.snapshot import HostState, HostView

AT_ONCE: Final = 32
FACTS_TIMEOUT_S: Final = 20.0
FRESH_S: Final = 5.0  # a reading younger than this is not asked for again


@dataclass(slots=True, kw_only=True)
class Answers:
    facts: dict[str, HostFacts] = field(default_factory=dict)
    errors: dict[str, HostError] = field(default_factory=dict)


async def ask(home: Home, hosts: Iterable[Host], *, timeout_s: float | None = None) -> Answers:
    """The facts of each host, or the error that names it. Nobody waits for a slower one's failure
    longer than its own timeouts."""
    answers, gate = Answers(), asyncio.Semaphore(AT_ONCE)

    async def one(host: Host) -> None:
        async with gate:
            try:
                async with connect(host, [home.known_hosts], timeout_s=timeout_s) as connection:
                    answers.facts[host.name] = await gather_facts(
                        connection, timeout_s=timeout_s or FACTS_TIMEOUT_S
                    )
            except HostError as error:
                answers.errors[host.name] = error

    async with asyncio.TaskGroup() as group:
        for host in hosts:
            group.create_task(one(host))
    return answers


def note_answers(store: Store, inventory: Inventory, answers: Answers) -> None:
    """Keeps what the hosts said as their newest readings."""
    for name, facts in answers.facts.items():
        store.note_reading(
            inventory.file, name, state=HostState.UP, reason="", data=_figures(facts)
        )
    for name, error in answers.errors.items():
        refused = isinstance(error, AuthenticationError | HostKeyError)
        state = HostState.REFUSED if refused else HostState.DOWN
        reason = "; ".join(filter(None, [error.message, error.remedy]))
        store.note_reading(inventory.file, name, state=state, reason=reason, data={})


def stale_hosts(inventory: Inventory, views: Iterable[HostView]) -> list[Host]:
    """The enabled hosts of which nothing fresh is known; workers of a running job tell it."""
    now = time.time()
    fresh = {view.name for view in views if view.at is not None and now - view.at < FRESH_S}
    return [host for host in inventory.hosts if host.enabled and host.name not in fresh]


def _figures(facts: HostFacts) -> dict[str, Any]:
    return {
        "cpu_percent": None,
        "cpu_cores": facts.cpu_cores,
        "ram_used_bytes": facts.ram_bytes - facts.ram_available_bytes,
        "ram_total_bytes": facts.ram_bytes,
        "disk_free_bytes": facts.disk_free_bytes,
        "gpus": [
            {"index": gpu.index, "name": gpu.name, "vram_total_bytes": gpu.vram_bytes}
            for gpu in facts.gpus
        ],
    }
