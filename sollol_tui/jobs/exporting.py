"""An adapter as others take it: a folder with it alone, one model with it merged in, and what
Ollama needs to build on either. Trains nothing; a folder of somebody else is never replaced."""

import asyncio
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from sollol_tui.hosts.fetch import fetch_tree
from sollol_tui.hosts.hub import cached_snapshot
from sollol_tui.hosts.transfer import Report, silent
from sollol_tui.jobs.adapters import Adapter, find_adapter
from sollol_tui.jobs.beginning import ADAPTER
from sollol_tui.jobs.checkpoints import PREFIX
from sollol_tui.jobs.errand import Errand, Say, carry_out, hosts_for
from sollol_tui.jobs.evaluating import inventory_of, scratch
from sollol_tui.jobs.ollama import OllamaWish, create, place_modelfile, template_of
from sollol_tui.jobs.output import JOB_FILE, chosen_place, part_of, publish
from sollol_tui.jobs.results import write_job_file
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.worker import Worker
from sollol_tui.model.errors import StateError
from sollol_tui.model.events import Event
from sollol_tui.model.export import Exported, ExportWish
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_bytes

_CARD: Final = "README.md"
_TOKENIZER: Final = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.jinja", "tokenizer.model", "vocab.json", "merges.txt"),
)


async def export(
    store: Store,
    inventory: Inventory | None,
    wish: ExportWish,
    here: Path,
    *,
    say: Say,
    notice: Say,
    report: Report = silent,
) -> Exported:
    """Makes the folder that is wished for, and returns where it is. `say` hears what happens,
    `notice` what people should know whatever they look at. Raises InputError, NotFoundError,
    NoWorkersError, StateError and HostError."""
    with scratch(store.home) as folder:
        job = store.find_job(wish.job)
        adapter = await find_adapter(store, job, wish.checkpoint, folder, here, report)
        ollama = _wish_of(adapter, wish, store)
        if ollama is not None and ollama.notice:
            notice(ollama.notice)
        kind = "merged" if wish.merge else "adapter"
        step = f"-{PREFIX}{adapter.checkpoint}" if adapter.checkpoint else ""
        owned_by, beside = f"{job}{step}-{kind}", Path(store.job(job).output_dir)
        output = beside.with_name(f"{beside.name}{step}-{kind}")
        output = chosen_place(wish.to or str(output), here, owned_by)
        output.parent.mkdir(parents=True, exist_ok=True)

        def put(part: Path) -> Path:
            write_job_file(part / JOB_FILE, owned_by, adapter.spec)
            if ollama is not None:
                place_modelfile(part, ollama)
            return publish(part, output, owned_by)

        if wish.merge:
            _check_room(adapter, output, notice)
            inventory = inventory_of(adapter, inventory)
            errand = Errand(
                program="merge",
                title=f"the merge of {adapter.source}",
                spec=adapter.spec,
                model=adapter.model,
                adapter=adapter.stage(folder / "staged"),
                inventory=inventory,
                hosts=hosts_for(inventory, wish.host, adapter.hosts),
            )
            place = await _merged(store, errand, part_of(output, owned_by), put, say, report)
        else:
            part = part_of(output, owned_by)
            shutil.rmtree(part, ignore_errors=True)
            place = put(_copy(adapter, part))
    made = await asyncio.to_thread(create, place, ollama, say) if ollama else {}
    return Exported(path=str(place), **made)


def _wish_of(adapter: Adapter, wish: ExportWish, store: Store) -> OllamaWish | None:
    """What Ollama is to build, checked before anything is done. Raises InputError."""
    if wish.ollama is None:
        return None
    assert adapter.job is not None
    return OllamaWish.of(
        name=wish.ollama,
        spec=adapter.spec,
        model=adapter.model,
        base=wish.base,
        is_merged=wish.merge,
        template=template_of(store, adapter.job),
    )


def _copy(adapter: Adapter, part: Path) -> Path:
    """The adapter, its card and its tokenizer; that of a checkpoint is the base's."""
    part.mkdir(mode=0o700)
    base = _base_folder(adapter.model)
    for name in (*ADAPTER, _CARD, *_TOKENIZER):
        for source in (adapter.folder, *([base] if base and name in _TOKENIZER else [])):
            if (source / name).is_file():
                shutil.copyfile(source / name, part / name)
                break
    return part


def _base_folder(model: str) -> Path | None:
    """Where the base lies on this machine, if it does."""
    if Path(model).is_absolute():
        return Path(model)
    snapshot = cached_snapshot(model)
    return snapshot.folder if snapshot else None


def _check_room(adapter: Adapter, output: Path, notice: Say) -> None:
    """Says what a merged model will take, as far as that is known here. Raises StateError."""
    base = _base_folder(adapter.model)
    if base is None:
        return  # its worker checks its own disk, and this one is checked before it comes
    size = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    notice(f"the merged model takes {format_bytes(size)} here, and on the worker until it is here")
    _check_free(output, size)


def _check_free(output: Path, size: int) -> None:
    free = shutil.disk_usage(output.parent).free
    if free < size:
        raise StateError(
            f"the merged model takes {format_bytes(size)}, and {format_bytes(free)} are free in "
            f"{output.parent}",
            remedy="free some, or choose another place with --to",
        )


async def _merged(
    store: Store,
    errand: Errand,
    part: Path,
    put: Callable[[Path], Path],
    say: Say,
    report: Report,
) -> Path:
    """Has the worker merge, and brings the outcome here, verified."""
    brought: list[Path] = []

    def hear(event: Event) -> None:
        if event.kind in ("loading", "notice"):
            say(f"{event.host}: {clean(event.text('message') or 'loading ' + event.text('what'))}")

    async def bring(worker: Worker, finished: Event) -> None:
        _check_free(part, finished.count("size_bytes") or 0)
        source = f"{worker.run_dir}/result"
        say(f"{worker.host.name}: bringing the merged model")
        fetch = partial(fetch_tree, source=source, part=part, publish=put, report=report)
        brought.append(await worker.over_ssh(fetch))

    await carry_out(store, errand, say=say, hear=hear, then=bring)
    return brought[0]
