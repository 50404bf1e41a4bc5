"""Which hosts of ~/.ssh/config are to be in the inventory: a checklist. Adds none."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from sollol_tui.drafting import Offer
from sollol_tui.ui.widgets.checklist import Checklist
from sollol_tui.ui.widgets.keys import Keys


class ImportHosts(ModalScreen[list[str] | None]):
    """Answers with the names that were ticked; None when it was left."""

    CSS_PATH = "ticking.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Add the ticked", id="import.accept", priority=True,
                tooltip="Show what the inventory would say with the ticked hosts in it"),
        Binding("escape,q", "give_up", "Leave", id="import.give_up", key_display="esc",
                tooltip="Add none"),
    ]  # fmt: skip

    def __init__(self, offers: Sequence[Offer]) -> None:
        super().__init__()
        self._offers = offers

    def compose(self) -> ComposeResult:
        width = max(len(offer.alias) for offer in self._offers)
        with Vertical(id="question") as question:
            question.border_title = Text("hosts of ~/.ssh/config to add")
            yield Checklist([f"{o.alias:<{width}}  {o.place}" for o in self._offers])
        yield Keys()

    def action_accept(self) -> None:
        self.dismiss([self._offers[at].alias for at in self.query_one(Checklist).ticked])

    def action_give_up(self) -> None:
        self.dismiss(None)
