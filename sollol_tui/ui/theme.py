"""The application's own theme, and the style of each tone in whatever theme is chosen."""

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
_VARIABLE = {Tone.GOOD: "success", Tone.BUSY: "warning", Tone.BAD: "error"}


def tone_style(app: App[object], tone: Tone) -> Style:
    """The style of a tone in the theme that is on now, ANSI themes included."""
    if tone is Tone.PLAIN:
        return Style.null()
    if tone is Tone.MUTED:
        return Style(dim=True)
    return Style(color=Color.parse(app.theme_variables[_VARIABLE[tone]]).rich_color)
