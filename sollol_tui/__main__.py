"""`python -m sollol_tui` is `sollol`."""

from sollol_tui.cli.main import main

main()
