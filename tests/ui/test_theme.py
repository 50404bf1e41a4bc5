"""Words in a colour can be read in every theme, light ones too."""

import pytest
from textual.color import Color
from textual.theme import BUILTIN_THEMES, Theme

from sollol_tui.ui.theme import CALM, legible

THEMES = [each for each in (CALM, *BUILTIN_THEMES.values()) if not each.name.startswith("ansi")]


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: str(theme.name))
@pytest.mark.parametrize("tone", ["success", "warning", "error"])
def test_every_tone_stands_out_from_its_ground(theme: Theme, tone: str) -> None:
    variables = theme.to_color_system().generate()
    ground, text = (Color.parse(variables[name]) for name in ("background", "foreground"))
    shown = legible(Color.parse(variables[tone]), ground, text)
    assert contrast(shown, ground) >= min(4.5, contrast(text, ground))


def test_what_can_be_read_and_a_terminals_own_colours_stay_as_they_are() -> None:
    black, white, green = (Color.parse(name) for name in ("#000000", "#ffffff", "#8cc28a"))
    assert legible(green, black, white) == green
    own = Color.parse("ansi_green")
    assert legible(own, Color.parse("ansi_default"), Color.parse("ansi_default")) == own


def contrast(one: Color, other: Color) -> float:
    """As WCAG 2.2 has it."""

    def light(color: Color) -> float:
        parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4
                 for p in color.normalized]  # fmt: skip
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    darker, lighter = sorted((light(one), light(other)))
    return (lighter + 0.05) / (darker + 0.05)
