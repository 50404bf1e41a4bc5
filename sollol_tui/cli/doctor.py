"""`sollol doctor`: what is well with each host and between them, and the remedy where it is not."""

import json
import textwrap
import time
from collections.abc import Iterator, Sequence
from typing import Final

import click
from rich.cells import set_cell_size

from sollol_tui.blocking import run
from sollol_tui.cli.bars import Bars
from sollol_tui.cli.exits import ExitCode, exit_code_of_all
from sollol_tui.cli.params import HOSTS
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.terminal import width
from sollol_tui.model.diagnosis import Check, Diagnosis, Examination, Outcome, Stage
from sollol_tui.model.links import Endpoint, Firewall, Link, NetworkReport, Reach, cost_s
from sollol_tui.model.patterns import select

_MARKS: Final = {
    Outcome.OK: "ok",
    Outcome.WARNING: "warn",
    Outcome.FAILED: "FAIL",
    Outcome.SKIPPED: "-",
}
_WIDEST: Final = 110
_INDENT: Final = " " * 20
_LISTED: Final = 4  # so many hosts: a line for each direction; more: a matrix
_FIGURES: Final = 47  # columns of a direction's line that are no names
_SQUARE: Final = 8  # the widest matrix that fits 80 columns


@click.command()
@click.argument("names", metavar="[HOST...]", nargs=-1, type=HOSTS)
@click.option(
    "--network", is_flag=True, help="Ports, bandwidth and latency between the hosts as well."
)
@click.option("--fix", is_flag=True, help="Mend what needs no root and loses nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object (schema sollol.doctor/1).")
@pass_session
def doctor(
    session: Session, names: tuple[str, ...], network: bool, fix: bool, as_json: bool
) -> int:
    """Checks hosts stage by stage, with the remedy for each failure.

    \b
    Example: sollol doctor hydra attic --network
    """
    with session.client(acts=fix) as client:
        inventory = client.inventory()
        chosen = {h.name: h for name in names or ("all",) for h in select(inventory, name).hosts}
        progress = _Progress(len(chosen), beside_json=as_json)
        try:
            examined = run(
                client.examine_hosts(
                    list(chosen.values()),
                    progress.checked,
                    network=progress.say if network else None,
                    fix=fix,
                )
            )
        finally:
            progress.clear()
    if as_json:
        data = {"schema": "sollol.doctor/1", "at": time.time(), **examined.as_data()}
        click.echo(json.dumps(data))
    else:
        _print(examined, inventory.network.ports, network=network, fix=fix)
    return _exit_code(examined)


class _Progress:
    """What the doctor is at, in one line."""

    def __init__(self, hosts: int, *, beside_json: bool) -> None:
        self._hosts = hosts
        self._done: set[str] = set()
        self._bars = Bars(beside_json=beside_json)

    def checked(self, host: str, check: Check) -> None:
        rest = list(Stage)[list(Stage).index(check.stage) + 1 :]
        if check.outcome is Outcome.FAILED or not rest:
            self._done.add(host)
            doing = f"{host} done" if check.outcome is not Outcome.FAILED else f"{host} failed"
        else:
            doing = f"{host}: {rest[0]}"
        self.say(f"{len(self._done)}/{self._hosts} hosts done; {doing}")

    def say(self, text: str) -> None:
        self._bars.show("hosts", len(self._done) / max(1, self._hosts), text)

    def clear(self) -> None:
        self._bars.clear()


def _exit_code(examined: Examination) -> int:
    errors = [each.error for each in examined.diagnoses if each.error is not None]
    code = exit_code_of_all(errors)
    network = examined.network
    if code is ExitCode.OK and network is not None and network.has_failed:
        return ExitCode.FAILED
    return code


def _width() -> int:
    return max(40, min(width(), _WIDEST))


def _print(examined: Examination, ports: tuple[int, int], *, network: bool, fix: bool) -> None:
    for diagnosis in examined.diagnoses:
        for line in _host_lines(diagnosis, fix=fix):
            click.echo(line)
        click.echo()
    if examined.network is not None:
        for line in _network_lines(examined.network, ports):
            click.echo(line)
        click.echo()
    elif network:
        click.echo("network   nothing to try: it takes two hosts that pass\n")
    for line in _wrapped(_summary(examined, fix=fix)):
        click.echo(line)


