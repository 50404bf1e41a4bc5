"""`python -m sollol_tui.cli` is `sollol`."""

from sollol_tui.__main__ import run

run()
