"""The page of one host: its devices, what it does for us, and what the doctor or provisioning says
of it now."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from sollol_tui.model.columns import (
    NOTHING,
    age,
    host_reason,
    host_tone,
    teacher_words,
)
from sollol_tui.model.snapshot import GpuReading, HostView, JobView
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_bytes, format_usage
from sollol_tui.ui.theme import tone_style
from sollol_tui.ui.widgets.host_work import Work, work_line, work_lines

NO_HOST = "the page of the host under the cursor appears here"


class HostPage(VerticalScroll):
    """Shows what `show` hands in."""

    can_focus = True

    def compose(self) -> ComposeResult:
        yield Static(NO_HOST, markup=False)

    def on_mount(self) -> None:
        self.border_title = "host"
        self._shown: tuple[object, ...] = ()

    def show(
        self, host: HostView | None, job: JobView | None, works: Mapping[str, Work], now: float
    ) -> None:
        """A host, the job that it works for, and what is done about it and others; None is none."""
        shown = (host, job, dict(works), int(now), self.app.theme)
        if shown == self._shown:
            return
        self._shown = shown
        self.border_title = Text("host" if host is None else f"host {clean(host.name, limit=80)}")
        page = NO_HOST if host is None else self._page(host, job, works, now)
        self.query_one(Static).update(page)

    def _page(
        self, host: HostView, job: JobView | None, works: Mapping[str, Work], now: float
    ) -> RenderableType:
        state = host.state.value
        if reason := host_reason(host, now):
            state += f": {reason}"
        parts: list[RenderableType] = [Text(state, tone_style(self.app, host_tone(host, now)))]
        if host.at is not None:
            parts.append(Text(_figures(host, now)))
        parts += map(Text, _duties(host, job))
        if (work := works.get(host.name)) is not None:  # first of all, for somebody waits for it
            parts += [Text(""), *work_lines(self.app, work)]
        if others := [name for name in works if name != host.name]:
            parts += [Text(""), Text("elsewhere", style="bold")]
            parts += [work_line(self.app, name, works[name]) for name in others]
        if host.gpus:
            parts += [Text(""), _gpu_table(host.gpus)]
        return Group(*parts)


def _duties(host: HostView, job: JobView | None) -> Iterator[str]:
    """What it does for us: for a job, as a worker, a teacher or both, and for an adapter."""
    if host.job:
        told = f"works for {clean(host.job, limit=80)}"
        if job is not None and job.id == host.job:
            told += f" {clean(job.name, limit=80)}"
        if host.share is not None:
            told += f", {host.share:.0%} of each step"
        yield told
    teachers = () if job is None else job.teachers
    if teacher := next((each for each in teachers if each.host == host.name), None):
        yield f"its teacher: {teacher_words(teacher)}"
    elif host.errand:
        yield f"busy with {clean(host.errand, limit=200)}"


def _figures(host: HostView, now: float) -> str:
    parts = []
    if host.cpu_percent is not None:
        cores = "" if host.cpu_cores is None else f" of {host.cpu_cores} cores"
        parts.append(f"CPU {host.cpu_percent:.0f}%{cores}")
    parts.append(f"RAM {format_usage(host.ram_used_bytes, host.ram_total_bytes)}")
    if host.disk_free_bytes is not None:
        parts.append(f"{format_bytes(host.disk_free_bytes)} free on its disk")
    if host.at is not None:
        parts.append(f"read {age(now - host.at)} ago")
    return "   ".join(parts)


def _gpu_table(gpus: Sequence[GpuReading]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title in ("GPU", "NAME", "UTIL", "VRAM", "TEMP"):
        table.add_column(title, no_wrap=True)
    for gpu in gpus:
        table.add_row(
            str(gpu.index),
            Text(clean(gpu.name, limit=80)),
            NOTHING if gpu.util_percent is None else f"{gpu.util_percent:.0f}%",
            format_usage(gpu.vram_used_bytes, gpu.vram_total_bytes),
            NOTHING if gpu.temp_c is None else f"{gpu.temp_c:.0f}C",
        )
    return table
