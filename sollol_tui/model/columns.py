"""The words of the jobs table, the hosts table and the headline, for the terminal and the screen.

Pure: a view and the time go in, plain texts come out. Every text that a host or a person wrote has
passed `clean`. Colours, cursors and printing belong to those who show the texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from rich.cells import cell_len

from sollol_tui.model.snapshot import (
    GpuReading,
    HostState,
    HostView,
    JobView,
    Snapshot,
    TeacherView,
)
from sollol_tui.model.states import UNLEASED, JobState
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_count, format_duration, format_rate, format_usage

NOTHING: Final = "-"
GAP: Final = 2  # blanks between two columns
_STALE_S: Final = 60.0


class Tone(StrEnum):
    """How a cell feels. Never the only sign: the words say the same."""

    PLAIN = "plain"
    GOOD = "good"
    BUSY = "busy"
    BAD = "bad"
    MUTED = "muted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column's title and how it gives way. Widths count terminal cells: `typical` keeps a table
    from jumping, `least` is what shrinking leaves of a longer text, `most` is what a long one gets.
    The column with the highest `drops` leaves first, one without any never."""

    key: str
    title: str
    typical: int
    least: int
    most: int = 40
    drops: int = 0


def _column(
    key: str, typical: int, least: int | None = None, most: int = 40, drops: int = 0
) -> Column:
    least = typical if least is None else least
    return Column(key=key, title=key.upper(), typical=typical, least=least, most=most, drops=drops)


LONG_BAR: Final = 18  # cells; a shorter bar goes without the counts of samples


def job_columns(bar_width: int = LONG_BAR) -> tuple[Column, ...]:
    """The columns of `job_cells(..., bar_width=bar_width)`: a bar is never cut."""
    progress = bar_width + (5 if bar_width < LONG_BAR else 15)
    return (
        _column("job", 8),  # an id that is cut names no job
        _column("name", 12, 8, 28),
        _column("state", 8, 12),
        _column("progress", 18, progress, 44),
        _column("loss", 5, drops=1),
        _column("speed", 10, drops=2),
        _column("workers", 8, 12, 36, drops=3),
        _column("eta", 6, 9),
    )


HOST_COLUMNS: Final = (
    _column("host", 8, 12, 24),
    _column("state", 5, 8),
    _column("gpu", 8, 11, 28, drops=4),
    _column("util", 4, drops=1),
    _column("vram", 12, drops=2),
    _column("temp", 4, drops=6),
    _column("cpu", 4, drops=3),
    _column("ram", 11, drops=5),
    _column("job", 8),
    _column("share", 5, 18, 48),
)

EVENT_COLUMNS: Final = (
    _column("when", 14),
    _column("job", 6, drops=2),
    _column("host", 8, 8, 20, drops=1),
    _column("what", 20, 20, 400),
)


