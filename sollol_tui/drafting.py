"""What people write before it counts, as SOLLOLClient has it: jobs that are not submitted yet, and
the text of the inventory. Starts nothing."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sollol_tui.inventories import InventoryFile, read_text, write_text
from sollol_tui.jobs.home import Home

if TYPE_CHECKING:  # loaded by what needs it: a reading command starts without SSH and pydantic
    from sollol_tui.jobs.dataset import Checked
    from sollol_tui.jobs.survey import Survey

PREVIEWED_ROWS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A host of ~/.ssh/config that the inventory lacks, and where it leads in words."""

    alias: str
    user: str
    place: str


class Drafting:
    """A part of SOLLOLClient, which finds the inventory and opens the state."""

    home: Home
    _inventory: InventoryFile
    _lock: threading.RLock

    @property
    def inventory_file(self) -> Path:
        """Where the inventory is. Raises NotFoundError when there is none."""
        with self._lock:
            return self._inventory.path

    @property
    def wanted_inventory_file(self) -> Path:
        """Where the first inventory would be written."""
        with self._lock:
            return self._inventory.wanted_path

    def write_first_inventory(self, text: str) -> None:
        """Writes an inventory where there was none. Raises SollolError, and changes nothing, when
        there is one by now or the folder cannot be written to."""
        write_text(self.wanted_inventory_file, text, instead_of=None)

    def open_survey(self) -> "Survey":
        """Remembers what plans stand on while one job is written; whoever opens it closes it."""
        from sollol_tui.jobs.survey import Survey

        return Survey(self.home)

    async def preview_dataset(self, dataset: str, fmt: str | dict[str, str]) -> "Checked":
        """The first rows of a dataset as the model sees them. Raises InputError, also for one that
        only workers can fetch, and NotFoundError."""
        from sollol_tui.jobs.dataset import HUB, inspect_dataset, locate_dataset
        from sollol_tui.model.errors import InputError

        place = locate_dataset(dataset, Path.cwd())
        if place.startswith(HUB):
            raise InputError.single(place, "lies on the hub, and only workers fetch and check it")
        return await inspect_dataset(place, fmt, rows=PREVIEWED_ROWS)

    def inventory_text(self) -> str:
        """What the inventory says now, good or not. Raises NotFoundError, or InputError when it is
        no text."""
        return read_text(self.inventory_file)

    def write_inventory(self, text: str, *, instead_of: str) -> None:
        """Puts `text` in place of what the inventory said. Raises SollolError, and changes nothing,
        when it says something else by now, and InputError for a text that is no inventory."""
        from sollol_tui.model.inventory_file import parse_inventory

        path = self.inventory_file
        parse_inventory(text.encode(), str(path))
        write_text(path, text, instead_of=instead_of)

    async def offered_hosts(self) -> list[Offer]:
        """The hosts of ~/.ssh/config that the inventory has not. Raises NotFoundError when there is
        no such file, and InputError when the inventory cannot be read."""
        from sollol_tui.aliases import places_of, read_aliases, ssh_config
        from sollol_tui.model.inventory_file import parse_inventory

        path = self.inventory_file
        there = {host.name for host in parse_inventory(read_text(path).encode(), str(path)).hosts}
        new = [alias for alias in read_aliases(ssh_config()) if alias not in there]
        places = await places_of(new)
        return [Offer(alias=alias, user=places[alias][0], place=places[alias][1]) for alias in new]
