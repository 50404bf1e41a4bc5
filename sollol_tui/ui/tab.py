"""The application of one browser tab, as a process: it ends when whoever started it is gone.

Run: python -m sollol_tui.ui.tab INVENTORY readonly|control PIPE
"""

import os
import sys
import threading

from sollol_tui.client import SOLLOLClient
from sollol_tui.ui.app import run_app


def main(inventory: str, mode: str, pipe: int) -> None:
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    with SOLLOLClient(inventory or None) as client:
        run_app(client, readonly=mode != "control")


def _end_with_parent(pipe: int) -> None:
    """Nothing is ever written into the pipe: it can only be closed. Who would hear a farewell is
    gone, and jobs go on without us."""
    os.read(pipe, 1)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
