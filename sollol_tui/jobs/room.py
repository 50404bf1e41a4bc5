"""Whether this machine's disk has room for what a job that runs says of itself. Removes nothing."""

import shutil
from typing import Final

from sollol_tui.jobs.home import Home
from sollol_tui.model.units import format_bytes

HERE: Final = "this machine"
LEAST_BYTES: Final = 64 * 1024**2
LEAST_PART: Final = 0.05  # of a disk so small that LEAST_BYTES were much of it


def shortage(home: Home) -> str:
    """Why nothing more should come here, "" while there is room: the state itself needs some to
    say that a job rests."""
    disk = shutil.disk_usage(home.root)
    least = min(LEAST_BYTES, int(LEAST_PART * disk.total))
    if disk.free >= least:
        return ""
    return (
        f"the disk of {HERE} is full: {format_bytes(disk.free)} free in {home.root}, "
        f"{format_bytes(least)} needed"
    )
