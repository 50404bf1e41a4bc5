"""Who computes for a job, a row each: what he does, his part and speed, and how his machine is.
Where the screen is narrow columns leave whole, the least needed first."""

from collections.abc import Mapping
from typing import Final

from rich.table import Table
from rich.text import Text

from sollol_tui.model.columns import (
    GAP,
    NOTHING,
    Column,
    age,
    fit_columns,
    host_cells,
    progress_bar,
)
from sollol_tui.model.snapshot import HostView, JobView, JobWorkerView
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_rate

_SHARE_BAR: Final = 12


def _column(title: str, typical: int, *, most: int = 40, drops: int = 0) -> Column:
    return Column(
        key=title, title=title, typical=typical, least=typical, most=max(most, typical), drops=drops
    )


_COLUMNS: Final = (
    _column("WORKER", 8, most=24),
    _column("STATE", 8, most=60),
    _column("SHARE", 5 + _SHARE_BAR, drops=1),
    _column("SPEED", 10, drops=2),
    _column("GPU", 11, most=28, drops=6),
    _column("UTIL", 4, drops=3),
    _column("VRAM", 12, drops=4),
    _column("TEMP", 4, drops=7),
    _column("CPU", 4, drops=5),
    _column("RAM", 11, drops=8),
)


def crew_table(
    job: JobView,
    hosts: Mapping[str, HostView],
    speeds: Mapping[str, float],
    now: float,
    width: int,
) -> Table:
    """`speeds` are samples a second of each host, as measured last."""
    rows = [
        (
            clean(worker.host, limit=80),
            _state(worker, now),
            f"{worker.share:4.0%} {progress_bar(worker.share, _SHARE_BAR)}"
            if worker.share
            else NOTHING,
            format_rate(speeds.get(worker.host)),
            *_machine(hosts.get(worker.host), now),
        )
        for worker in job.workers
    ]
    rows += [
        (
            f"{clean(teacher.host, limit=80)} (teacher)",
            clean(teacher.state, limit=40),
            NOTHING,
            f"{teacher.tokens_per_s:,.0f} tok/s" if teacher.tokens_per_s else NOTHING,
            *_machine(hosts.get(teacher.host), now),
        )
        for teacher in job.teachers
    ]
    table = Table(box=None, padding=(0, GAP, 0, 0), header_style="dim", pad_edge=False)
    widths = fit_columns(_COLUMNS, rows, width)
    shown = [at for at, cells in enumerate(widths) if cells]
    for at in shown:
        table.add_column(_COLUMNS[at].title, width=widths[at], no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(row[at]) for at in shown))
    return table


def _machine(host: HostView | None, now: float) -> tuple[str, ...]:
    return (NOTHING,) * 6 if host is None else host_cells(host, now)[2:8]


def _state(worker: JobWorkerView, now: float) -> str:
    text = clean(worker.state, limit=40)
    if worker.unseen_since is not None:
        text += f", unseen {age(now - worker.unseen_since)}"
    return f"{text}: {clean(worker.reason, limit=200)}" if worker.reason else text
