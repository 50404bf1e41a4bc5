"""What is done to hosts apart from jobs: their doctor, provisioning, its dry run and its prune.

Starts no job and reads no state; loaded when one of these is asked for, because it brings SSH.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from sollol_tui.hosts.doctor import Expectations, diagnose_all
from sollol_tui.hosts.facts import gather_facts
from sollol_tui.hosts.network import examine_network
from sollol_tui.hosts.preview import preview
from sollol_tui.hosts.provision import Environment, Step, provision
from sollol_tui.hosts.prune import Pruned, prune
from sollol_tui.hosts.ssh import connect
from sollol_tui.hosts.steps import Site
from sollol_tui.jobs.planner import MIN_DISK, accelerator_of
from sollol_tui.model.diagnosis import Check, Examination
from sollol_tui.model.inventory import Host, Inventory, Packages

__all__ = [
    "Environment",
    "Pruned",
    "Step",
    "examine",
    "preview",
    "provision",
    "prune",
    "visit",
]


@asynccontextmanager
async def visit(host: Host, packages: Packages, known_hosts: Sequence[Path]) -> AsyncIterator[Site]:
    """A connected host with its facts, as provisioning needs it. Raises HostError."""
    async with connect(host, known_hosts) as connection:
        facts = await gather_facts(connection)
        accelerator = accelerator_of(host, facts)
        yield await Site.read(connection, facts, packages, accelerator=accelerator, env=host.env)


async def examine(
    inventory: Inventory,
    hosts: Sequence[Host],
    known_hosts: Sequence[Path],
    report: Callable[[str, Check], None],
    *,
    network: Callable[[str], None] | None,
    fix: bool,
) -> Examination:
    """Every stage of every host, then with `network` what lies between those that passed."""
    expected = Expectations(
        known_hosts=list(known_hosts),
        packages=inventory.packages,
        accelerator_of=accelerator_of,
        disk_needed=MIN_DISK,
        fix=fix,
    )
    diagnoses = await diagnose_all(hosts, expected, report)
    passed = [
        (host, diagnosis.facts)
        for host, diagnosis in zip(hosts, diagnoses, strict=True)
        if diagnosis.facts is not None
    ]
    found = None
    if network is not None and len(passed) > 1:
        found = await examine_network(passed, inventory.network, list(known_hosts), network)
    return Examination(diagnoses=tuple(diagnoses), network=found)
