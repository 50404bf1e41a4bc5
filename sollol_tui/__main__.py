"""The command `sollol`, and `python -m sollol_tui`: Ctrl+C never shows a traceback, however early,
late or often it comes."""

import signal
import sys
from typing import Final

_INTERRUPTED: Final = 130  # before anything was there that could say so


def run() -> None:
    try:
        from sollol_tui.cli.main import main

        main()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # there is nothing left to tell


if __name__ == "__main__":
    run()
