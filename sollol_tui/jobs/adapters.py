"""An adapter that a person names, by its job, by a checkpoint of it, or by its folder: where its
weights are on this machine, and how it was trained. Changes nothing there."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sollol_tui.hosts.fetch import MANIFEST
from sollol_tui.hosts.transfer import Report, file_sha256
from sollol_tui.jobs.beginning import ADAPTER
from sollol_tui.jobs.checkpoints import PREFIX
from sollol_tui.jobs.dataset import locate, resolve_model
from sollol_tui.jobs.holdings import Holders, choose
from sollol_tui.jobs.output import JOB_FILE, owner
from sollol_tui.jobs.records import load
from sollol_tui.jobs.results import fetch_adapter
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import InputError, JobError, NotFoundError
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.job_file import parse_job_file, spec_from_data
from sollol_tui.model.plan import DatasetFacts, Plan
from sollol_tui.model.spec import JobSpec

WEIGHTS, CONFIG = ADAPTER
_OWNER: Final = re.compile(r"(j-[0-9a-f]+)(?:-checkpoint-(\d{1,15}))?(?:-adapter)?")
_OTHER_KINDS: Final = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern")


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """`source` tells in words what it is. `job` is None where this machine knows none; `dataset` is
    what that job was trained on, `hosts` are those that took part."""

    source: str
    folder: Path
    spec: JobSpec
    model: str
    job: str | None = None
    checkpoint: int | None = None
    dataset: DatasetFacts | None = None
    hosts: tuple[str, ...] = ()
    inventory: Inventory | None = None

    def stage(self, target: Path) -> Path:
        """Copies weights and configuration into a folder of their own, with a manifest."""
        target.mkdir(mode=0o700, parents=True)
        entries = {}
        for name in ADAPTER:
            shutil.copyfile(self.folder / name, target / name)
            entries[name] = {
                "sha256": file_sha256(target / name),
                "size": (target / name).stat().st_size,
            }
        told = {"v": 1, "source": self.source, "files": entries}
        (target / MANIFEST).write_text(json.dumps(told))
        return target


async def find_adapter(
    store: Store,
    named: str,
    checkpoint: int | str | None,
    scratch: Path,
    here: Path,
    report: Report,
) -> Adapter:
    """The adapter of a job (or its checkpoint, a step or "newest") or in a folder; what is not on
    this machine comes into `scratch`. Raises NotFoundError, InputError, JobError and HostError."""
    try:
        if "/" in named or named.startswith((".", "~")):
            raise NotFoundError("")
        job = store.find_job(named)
    except NotFoundError:
        folder = locate(named, here)
        if not folder.is_dir() and "/" not in named:
            raise
        if checkpoint is not None:
            raise InputError.single(
                "--checkpoint", f"{named} is a folder; name its {PREFIX}N itself instead"
            ) from None
        return _of_folder(store, folder, here)
    return await _of_job(store, job, checkpoint, scratch, report)


async def _of_job(
    store: Store, job: str, checkpoint: int | str | None, scratch: Path, report: Report
) -> Adapter:
    record = store.job(job)
    plan, step, source = load(Plan, record.plan), None, job
    if checkpoint is None:
        folder = Path(record.output_dir)
        if owner(folder) != job or not (folder / WEIGHTS).is_file():
            folder = await _fetched(store, job, scratch / "result", report)
    else:
        wanted = None if checkpoint == "newest" else int(checkpoint)
        holders = Holders.of(store, job).of_host(None)
        chosen = choose(await holders.survey(), wanted)
        step, source = chosen.step, f"{PREFIX}{chosen.step} of {job}"
        folder = scratch / f"{PREFIX}{step}"
        await holders.bring(chosen, scratch / "part", lambda part: part.rename(folder), report)
    return Adapter(
        source=source,
        folder=folder,
        spec=load(JobSpec, record.spec),
        model=record.model,
        job=job,
        checkpoint=step,
        dataset=plan.dataset,
        hosts=tuple(worker.host for worker in plan.workers),
        inventory=load(Inventory, record.inventory),
    )


async def _fetched(store: Store, job: str, place: Path, report: Report) -> Path:
    instead = "or take one of its checkpoints: --checkpoint newest"
    try:
        return await fetch_adapter(store, job, str(place), report)
    except (NotFoundError, JobError) as error:
        raise type(error)(error.message, remedy=f"{error.remedy}, {instead}") from None


def _of_folder(store: Store, folder: Path, here: Path) -> Adapter:
    if missing := [name for name in ADAPTER if not (folder / name).is_file()]:
        raise NotFoundError(
            f"{folder} holds no adapter: it lacks {', '.join(missing)}",
            remedy="name a job, or a folder that peft can load",
        )
    whose = _OWNER.fullmatch(owner(folder))
    job = whose[1] if whose else None
    file = folder / JOB_FILE
    if file.is_file():
        spec = parse_job_file(file.read_bytes(), str(file))
    else:
        spec = _spec_of(folder / CONFIG)
    model = resolve_model(spec.model, here)
    try:
        record = store.job(job) if job else None
    except NotFoundError:
        record = None
    plan = load(Plan, record.plan) if record else None
    return Adapter(
        source=str(folder),
        folder=folder,
        spec=spec,
        model=model,
        job=job if record else None,
        checkpoint=int(whose[2]) if whose and whose[2] else None,
        dataset=plan.dataset if plan else None,
        hosts=tuple(worker.host for worker in plan.workers) if plan else (),
        inventory=load(Inventory, record.inventory) if record else None,
    )


def _spec_of(file: Path) -> JobSpec:
    """What peft's configuration says of an adapter that others trained. Raises InputError for one
    that no job here could have made."""
    try:
        config: Mapping[str, Any] = json.loads(file.read_bytes())
        kind, target = config["peft_type"], config["target_modules"]
        lora = {"r": config["r"], "alpha": config["lora_alpha"]}
        base = config["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError):
        raise InputError.single(str(file), "does not describe a LoRA adapter") from None
    odd = next((key for key in _OTHER_KINDS if config.get(key)), None)
    if odd is not None or kind != "LORA" or config.get("bias", "none") != "none":
        what = odd or ("bias" if kind == "LORA" else f"peft_type {kind}")
        raise InputError.single(str(file), f"is an adapter with {what}, which sollol cannot load")
    return spec_from_data(
        {
            "model": base,
            "dataset": "none",
            "lora": {
                **lora,
                "target": sorted(target) if isinstance(target, list) else target,
                "modules_to_save": config.get("modules_to_save") or [],
            },
        },
        str(file),
    )
