"""The frame that is seen while what a form or an editor needs is being loaded."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from sollol_tui.ui.widgets.keys import Keys


class Opening(ModalScreen[None]):
    """It takes what is typed, so that no key of the screen below acts on a job."""

    CSS_PATH = "opening.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Leave", id="opening.leave", key_display="esc",
                tooltip="Back to the screen"),
    ]  # fmt: skip

    def compose(self) -> ComposeResult:
        with Vertical(id="opening"):
            yield Static("one moment", markup=False)
        yield Keys()
