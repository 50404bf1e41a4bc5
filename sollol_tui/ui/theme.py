"""The application's own theme, and the style of each tone in whatever theme is chosen."""

from functools import lru_cache
from typing import Final

from rich.style import Style
from textual.app import App
from textual.color import Color
from textual.theme import Theme

from sollol_tui.model.columns import Tone

CALM = Theme(
    name="sollol",
    primary="#7aa2d6",
    secondary="#5c7a99",
    accent="#8fc1b5",
    success="#8cc28a",
    warning="#d9b26a",
    error="#e0777d",
    foreground="#d3d7dd",
    background="#14171c",
    surface="#14171c",
    panel="#1f242c",
    dark=True,
    variables={
        "border": "#7aa2d6",
        "border-blurred": "#39414d",
        "block-cursor-background": "#2c3b4f",
        "block-cursor-foreground": "#f2f4f7",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "#20262f",
        "block-cursor-blurred-foreground": "#d3d7dd",
        "footer-background": "#1a1e25",
        "footer-key-foreground": "#8fc1b5",
        "scrollbar": "#39414d",
        "scrollbar-background": "#14171c",
    },
)
_READABLE: Final = 4.5  # of two colours, as WCAG 2.2 asks of text
_VARIABLE = {Tone.GOOD: "success", Tone.BUSY: "warning", Tone.BAD: "error"}


def tone_style(app: App[object], tone: Tone) -> Style:
    """The style of a tone in the theme that is on now, ANSI themes included."""
    if tone is Tone.PLAIN:
        return Style.null()
    if tone is Tone.MUTED:
        return Style(dim=True)
    variables = app.theme_variables
    color = Color.parse(variables[_VARIABLE[tone]])
    ground, text = (Color.parse(variables[name]) for name in ("background", "foreground"))
    return Style(color=legible(color, ground, text).rich_color)


@lru_cache(maxsize=256)
def legible(color: Color, ground: Color, text: Color) -> Color:
    """The colour, nearer to that of plain text as far as it needs to be read on this ground:
    themes choose theirs for areas. Of a terminal's own colours nobody knows how they look."""
    if any(each.ansi is not None for each in (color, ground, text)):
        return color
    shades = (color.blend(text, share / 10) for share in range(10))
    return next((each for each in shades if _contrast(each, ground) >= _READABLE), text)


def _contrast(one: Color, other: Color) -> float:
    """The ratio of WCAG 2.2, from 1 to 21."""
    darker, lighter = sorted(map(_luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: Color) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in color.normalized
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
