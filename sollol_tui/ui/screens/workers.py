"""Who takes part in a job: a checklist, the coordinator first. What is ticked more joins, what is
ticked no more leaves, when it is answered with enter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from sollol_tui.model.columns import host_reason
from sollol_tui.model.names import COORDINATOR
from sollol_tui.model.snapshot import HostState, HostView, JobView
from sollol_tui.model.text import clean
from sollol_tui.ui.widgets.checklist import Checklist
from sollol_tui.ui.widgets.keys import Keys

_GONE = ("gone", "quarantined")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Names of hosts."""

    join: tuple[str, ...]
    leave: tuple[str, ...]


class Workers(ModalScreen[Wanted | None]):
    """Answers with what is to change; None when it was left."""

    CSS_PATH = "confirm.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Do it", id="workers.accept", priority=True,
                tooltip="Ask the ticked hosts to join, and the others to leave"),
        Binding("escape,q", "give_up", "Leave it", id="workers.give_up", key_display="esc",
                tooltip="Change nothing"),
    ]  # fmt: skip

    def __init__(self, job: JobView, hosts: Sequence[HostView], now: float) -> None:
        super().__init__()
        self._job = job
        self._names, self._notes = zip(*_candidates(job, hosts, now), strict=True)
        self._present = {worker.host for worker in job.workers if worker.state not in _GONE}

    def compose(self) -> ComposeResult:
        ticked = [at for at, name in enumerate(self._names) if name in self._present]
        with Vertical(id="question") as question:
            question.border_title = Text(f"workers of {clean(self._job.id, limit=80)}")
            yield Checklist(self._notes, ticked)
            yield Static(
                "A host that joins is prepared first, and the job goes on meanwhile. One that "
                "leaves finishes its step; nothing of what was learnt is lost.",
                markup=False,
            )
        yield Keys()

    def action_accept(self) -> None:
        ticked = {self._names[at] for at in self.query_one(Checklist).ticked}
        self.dismiss(
            Wanted(
                join=tuple(sorted(ticked - self._present)),
                leave=tuple(sorted(self._present & set(self._names) - ticked)),
            )
        )

    def action_give_up(self) -> None:
        self.dismiss(None)


def _candidates(job: JobView, hosts: Sequence[HostView], now: float) -> list[tuple[str, str]]:
    """Names of hosts, and each with what a person should know before it is ticked. This machine is
    the first, also where the inventory does not name it."""
    own = [host for host in hosts if host.local]
    lines = [] if own else [(COORDINATOR, f"{COORDINATOR}  this machine")]
    for host in [*own, *(host for host in hosts if not host.local)]:
        parts = [host.name]
        if host.local:
            parts.append("this machine, the coordinator")
        if host.state is not HostState.UP:
            parts.append(f"{host.state.value}: {host_reason(host, now)}")
        elif host.job and host.job != job.id:
            parts.append(f"works for {host.job}")
        lines.append((host.name, "  ".join(parts)))
    return lines
