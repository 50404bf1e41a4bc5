"""`python -m sollol_tui.cli` is `sollol`."""

from sollol_tui.cli.main import main

main()
