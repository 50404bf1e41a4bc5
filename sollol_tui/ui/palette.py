"""The palette, and what it offers: the jobs and hosts that are shown, and what can be done now, by
name. It does nothing that no key does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.command import CommandPalette, DiscoveryHit, Hit, Hits, Provider
from textual.markup import escape
from textual.types import IgnoreReturnCallbackType

from sollol_tui.model.columns import jobs_in_order
from sollol_tui.model.text import clean
from sollol_tui.ui.screens.view import View
from sollol_tui.ui.widgets.keys import Keys

if TYPE_CHECKING:
    from sollol_tui.ui.app import SollolApp

_OWN_KEYS: Final = ("app.palette", "pane.next", "pane.previous")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    name: str
    act: IgnoreReturnCallbackType
    help: str


class Palette(CommandPalette):
    """Its footer stands where that of the screen below would promise keys that do nothing here."""

    DEFAULT_CSS = """
    Palette > Footer {
        visibility: visible;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "", "Do it", id="palette.do", tooltip="Do what is chosen"),
        Binding("down", "cursor_down", "Next", id="palette.down", tooltip="The next of what fits"),
        Binding("escape", "escape", "Leave", id="palette.leave", key_display="esc",
                tooltip="Back to the screen"),
    ]  # fmt: skip

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield Keys()


class Targets(Provider):
    """Reads the snapshot that is shown."""

    async def discover(self) -> Hits:
        for target in self._targets():
            yield DiscoveryHit(Text(target.name), target.act, target.name, escape(target.help))

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for target in self._targets():
            score, offsets = matcher.fuzzy_search.match(query, target.name)
            if score > 0:
                shown = Text(target.name)
                for at in offsets:
                    shown.stylize("bold underline", at, at + 1)
                yield Hit(score, shown, target.act, target.name, escape(target.help))

    def _targets(self) -> Iterator[_Target]:
        yield from self._jobs()
        yield from self._hosts()
        yield from self._actions()
        for title, help_, act, _ in self.app.get_system_commands(self.screen):
            yield _Target(name=title, act=act, help=help_)

    @property
    def _sollol(self) -> "SollolApp":
        return self.app  # type: ignore[return-value]

    def _jobs(self) -> Iterator[_Target]:
        snapshot = self._sollol.snapshot
        for job in jobs_in_order(snapshot.jobs) if snapshot else ():
            name = f"job {clean(job.id, limit=40)} {clean(job.name, limit=80)}"
            for view, what in (("jobs", f"Its page; it is {job.state.value}"), ("logs", "Its log")):
                act = partial(self._sollol.show_job, job.id, view)
                yield _Target(name=name if view == "jobs" else f"{name}: log", act=act, help=what)

    def _hosts(self) -> Iterator[_Target]:
        snapshot = self._sollol.snapshot
        for host in snapshot.hosts if snapshot else ():
            act = partial(self._sollol.show_host, host.name)
            help_ = f"Its page; it is {host.state.value}"
            yield _Target(name=f"host {clean(host.name, limit=80)}", act=act, help=help_)

    def _actions(self) -> Iterator[_Target]:
        """What keys do on the screen from which the palette was opened, but for moving about."""
        if not isinstance(self.screen, View):
            return
        offered = set()
        for active in self.screen.active_bindings.values():
            binding = active.binding
            is_ours = binding.id and binding.id not in _OWN_KEYS
            is_ours = is_ours and isinstance(active.node, View | App)
            if not (is_ours and active.enabled and active.tooltip) or binding.action in offered:
                continue
            offered.add(binding.action)
            key = self.app.get_key_display(binding)
            act = partial(self.app.run_action, binding.action, active.node)
            yield _Target(name=f"{binding.description} ({key})", act=act, help=active.tooltip)
