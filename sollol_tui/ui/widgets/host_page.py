"""The page of one host: its devices, and what the doctor or provisioning says of it now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from sollol_tui.model.columns import NOTHING, Tone, age, host_reason, host_tone
from sollol_tui.model.diagnosis import Check, Outcome
from sollol_tui.model.snapshot import GpuReading, HostView
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_bytes, format_usage
from sollol_tui.ui.theme import tone_style

NO_HOST = "the page of the host under the cursor appears here"
_TONES = {
    Outcome.OK: Tone.GOOD,
    Outcome.WARNING: Tone.BUSY,
    Outcome.FAILED: Tone.BAD,
    Outcome.SKIPPED: Tone.MUTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is done about a host: `title` names it, `steps` maps names to what each has come to."""

    title: str
    checks: Sequence[Check] = ()
    steps: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    is_busy: bool = True


class HostPage(VerticalScroll):
    """Shows what `show` hands in."""

    can_focus = True

    def compose(self) -> ComposeResult:
        yield Static(NO_HOST, markup=False)

    def on_mount(self) -> None:
        self.border_title = "host"
        self._shown: tuple[object, ...] = ()

    def show(self, host: HostView | None, work: Work | None, now: float) -> None:
        """A host and what is done about it; None is none."""
        shown = (host, work, int(now), self.app.theme)
        if shown == self._shown:
            return
        self._shown = shown
        self.border_title = Text("host" if host is None else f"host {clean(host.name, limit=80)}")
        page = NO_HOST if host is None else self._page(host, work, now)
        self.query_one(Static).update(page)

    def _page(self, host: HostView, work: Work | None, now: float) -> RenderableType:
        state = host.state.value
        if reason := host_reason(host, now):
            state += f": {reason}"
        parts: list[RenderableType] = [Text(state, tone_style(self.app, host_tone(host, now)))]
        if host.at is not None:
            parts.append(Text(_figures(host, now)))
        if host.gpus:
            parts += [Text(""), _gpu_table(host.gpus)]
        if host.job:
            share = "" if host.share is None else f", {host.share:.0%} of each step"
            parts.append(Text(f"works for {clean(host.job, limit=80)}{share}"))
        if work is not None:
            parts += [Text(""), Text(work.title, style="bold")]
            parts += [self._check(check) for check in work.checks]
            parts += [
                Text(f"{clean(name, limit=40):<12} {clean(come_to, limit=200)}")
                for name, come_to in work.steps.items()
            ]
            if work.problem:
                parts.append(Text(work.problem, tone_style(self.app, Tone.BAD)))
        return Group(*parts)

    def _check(self, check: Check) -> Text:
        text = Text(f"{check.stage.value:<12} ")
        text.append(f"{check.outcome.value:<8}", tone_style(self.app, _TONES[check.outcome]))
        told = [check.found, check.reason, check.remedy and f"-> {check.remedy}"]
        text.append(" ".join(clean(part, limit=400) for part in told if part))
        return text


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
            clean(gpu.name, limit=80),
            NOTHING if gpu.util_percent is None else f"{gpu.util_percent:.0f}%",
            format_usage(gpu.vram_used_bytes, gpu.vram_total_bytes),
            NOTHING if gpu.temp_c is None else f"{gpu.temp_c:.0f}C",
        )
    return table
