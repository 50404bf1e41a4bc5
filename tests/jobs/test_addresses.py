"""A worker on the coordinator itself stands where the other workers reach it."""

from dataclasses import replace

from sollol_tui.jobs.addresses import with_own_addresses
from sollol_tui.model.inventory import ConnectionKind, Host, Inventory
from sollol_tui.model.plan import Plan
from tests.jobs.samples import plan

HERE = Host(name="here", connection=ConnectionKind.LOCAL)
INVENTORY = Inventory(file="inventory.yaml", hosts=(HERE, Host(name="w1"), Host(name="w2")))


def plan_at(**addresses: str) -> Plan:
    made = plan(*addresses)
    workers = tuple(replace(w, address=addresses[w.host]) for w in made.workers)
    return replace(made, workers=workers)


def way(peer: str) -> str | None:
    """From a machine that is 10.0.0.9 in one network and has no way into any other."""
    return "10.0.0.9" if peer.startswith("10.0.0.") else None


def addresses(made: Plan) -> dict[str, str]:
    return {
        worker.host: worker.address for worker in with_own_addresses(made, INVENTORY, way).workers
    }


def test_a_worker_here_stands_at_the_address_from_which_the_others_are_reached() -> None:
    told = addresses(plan_at(here="127.0.0.1", coordinator="127.0.0.1", w1="10.0.0.1"))
    assert told == {"here": "10.0.0.9", "coordinator": "10.0.0.9", "w1": "10.0.0.1"}


def test_one_that_is_not_on_the_first_network_is_no_obstacle() -> None:
    told = addresses(plan_at(w2="192.168.7.2", here="127.0.0.1", w1="10.0.0.1"))
    assert told["here"] == "10.0.0.9"


def test_where_nobody_else_could_reach_it_or_would_have_to_it_stays() -> None:
    for made in (
        plan_at(here="127.0.0.1"),
        plan_at(here="127.0.0.1", coordinator="127.0.0.1"),
        plan_at(here="127.0.0.1", w2="192.168.7.2"),
        plan_at(here="10.0.0.77", w1="10.0.0.1"),  # its internal_ip, or one in network.cidr
        plan_at(w1="127.0.0.1", w2="10.0.0.2"),  # w1 is no machine of ours
    ):
        assert with_own_addresses(made, INVENTORY, way) == made
