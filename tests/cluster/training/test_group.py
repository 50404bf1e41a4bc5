"""Ranks of one group on hosts between which packets vanish while the group forms."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster.coordinator import CHECKOUT
from tests.cluster.lab import Lab
from tests.cluster.machine import Machine
from tests.cluster.training.environment import WORKER_PYTHON, needs_worker_python

STORE_PORT = 29555
# The first rank keeps the store until the other one is done with it.
MEETS = """
import socket, sys, time
from datetime import timedelta
import torch.distributed as dist
from remote.engine.group import Group, GroupLostError
rank, first, own, port, limit_s = int(sys.argv[1]), *sys.argv[2:4], *map(float, sys.argv[4:])
store = dist.TCPStore(first, int(port), None, rank == 0, timeout=timedelta(minutes=2),
                      wait_for_workers=False)
store.set(f"here {rank}", "")
store.wait(["here 0", "here 1"])
try:
    Group("1/1/1", first, int(port), own, rank, 2, limit_s)
    print("they met")
except GroupLostError as error:
    print(error, error.gave_up)
store.set(f"done {rank}", "")
store.wait(["done 0", "done 1"])
if rank == 0:
    store.wait(["gone"])
else:
    store.set("gone", "")
"""


def meet(hosts: list[Machine], limit_s: float) -> list[str]:
    """What both ranks of a group say of it."""

    def run(rank: int) -> str:
        addresses = [hosts[0].address, hosts[rank].address]
        command = [WORKER_PYTHON, "-c", MEETS, rank, *addresses, STORE_PORT, limit_s]
        environment = {"PYTHONPATH": str(CHECKOUT)}
        return hosts[rank].run([*map(str, command)], timeout_s=150, env=environment).stdout.strip()

    with ThreadPoolExecutor(2) as pool:
        return [*pool.map(run, (0, 1))]


@needs_worker_python
@pytest.mark.timeout(200)
def test_members_that_cannot_connect_are_given_up_in_time_though_gloo_tries_on(lab: Lab) -> None:
    """With a limit of 7 s gloo says so after 36."""
    hosts = lab.hosts[:2]
    for host in hosts:
        new_to_others = ["--syn", "!", "--dport", str(STORE_PORT), "-j", "DROP"]
        host.run(["iptables", "-I", "INPUT", "-i", "eth0", "-p", "tcp", *new_to_others])
    assert meet(hosts, 1.0) == ["no meeting within 1.0 s True"] * 2
    for host in hosts:
        host.heal()
    assert meet(hosts, 60.0) == ["they met"] * 2
