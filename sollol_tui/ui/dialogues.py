"""What takes more than one screen: a new job, one like another, the inventory and its hosts. Each
begins with what the client says and ends with a word about what came of it."""

import asyncio
from typing import TYPE_CHECKING

from sollol_tui.model.form import form_of_spec
from sollol_tui.model.inventory_edit import add_host
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


async def clone_job(app: "SollolApp", client: "SOLLOLClient", job_id: str) -> None:
    """A new job that begins with what was asked for in another one."""
    spec = await asyncio.to_thread(client.job_spec, job_id)
    await _launch(app, Launch(client, f"new job like {job_id}", form_of_spec(spec)))


async def _launch(app: "SollolApp", form: Launch) -> None:
    if (job := await app.push_screen_wait(form)) is None:
        return
    app.look_at(job.id)
    waits = job.state is JobState.QUEUED
    told = f"queued {job.id}: {job.reason}" if waits else f"started {job.id}"
    app.notify(clean(told), markup=False)


async def edit_inventory(app: "SollolApp", client: "SOLLOLClient") -> None:
    text = await asyncio.to_thread(client.inventory_text)
    path = client.inventory_file
    if await app.push_screen_wait(InventoryEditor(client, path, text)) is not None:
        _say_written(app, path.name)


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
