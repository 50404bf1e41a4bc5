"""The rules of layout and colour, read once for as long as their variables stay. Textual reads all
of them anew for each screen and theme that begins, which took a tenth of the start."""

from textual.css import stylesheet


class Stylesheet(stylesheet.Stylesheet):
    """Adds nothing to what rules mean."""

    def __init__(self, *, variables: dict[str, str]) -> None:
        super().__init__(variables=variables)
        self._given = variables

    def set_variables(self, variables: dict[str, str]) -> None:
        if variables != self._given:
            self._given = variables
            super().set_variables(variables)

    def reparse(self) -> None:
        """What was read under these variables is remembered, and only what is new is read."""
        self.parse()
