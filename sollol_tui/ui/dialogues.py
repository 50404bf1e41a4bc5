"""What takes more than one screen: a new job, one like another, the inventory and its hosts. Each
begins with what the client says and ends with a word about what came of it."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sollol_tui.inventories import starter_inventory
from sollol_tui.model.errors import NotFoundError
from sollol_tui.model.form import form_of_spec
from sollol_tui.model.inventory_edit import add_host, enable_host, entries_of, set_value
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.states import JobState
from sollol_tui.model.text import clean
from sollol_tui.ui.screens.diff import ConfirmDiff
from sollol_tui.ui.screens.editor import InventoryEditor
from sollol_tui.ui.screens.import_hosts import ImportHosts
from sollol_tui.ui.screens.launch import Launch

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient
    from sollol_tui.ui.app import SollolApp


async def new_job(app: "SollolApp", client: "SOLLOLClient") -> None:
    await _launch(app, Launch(client, "new job", {}))


async def clone_job(app: "SollolApp", client: "SOLLOLClient", job: JobView) -> None:
    """A new job that begins with what was asked for in another one, and where one wants it with
    what that has learnt."""
    spec = await asyncio.to_thread(client.job_spec, job.id)
    learnt_by = job.id if job.step else ""
    title = f"new job like {job.id}"
    await _launch(app, Launch(client, title, form_of_spec(spec), learnt_by=learnt_by))


async def _launch(app: "SollolApp", form: Launch) -> None:
    if (job := await app.push_screen_wait(form)) is None:
        return
    app.look_at(job.id)
    waits = job.state is JobState.QUEUED
    told = f"queued {job.id}: {job.reason}" if waits else f"started {job.id}"
    app.notify(clean(told), markup=False)


async def edit_inventory(app: "SollolApp", client: "SOLLOLClient") -> None:
    """Where there is none yet, the one that `sollol init` writes is offered first."""
    try:
        await asyncio.to_thread(client.inventory_text)
    except NotFoundError:
        path, starter = client.wanted_inventory_file, await asyncio.to_thread(starter_inventory)
        if not await app.push_screen_wait(ConfirmDiff("", starter, str(path))):
            return
        await asyncio.to_thread(client.write_first_inventory, starter)
        _say_written(app, path.name)
    text = await asyncio.to_thread(client.inventory_text)
    path = client.inventory_file
    if await app.push_screen_wait(InventoryEditor(client, path, text)) is not None:
        _say_written(app, path.name)


async def cordon_hosts(
    app: "SollolApp", client: "SOLLOLClient", names: Sequence[str], *, cordons: bool
) -> None:
    """Keeps hosts out of new jobs, or lets them in again, after the changes were shown."""
    path, old = client.inventory_file, await asyncio.to_thread(client.inventory_text)
    new = old
    for entry in dict.fromkeys(e for n in names for e in entries_of(old, n, file=path.name)):
        if cordons:
            new = set_value(new, entry, "enabled", False, file=path.name)
        else:
            new = enable_host(new, entry, file=path.name)
    if new == old:
        app.notify(f"{clean(path.name)} says so already", markup=False)
    elif await app.push_screen_wait(ConfirmDiff(old, new, str(path))):
        await asyncio.to_thread(client.write_inventory, new, instead_of=old)
        what = (
            "stay out of new jobs that do not name them"
            if cordons
            else "take part in new jobs again"
        )
        _say_written(app, path.name, f"{' '.join(names)} {what}")


async def import_hosts(app: "SollolApp", client: "SOLLOLClient") -> None:
    """Hosts of ~/.ssh/config into the inventory, after its changes were shown."""
    offers = await client.offered_hosts()
    if not offers:
        app.notify("every host of ~/.ssh/config is there already", markup=False)
        return
    if not (names := await app.push_screen_wait(ImportHosts(offers))):
        return
    path, old = client.inventory_file, await asyncio.to_thread(client.inventory_text)
    new = old
    for name in names:
        new = add_host(new, name, {}, file=path.name)
    if await app.push_screen_wait(ConfirmDiff(old, new, str(path))):
        await asyncio.to_thread(client.write_inventory, new, instead_of=old)
        _say_written(app, path.name, f"next: sollol hosts trust {' '.join(names)}")


def _say_written(app: "SollolApp", file: str, more: str = "") -> None:
    app.action_look_again()
    app.notify(f"{clean(file)} is written{f' - {more}' if more else ''}", markup=False)
