"""What a host is, asked in one script that starts nothing but sh and reads /proc."""

from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.inventory import Host


async def gather_facts(connection: HostConnection, *, timeout_s: float = 20.0) -> HostFacts:
    """Asks the host. Raises CommandError when its answer makes no sense."""
    raise NotImplementedError


def parse_facts(text: str, host: Host) -> HostFacts:
    """The facts in the script's output. Raises CommandError."""
    raise NotImplementedError
