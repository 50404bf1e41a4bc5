"""Where the workers of a job reach one that runs on the coordinator itself: not at the address that
only this machine can use. Sends nothing."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

from sollol_tui.hosts.interfaces import source_address
from sollol_tui.model.inventory import ConnectionKind, Inventory
from sollol_tui.model.plan import Plan


def with_own_addresses(
    plan: Plan,
    inventory: Inventory,
    way: Callable[[str], str | None] = source_address,
) -> Plan:
    """The plan in which workers on this machine stand where the others reach them. `way` tells the
    address from which this machine reaches another one. Where all are on this machine, or nothing
    leads to the others, it stays as it is."""
    others = [w.address for w in plan.workers if not ip_address(w.address).is_loopback]
    outside = next(filter(None, map(way, others)), None)
    if outside is None or len(others) == len(plan.workers):
        return plan
    everyone = inventory.with_coordinator()

    def is_here(host: str) -> bool:
        return everyone.host(host).connection is ConnectionKind.LOCAL

    workers = tuple(
        replace(worker, address=outside)
        if is_here(worker.host) and ip_address(worker.address).is_loopback
        else worker
        for worker in plan.workers
    )
    return replace(plan, workers=workers)
