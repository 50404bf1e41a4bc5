"""What each host has, how much of it is in use, and who holds it. Pure: words and numbers."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from sollol_tui.model.columns import NOTHING, Column, host_reason
from sollol_tui.model.snapshot import HostState, HostView, Snapshot
from sollol_tui.model.text import clean
from sollol_tui.model.units import GIB, format_bytes, format_usage

RESOURCE_COLUMNS: Final = (
    Column(key="host", title="HOST", typical=8, least=12, most=24),
    Column(key="state", title="STATE", typical=5, least=5),
    Column(key="cpu", title="CPU", typical=12, least=12, drops=2),
    Column(key="ram", title="RAM", typical=11, least=11, drops=1),
    Column(key="gpu", title="GPU", typical=8, least=14, most=32),
    Column(key="vram", title="VRAM", typical=12, least=12, drops=3),
    Column(key="disk", title="DISK FREE", typical=9, least=9, drops=4),
    Column(key="held", title="HELD BY", typical=7, least=22, most=48),
)


def is_free(host: HostView) -> bool:
    """Whether a job could take the host now."""
    return host.state is HostState.UP and host.job is None and host.errand is None


def resource_rows(host: HostView, now: float) -> list[tuple[str, ...]]:
    """The texts of RESOURCE_COLUMNS: a row for the host and its first GPU, one for each other."""
    name, state = clean(host.name, limit=80), host.state.value
    if host.state is not HostState.UP:
        return [(name, state, *(NOTHING,) * 5, host_reason(host, now))]
    gpus = [
        (
            f"{gpu.index}: {clean(gpu.name, limit=80)}",
            format_usage(gpu.vram_used_bytes, gpu.vram_total_bytes),
        )
        for gpu in host.gpus
    ]
    cores = NOTHING if host.cpu_cores is None else f"{host.cpu_cores} cores"
    busy = "" if host.cpu_percent is None else f" {host.cpu_percent:.0f}%"
    first = (
        name,
        state,
        cores + busy,
        format_usage(host.ram_used_bytes, host.ram_total_bytes),
        *(gpus[0] if gpus else (NOTHING, NOTHING)),
        format_bytes(host.disk_free_bytes),
        ", ".join(clean(held, limit=80) for held in (host.job, host.errand) if held) or "free",
    )
    return [first, *(("", "", "", "", *gpu, "", "") for gpu in gpus[1:])]


def free_sentence(hosts: Sequence[HostView]) -> str:
    """ "free: 2 hosts with 3 GPUs, 24 cores, 96 GiB RAM"."""
    total = _free_total(hosts)
    ram = f"{total['ram_bytes'] / GIB:.0f} GiB RAM"
    return (
        f"free: {_counted(total['hosts'], 'host')} with {_counted(total['gpus'], 'GPU')}, "
        f"{_counted(total['cpu_cores'], 'core')}, {ram}"
    )


def resources_data(snapshot: Snapshot, hosts: Sequence[HostView]) -> dict[str, Any]:
    """The object behind `sollol resources --json`."""
    return {
        "schema": "sollol.resources/1",
        "at": snapshot.at,
        "hosts": [{**asdict(host), "free": is_free(host)} for host in hosts],
        "free": _free_total(hosts),
    }


def _free_total(hosts: Sequence[HostView]) -> dict[str, int]:
    free = [host for host in hosts if is_free(host)]
    return {
        "hosts": len(free),
        "gpus": sum(len(host.gpus) for host in free),
        "cpu_cores": sum(host.cpu_cores or 0 for host in free),
        "ram_bytes": sum(host.ram_total_bytes or 0 for host in free),
    }


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
