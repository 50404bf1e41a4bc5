"""The ports of this host at which a job's stores and lighthouses will listen: one that is free, and
those that a run keeps until then. Listens at none itself."""

import errno
import ipaddress
import os
import random
import socket
import time
from typing import Any

from remote.admission import Refusal
from remote.lease import HELD_FOR_AN_INSTANT_S, POLL_S, hold_port
from remote.run import Run


def reserve_ports(run: Run) -> set[int]:
    """The ports at which this host is met. A store listens only many seconds from now; until then
    another job would find its port free."""
    ports = {light.port for light in run.own_lighthouses}
    if run.shares_a_world and any(rank.rank == 0 for rank in run.own_ranks):
        ports.add(run.main_port)
    deadline = time.monotonic() + HELD_FOR_AN_INSTANT_S
    leases: set[int] = set()
    for port in sorted(ports):
        while (lease := hold_port(port)) is None:
            if time.monotonic() > deadline:
                raise Refusal(
                    f"main port {port} is in use by another job on this host; "
                    "start the next generation with another port"
                )
            time.sleep(POLL_S)
        leases.add(lease)
    return leases


def free_port(address: str, first: int, last: int) -> dict[str, Any]:
    """A port that no agent holds and a store could listen on: free at `address` and on all
    interfaces, because torch's stores listen on all of them. The search begins anywhere in the
    range, so that coordinators that ask at the same time rarely hear the same."""
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    everywhere = "::" if family == socket.AF_INET6 else "0.0.0.0"
    size = last - first + 1
    begin = random.randrange(size) if size > 0 else 0
    for number in range(size):
        port = first + (begin + number) % size
        if (lease := hold_port(port)) is None:
            continue
        try:
            if _can_listen(family, address, port) and _can_listen(family, everywhere, port):
                return {"port": port}
        finally:
            os.close(lease)
    return {"port": None}


def _can_listen(family: socket.AddressFamily, address: str, port: int) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        # As the stores do: connections of an earlier run that still time out do not matter.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
            listener.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise Refusal(f"cannot listen on {address}: {os.strerror(error.errno or 0)}") from None
    return True
