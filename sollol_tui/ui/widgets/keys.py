"""The line of keys at the foot of a screen. Drawn anew only when it would show something else:
Textual makes all of its keys anew whenever the focus moves or a key may have turned grey.
"""

from textual.screen import Screen
from textual.widgets import Footer


class Keys(Footer):
    def __init__(self) -> None:
        super().__init__(show_command_palette=False, compact=True)
        self._shown: list[tuple[str, str, bool]] | None = None

    def bindings_changed(self, screen: Screen[object]) -> None:
        active = screen.active_bindings.values()
        shown = [
            (each.binding.key, each.binding.description, each.enabled)
            for each in active
            if each.binding.show
        ]
        if shown == self._shown:
            return
        if screen.app.app_focus and self.is_attached:  # else it is not drawn now
            self._shown = shown
        super().bindings_changed(screen)
