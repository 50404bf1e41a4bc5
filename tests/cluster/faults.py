"""What may happen to the machines of a lab, by name, and undone at the end of a `with` or by
`Lab.reset`. Knows no job: what must hold meanwhile is the tests' to say.

| fault | how | what the others see |
|---|---|---|
| `Machine.crash` | everything is killed | FIN |
| `Machine.power_off` | the cable first, then everything is killed | silence, for good |
| `unplugged` | the cable is out | silence, then the old connections |
| `suspended` | SIGSTOP to some processes | silence of these |
| `cut_off` | all packets from some hosts are dropped | half of a link |
| `parted` | packets between two sets are dropped, both ways | two clusters |
| `slowed` | a CPU quota | late steps |
| `narrowed` | a token bucket on the cable | late sums |
"""

import contextlib
from collections.abc import Iterable, Iterator

from tests.cluster.machine import Machine


@contextlib.contextmanager
def unplugged(*hosts: Machine) -> Iterator[None]:
    for host in hosts:
        host.cut()
    try:
        yield
    finally:
        for host in hosts:
            host.heal()


@contextlib.contextmanager
def suspended(host: Machine, *programs: str) -> Iterator[None]:
    """Stops every process of the host whose command line holds one of `programs`, where it is: in
    the middle of a sum as well as between two steps."""
    pids = [
        str(process.pid)
        for process in host.processes()
        if any(program in process.command for program in programs)
    ]
    assert pids, f"nothing on {host.name} runs {' or '.join(programs)}"
    host.run(["kill", "-STOP", *pids])
    try:
        yield
    finally:
        host.run(["kill", "-CONT", *pids], check=False)  # some may be dead by now


@contextlib.contextmanager
def cut_off(deaf: Machine, *silenced: Machine) -> Iterator[None]:
    """`deaf` hears nothing that `silenced` say, which still hear it."""
    for host in silenced:
        deaf.drop_incoming_from(host.address)
    try:
        yield
    finally:
        deaf.heal()


@contextlib.contextmanager
def parted(one: Iterable[Machine], other: Iterable[Machine]) -> Iterator[None]:
    """No packet goes from one side to the other; the coordinator sees both."""
    sides = [tuple(one), tuple(other)]
    for here, there in (sides, sides[::-1]):
        for deaf in here:
            for host in there:
                deaf.drop_incoming_from(host.address)
    try:
        yield
    finally:
        for host in (*sides[0], *sides[1]):
            host.heal()


@contextlib.contextmanager
def slowed(host: Machine, percent: int) -> Iterator[None]:
    """100 is one core."""
    usual = host.cpu_percent
    host.set_cpu(percent)
    try:
        yield
    finally:
        host.set_cpu(usual)


@contextlib.contextmanager
def narrowed(host: Machine, rate: str) -> Iterator[None]:
    usual = host.rate
    host.set_rate(rate)
    try:
        yield
    finally:
        host.set_rate(usual)