def _host_lines(diagnosis: Diagnosis, *, fix: bool) -> Iterator[str]:
    yield diagnosis.host
    reached = [check for check in diagnosis.checks if check.is_reached]
    for check in reached:
        head = f"  {_MARKS[check.outcome]:<4}  {check.stage.value:<12}"
        texts = [check.found, check.reason]
        texts += [f"-> {check.remedy}" if check.remedy else ""]
        texts += [f"-> --fix would {check.fix}" if check.fix and not fix else ""]
        texts += [f"--fix {check.fixed}" if check.fixed else ""]
        lines = [line for text in texts if text for line in _wrapped(text, _INDENT)]
        yield head + lines[0][len(head) :] if lines else head
        yield from lines[1:]
    rest = ", ".join(check.stage for check in diagnosis.checks[len(reached) :])
    if rest:
        first, *more = _wrapped(f"not reached: {rest}", " " * 8)
        yield "  -" + first[3:]
        yield from more


def _wrapped(text: str, indent: str = "") -> list[str]:
    """A word longer than the line stays whole: it may be something to copy."""
    after = indent + "   " if text.startswith("-> ") else indent
    return textwrap.wrap(
        text,
        _width(),
        initial_indent=indent,
        subsequent_indent=after,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _summary(examined: Examination, *, fix: bool) -> str:
    network = examined.network
    unfit = {each.host for each in network.endpoints if each.problem} if network else set()
    counts = dict.fromkeys((Outcome.OK, Outcome.WARNING, Outcome.FAILED), 0)
    for diagnosis in examined.diagnoses:
        counts[Outcome.FAILED if diagnosis.host in unfit else diagnosis.outcome] += 1
    words = {Outcome.OK: "ok", Outcome.WARNING: "with warnings", Outcome.FAILED: "failed"}
    told = ", ".join(f"{count} {words[outcome]}" for outcome, count in counts.items() if count)
    count = len(examined.diagnoses)
    parts = [f"{count} {'host' if count == 1 else 'hosts'}: {told or 'none'}"]
    if network is not None and network.blocked:
        parts.append(f"{len(network.blocked)} of {len(network.links)} directions blocked")
    mendable = "" if fix else _mendable(examined.diagnoses)
    if mendable:
        only = "" if len(parts) == 1 else " only"
        parts.append(f"`sollol doctor --fix` mends{only}: {mendable}")
    return "; ".join(parts)


def _mendable(diagnoses: Sequence[Diagnosis]) -> str:
    """ "the workdir of w1, w2 and 3 more; the environment of w4"; what is only not there yet is no
    defect."""
    of_stage: dict[Stage, list[str]] = {}
    for diagnosis in diagnoses:
        for check in diagnosis.checks:
            if check.fix and check.outcome is not Outcome.SKIPPED:
                of_stage.setdefault(check.stage, []).append(diagnosis.host)
    return "; ".join(
        f"the {stage} of {', '.join(hosts[:4])}"
        + (f" and {len(hosts) - 4} more" if len(hosts) > 4 else "")
        for stage, hosts in of_stage.items()
    )


def _network_lines(network: NetworkReport, ports: tuple[int, int]) -> Iterator[str]:
    first, last = ports
    yield from _wrapped(
        f"network   one port of {first}-{last} and one that the kernel chose, each direction"
    )
    for endpoint in network.endpoints:
        yield from _endpoint_lines(endpoint)
    if not network.links:
        return
    yield ""
    names = [each.host for each in network.endpoints if not each.problem]
    if len(names) <= _LISTED:
        yield from _list_lines(network.links, ports)
    elif len(names) <= _SQUARE:
        yield from _matrix_lines(names, network.links)
    yield from _verdict_lines(network)


def _endpoint_lines(endpoint: Endpoint) -> Iterator[str]:
    mark = "FAIL" if endpoint.problem else "warn" if endpoint.is_public else "ok"
    head = f"  {mark:<4}  {set_cell_size(endpoint.host, 12)}"
    if endpoint.problem:
        text = endpoint.problem + (f"\n-> {endpoint.remedy}" if endpoint.remedy else "")
    else:
        speed = f", link {endpoint.speed_mbit:,} Mbit/s" if endpoint.speed_mbit else ""
        text = f"{endpoint.address} on {endpoint.interface}{speed}; used by {endpoint.backends}"
        if endpoint.is_public:
            text += (
                "\nthe address is public, and these ports know no authentication"
                "\n-> set internal_ip to a private or VPN address"
            )
    lines = [line for part in text.split("\n") for line in _wrapped(part, _INDENT)]
    yield head + lines[0][len(head) :]
    yield from lines[1:]


def _list_lines(links: Sequence[Link], ports: tuple[int, int]) -> Iterator[str]:
    job = f"{ports[0]}-{ports[1]}"
    longest = max(len(name) for link in links for name in (link.origin, link.target, "FROM"))
    wide = max(6, min(13, longest, (_width() - _FIGURES) // 2 - 1))
    names = f"{'FROM':<{wide}} {'TO':<{wide}} "
    yield f"  {names}{job:<13}{'KERNEL PORT':<13}{'MBIT/S':>8}{'LATENCY':>11}"
    for link in links:
        names = f"{set_cell_size(link.origin, wide)} {set_cell_size(link.target, wide)} "
        yield (
            f"  {names}{link.job_port.value:<13}{link.free_port.value:<13}"
            f"{_mbit(link):>8}{_latency(link):>11}"
        )


def _matrix_lines(names: Sequence[str], links: Sequence[Link]) -> Iterator[str]:
    """Mbit/s from the row to the column, or what is in the way."""
    known = {(link.origin, link.target): link for link in links}
    short = [set_cell_size(name, 8).rstrip() for name in names]
    yield "Mbit/s from each line's host to each column's"
    yield " " * 8 + "".join(f" {name:>8}" for name in short)
    for name, head in zip(names, short, strict=True):
        cells = [_cell(known.get((name, other))) for other in names]
        yield f"{head:<8}" + "".join(f" {cell:>8}" for cell in cells)


def _cell(link: Link | None) -> str:
    if link is None:
        return "-"
    return link.blocked.value if link.blocked else _mbit(link)


def _mbit(link: Link) -> str:
    if not link.bytes_per_s:
        return "-"
    rate = link.bytes_per_s * 8 / 1e6
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"


def _latency(link: Link) -> str:
    return "-" if link.latency_s is None else f"{link.latency_s * 1000:.2f} ms"


def _alike(links: Sequence[Link]) -> list[tuple[list[str], Link]]:
    """The links to one target with the same in the way, as the hosts they come from and one of
    them."""
    groups: dict[tuple[str, str], tuple[list[str], Link]] = {}
    for link in links:
        origins, _ = groups.setdefault((link.target, _in_the_way(link)), ([], link))
        origins.append(link.origin)
    return list(groups.values())


def _in_the_way(link: Link) -> str:
    silent = ("", "Connection refused", "timed out")  # an outcome says as much
    detail = f" ({link.detail})" if link.detail not in silent else ""
    if link.job_port is link.free_port:
        return f"every port {link.free_port.value}{detail}"
    ports = {"its port of the range": link.job_port, "kernel-chosen ports": link.free_port}
    shut = (Reach.OK, Reach.UNTRIED)
    told = [f"{name} {reach.value}" for name, reach in ports.items() if reach not in shut]
    return ", ".join(told) + detail


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s" if value >= 1 else f"{value:.2f} s"


def _verdict_lines(network: NetworkReport) -> Iterator[str]:
    """In words: what is blocked and how to open it, what leaves astray, what is slow."""
    yield ""
    for origins, link in _alike(network.blocked):
        yield from _wrapped(f"FAIL  {', '.join(origins)} -> {link.target}: {_in_the_way(link)}")
    for link in network.links:
        if link.blocked is None and link.detail:
            yield from _wrapped(f"warn  {link.origin} -> {link.target}: {link.detail}")
    for link in network.astray:
        yield from _wrapped(
            f"warn  {link.origin} reaches {link.target} from {link.source}, which is not the "
            "address that its peers are told; set internal_ip of both to one network"
        )
    for host in network.cut_off:
        yield from _wrapped(
            f"FAIL  {host} is cut off both ways, while others reach each other: its own firewall "
            "comes first, then `sollol doctor --network` again"
        )
    for remedy in network.remedies:
        seen = remedy.firewall is not Firewall.UNKNOWN
        known = f"its firewall is {remedy.firewall.value}" if seen else "its firewall is not known"
        yield from _wrapped(f"-> on {remedy.host}, let its peers in ({known}):")
        yield f"   {remedy.line}"
        if remedy.alternative:
            yield f"   or: {remedy.alternative}"
    waits = sorted(link.latency_s for link in network.links if link.latency_s is not None)
    if waits:
        yield from _wrapped(
            f"latency  {waits[len(waits) // 2] * 1000:.2f} ms in the middle, "
            f"{waits[-1] * 1000:.2f} ms at worst"
        )
    rates = sorted(link.bytes_per_s for link in network.links if link.bytes_per_s)
    if rates:
        middle = rates[len(rates) // 2] * 8 / 1e6
        count = f"{len(rates)} of {len(network.links)} directions"
        yield from _wrapped(f"speed    {middle:,.0f} Mbit/s in the middle of {count}")
    slowest = network.slowest
    if slowest is not None:
        yield from _wrapped(
            f"slowest  {slowest.origin} -> {slowest.target}, {_mbit(slowest)} Mbit/s: 50 MB, the "
            f"gradients of a small adapter, take {_seconds(cost_s(slowest))}"
        )
