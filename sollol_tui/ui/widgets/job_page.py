"""The page of one job: how it stands, how far it is, who computes what, and what is left of it."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from sollol_tui.model.columns import (
    NOTHING,
    Tone,
    age,
    host_cells,
    job_sentence,
    job_tone,
    progress_bar,
)
from sollol_tui.model.snapshot import HostView, JobView, JobWorkerView
from sollol_tui.model.text import clean, clean_lines
from sollol_tui.model.units import format_duration, format_rate
from sollol_tui.ui.theme import tone_style

NO_JOB = "the page of the job under the cursor appears here"
_BAR_WIDTH = 40  # where there is room; else half of it
_ROOMY = 100
_SHARE_BAR = 12


class JobPage(VerticalScroll):
    """Shows what `show` hands in."""

    can_focus = True

    def compose(self) -> ComposeResult:
        yield Static(NO_JOB, markup=False)

    def on_mount(self) -> None:
        self._shown: tuple[object, ...] = ()
        self.border_title = "job"

    def show(self, job: JobView | None, hosts: Sequence[HostView], now: float) -> None:
        """A job and the hosts that work for it; None is no job."""
        by_name = {host.name: host for host in hosts}
        workers = () if job is None else job.workers
        figures = tuple(by_name.get(worker.host) for worker in workers)
        shown = (job, figures, int(now), self.app.theme, self.size.width)
        if shown == self._shown:
            return
        self._shown = shown
        name = "" if job is None else f" {clean(job.id, limit=80)} {clean(job.name, limit=80)}"
        self.border_title = Text(f"job{name}")
        self.query_one(Static).update(NO_JOB if job is None else self._page(job, figures, now))

    def _page(self, job: JobView, figures: Sequence[HostView | None], now: float) -> RenderableType:
        parts: list[RenderableType] = [
            Text(job_sentence(job, now), tone_style(self.app, job_tone(job)))
        ]
        if job.samples_total:
            bar_width = _BAR_WIDTH if self.size.width >= _ROOMY else _BAR_WIDTH // 2
            parts.append(Text(_progress(job, bar_width)))
        parts.append(Text(_times(job, now), tone_style(self.app, Tone.MUTED)))
        if job.workers and not job.state.is_terminal:
            parts += [Text(""), self._workers(job.workers, figures, now)]
        if job.traceback:
            lines = [Text(line) for line in clean_lines(job.traceback)]
            parts += [Text(""), *lines]
        return Group(*parts)

    def _workers(
        self, workers: Sequence[JobWorkerView], figures: Sequence[HostView | None], now: float
    ) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        for title in ("WORKER", "STATE", "SHARE", "GPU", "UTIL", "VRAM", "TEMP", "CPU", "RAM"):
            table.add_column(title, no_wrap=True)
        for worker, host in zip(workers, figures, strict=True):
            cells = (NOTHING,) * 6 if host is None else host_cells(host, now)[2:8]
            share = NOTHING
            if worker.share:
                share = f"{worker.share:4.0%} {progress_bar(worker.share, _SHARE_BAR)}"
            table.add_row(clean(worker.host, limit=80), _state(worker, now), share, *cells)
        return table


def _state(worker: JobWorkerView, now: float) -> str:
    text = clean(worker.state, limit=40)
    if worker.unseen_since is not None:
        text += f", unseen {age(now - worker.unseen_since)}"
    return f"{text}: {clean(worker.reason, limit=200)}" if worker.reason else text


def _progress(job: JobView, bar_width: int) -> str:
    facts = [f"{job.samples_done:,} of {job.samples_total:,} samples"]
    if not job.state.is_terminal:
        facts.append(format_rate(job.samples_per_s))
        if job.eta_s is not None:
            facts.append(f"{format_duration(job.eta_s)} to go")
    bar = progress_bar(job.progress, bar_width)
    return f"{job.progress:4.0%} {bar}  " + "   ".join(fact for fact in facts if fact != NOTHING)


def _times(job: JobView, now: float) -> str:
    facts = [f"made {age(now - job.created_at)} ago"]
    if job.started_at is not None:
        end = now if job.ended_at is None else job.ended_at
        facts.append(f"ran {format_duration(end - job.started_at)}")
    if job.model:
        facts.append(f"model {clean(job.model, limit=200)}")
    if job.dataset:
        facts.append(f"data {clean(job.dataset, limit=200)}")
    return "   ".join(facts)