def fit_columns(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, *, gap: int = GAP
) -> tuple[int, ...]:
    """The width of each column in a table of `width` cells, 0 for those that have to go.

    Columns without any value leave first; then wide ones shrink, as far as it helps; then those
    leave that matter least.
    """
    wanted = [
        min(column.most, max([column.typical, *(cell_len(row[at]) for row in rows)]))
        for at, column in enumerate(columns)
    ]
    least = [min(column.least, want) for column, want in zip(columns, wanted, strict=True)]
    kept = dict.fromkeys(range(len(columns)))

    def excess(widths: Sequence[int]) -> int:
        return sum(widths[at] for at in kept) + gap * (len(kept) - 1) - width

    by_weight = sorted(range(len(columns)), key=lambda at: -columns[at].drops)
    droppable = [at for at in by_weight if columns[at].drops]
    for at in droppable:
        if excess(wanted) > 0 and all(row[at] == NOTHING for row in rows):
            del kept[at]
    for at in droppable:
        if excess(least) > 0 and at in kept:
            del kept[at]
    widths = [wanted[at] if at in kept else 0 for at in range(len(columns))]
    while (surplus := excess(widths)) > 0:
        widest = max(kept, key=lambda at: widths[at] - least[at])
        slack = widths[widest] - least[widest]
        if slack <= 0:
            break
        widths[widest] -= min(surplus, max(1, slack // 2))
    return tuple(widths)


def progress_bar(fraction: float, width: int) -> str:
    """ "########..........": full only when all is done."""
    done = int(max(0.0, min(1.0, fraction)) * width)
    return "#" * done + "." * (width - done)


def age(seconds: float) -> str:
    """One unit is enough for an age: "4m", "3h", "2d"."""
    return format_duration(seconds).partition(" ")[0]


def headline(snapshot: Snapshot, *, width: int | None = None) -> str:
    """The first line of `sollol status`; what matters least leaves when `width` is too small."""
    inventory = PurePath(clean(snapshot.inventory, limit=200))
    folder = inventory.parent.name
    up = sum(host.state is HostState.UP for host in snapshot.hosts)
    queued = sum(job.state is JobState.QUEUED for job in snapshot.jobs)
    live = sum(not job.state.is_terminal for job in snapshot.jobs) - queued
    load = snapshot.coordinator
    duty = "takes part" if load.takes_part else "free"
    figures = f" (CPU {load.cpu_percent:.0f}%, RAM {load.ram_percent:.0f}%)"
    name = f"{folder} ({inventory.name})" if folder else inventory.name
    hosts, jobs = f"{up}/{len(snapshot.hosts)} hosts up", f"{live} running  {queued} queued"
    for parts in (
        (f"SOLLOL  {name}", hosts, jobs, f"coordinator {duty}{figures}"),
        (f"SOLLOL  {folder or inventory.name}", hosts, jobs, f"coordinator {duty}{figures}"),
        (f"SOLLOL  {folder or inventory.name}", hosts, jobs, f"coordinator {duty}"),
        (hosts, jobs, f"coordinator {duty}"),
        (hosts, jobs),
    ):
        line = "   ".join(parts)
        if width is None or cell_len(line) <= width:
            break
    return line


def jobs_in_order(jobs: Sequence[JobView]) -> tuple[JobView, ...]:
    """What runs, then what waits, then what ended; the queue in its order, else the given one."""
    return tuple(sorted(jobs, key=_group))


def _group(job: JobView) -> tuple[bool, bool, int]:
    return job.state.is_terminal, job.state is JobState.QUEUED, job.queue_place or 0


def job_cells(job: JobView, now: float, *, bar_width: int = LONG_BAR) -> tuple[str, ...]:
    """The texts of `job_columns(bar_width)`."""
    if job.state.is_terminal:
        eta = f"{age(now - job.ended_at)} ago" if job.ended_at else NOTHING
    else:
        eta = format_duration(job.eta_s)
    return (
        clean(job.id, limit=80),
        clean(job.name, limit=80),
        job.state.value,
        _progress(job, bar_width),
        NOTHING if job.loss is None else f"{job.loss:.3f}",
        NOTHING if job.state in UNLEASED else format_rate(job.samples_per_s),
        " ".join(_workers(job, now)) or NOTHING,
        eta,
    )


def job_tone(job: JobView) -> Tone:
    match job.state:
        case JobState.RUNNING | JobState.DONE:
            return Tone.GOOD
        case JobState.FAILED:
            return Tone.BAD
        case JobState.CANCELLED | JobState.QUEUED | JobState.PAUSED:
            return Tone.MUTED
        case _:
            return Tone.BUSY


def job_sentence(job: JobView, now: float) -> str:
    """What a person asks first about a job: how it stands, since when, why, how far and where."""
    state = job.state.value
    if job.state.is_terminal and job.ended_at:
        state += f" {age(now - job.ended_at)} ago"
    facts = [clean(job.reason or ("" if job.state.is_terminal else job.stage), limit=400)]
    if job.max_steps:
        facts.append(f"step {job.step}/{job.max_steps}")
    if job.loss is not None:
        first = "" if job.first_loss is None else f"{job.first_loss:.3f} -> "
        facts.append(f"loss {first}{job.loss:.3f}")
    if job.state is JobState.DONE:
        facts.append(clean(job.output_dir, limit=400))
    elif not job.state.is_terminal and job.workers:
        facts.append("on " + " ".join(_workers(job, now)))
    told = ", ".join(fact for fact in facts if fact)
    return f"{state}: {told}" if told else state


def host_cells(host: HostView, now: float) -> tuple[str, ...]:
    """The texts of HOST_COLUMNS. Where a host is not up, its reason stands in place of the share,
    and its last figures are not shown as if they were today's. Where it works for no job, what else
    it does for us stands there."""
    name = clean(host.name, limit=80)
    if host.state is not HostState.UP:
        figures = (NOTHING,) * 6
        return (
            name,
            host.state.value,
            *figures,
            clean(host.job or NOTHING),
            host_reason(host, now),
        )
    utils = [gpu.util_percent for gpu in host.gpus if gpu.util_percent is not None]
    temps = [gpu.temp_c for gpu in host.gpus if gpu.temp_c is not None]
    fullest = max(host.gpus, key=_fullness, default=None)
    return (
        name,
        host.state.value,
        _gpus(host.gpus),
        f"{sum(utils) / len(utils):.0f}%" if utils else NOTHING,
        format_usage(fullest.vram_used_bytes, fullest.vram_total_bytes) if fullest else NOTHING,
        f"{max(temps):.0f}C" if temps else NOTHING,
        NOTHING if host.cpu_percent is None else f"{host.cpu_percent:.0f}%",
        format_usage(host.ram_used_bytes, host.ram_total_bytes),
        clean(host.job or NOTHING, limit=80),
        _share(host),
    )


def _share(host: HostView) -> str:
    if host.share is None and host.errand is not None:
        return clean(host.errand, limit=80)
    return NOTHING if host.share is None else f"{host.share:.0%}"


def host_reason(host: HostView, now: float) -> str:
    """ "no route to host, 4m": why a host is not up, and since when."""
    why = _host_reason(host)
    return why if not why or host.since is None else f"{why}, {age(now - host.since)}"


def host_trouble(host: HostView, now: float) -> str:
    """ "pi01 (4m): no route to host": on a line of its own, where the command with which the reason
    ends can be copied to the line's end."""
    since = "" if host.since is None else f" ({age(now - host.since)})"
    return f"{host.name}{since}: {_host_reason(host)}"


def _host_reason(host: HostView) -> str:
    if why := clean(host.reason, limit=400):
        return why
    match host.state:
        case HostState.UP:
            return ""
        case HostState.UNKNOWN:
            return "not asked yet"
        case HostState.DISABLED:
            return "disabled in the inventory"
        case HostState.DOWN | HostState.REFUSED:
            return "no reason given"


def host_tone(host: HostView, now: float) -> Tone:
    """Muted also when the figures are too old to be believed."""
    match host.state:
        case HostState.UP:
            stale = host.at is not None and now - host.at > _STALE_S
            return Tone.MUTED if stale else Tone.GOOD
        case HostState.DOWN | HostState.REFUSED:
            return Tone.BAD
        case HostState.DISABLED | HostState.UNKNOWN:
            return Tone.MUTED


def teacher_words(teacher: TeacherView) -> str:
    """ "scoring, 1,200 of 2,294 scored, 810 tok/s, 1m 21s to go": how a teacher's host fares."""
    why = f": {clean(teacher.reason, limit=200)}" if teacher.reason else ""
    speed = f"{teacher.tokens_per_s:,.0f} tok/s" if teacher.tokens_per_s else ""
    rest = "" if teacher.eta_s is None else f"{format_duration(teacher.eta_s)} to go"
    facts = (f"{clean(teacher.state, limit=40)}{why}", teacher.progress, speed, rest)
    return ", ".join(filter(None, facts))


def log_prefix(host: str, slot: int | None) -> str:
    """Whose line it is: "hydra/0", or "hydra" for its agent."""
    name = clean(host, limit=80)
    return name if slot is None else f"{name}/{slot}"


def _progress(job: JobView, bar_width: int) -> str:
    match job.state:
        case JobState.QUEUED:
            return clean(job.reason, limit=200) or "waits for its turn"
        case JobState.PLANNING | JobState.PROVISIONING | JobState.STARTING:
            return clean(job.stage or job.reason, limit=200) or NOTHING
        case JobState.FAILED if job.reason:
            return clean(job.reason, limit=200)
        case _ if not job.samples_total:
            return clean(job.stage or job.reason, limit=200) or NOTHING
    bar = f"{int(job.progress * 100)}%".ljust(4) + f" {progress_bar(job.progress, bar_width)}"
    if bar_width < LONG_BAR:
        return bar
    return f"{bar} {format_count(job.samples_done)}/{format_count(job.samples_total)}"


def _workers(job: JobView, now: float) -> list[str]:
    texts = []
    for worker in job.workers:
        text = clean(worker.host, limit=80)
        if job.state.is_terminal:
            pass
        elif worker.unseen_since is not None:
            text += f"(unseen {age(now - worker.unseen_since)})"
        elif worker.state in ("lost", "quarantined", "leaving"):
            text += f"({worker.state})"
        texts.append(text)
    return texts


def _gpus(gpus: Sequence[GpuReading]) -> str:
    names = [
        clean(gpu.name, limit=80).removeprefix("NVIDIA ").removeprefix("GeForce ") for gpu in gpus
    ]
    if not names:
        return NOTHING
    kinds = list(dict.fromkeys(names))
    counted = [f"{names.count(kind)}x {kind}" if names.count(kind) > 1 else kind for kind in kinds]
    return " + ".join(counted)


def _fullness(gpu: GpuReading) -> float:
    if not gpu.vram_total_bytes or gpu.vram_used_bytes is None:
        return -1.0
    return gpu.vram_used_bytes / gpu.vram_total_bytes
