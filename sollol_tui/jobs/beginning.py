"""Where a new job begins when that is a checkpoint of another one: at its cursor where the samples
are the same, with its weights alone where they are not, and nowhere where neither can be meant.

The job's folder gets it before the job can start; its workers get it as they are prepared."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sollol_tui.hosts.fetch import MANIFEST
from sollol_tui.jobs.checkpoints import PREFIX, beginning_folder, kept_folder
from sollol_tui.jobs.holdings import Holders, choose
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.output import sync_folder
from sollol_tui.jobs.records import load
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import InputError, StateError
from sollol_tui.model.events import whole
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import JobSpec

ADAPTER: Final = ("adapter_model.safetensors", "adapter_config.json")
CURSOR: Final = "cursor.json"
STAGED: Final = "staged"  # below the state folder: checkpoints on their way to a new job
NEWEST: Final = "newest"
_WEIGHTS: Final = ("model", "lora.r", "lora.alpha", "lora.target", "lora.modules_to_save")
_ORDER: Final = ("format", "max_length", "val_size", "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """`folder` is a verified copy of the checkpoint. `instead` says why only its weights count; ""
    when the run goes on at its cursor, after `samples_done` samples."""

    job: str
    step: int
    folder: Path
    samples_done: int
    instead: str = ""

    @property
    def sentence(self) -> str:
        """What the new job does with it, for people."""
        which = f"{PREFIX}{self.step} of {self.job}"
        if self.instead:
            return (
                f"begins with the weights of {which} and the first sample, its optimizer anew, "
                f"because {self.instead}"
            )
        return (
            f"goes on from {which}: its weights and optimizer, after {self.samples_done:,} samples"
        )

    def lay(self, home: Home, job: str) -> None:
        """Puts it where the supervisor of the new job looks for it, and takes it from where it
        waited. Raises StateError."""
        if self.instead:
            target = beginning_folder(home, job)
        else:
            target = kept_folder(home, job) / self.folder.name
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(self.folder, part, copy_function=os.link)
            if self.instead:
                _keep_weights(part, self.job, self.step)
            part.rename(target)
            sync_folder(target.parent)
        except OSError as error:
            raise StateError(
                f"{target} cannot be made: {error.strerror}", remedy="is there space? then again"
            ) from error
        shutil.rmtree(self.folder, ignore_errors=True)


def _keep_weights(folder: Path, job: str, step: int) -> None:
    """Leaves of a checkpoint the adapter, and says whose it is."""
    files = json.loads((folder / MANIFEST).read_bytes())["files"]
    for path in sorted(folder.iterdir()):
        if path.name not in ADAPTER:
            path.unlink()
    entries = {name: files[name] for name in ADAPTER}
    told = {"v": 1, "source": f"{PREFIX}{step} of {job}", "files": entries}
    with (folder / MANIFEST).open("x", encoding="utf-8") as opened:
        json.dump(told, opened, indent=1)
        opened.flush()
        os.fsync(opened.fileno())


async def begin_from(store: Store, wanted: str, spec: JobSpec, plan: Plan) -> Beginning:
    """Brings the checkpoint that is `wanted` as JOB or JOB:STEP, and decides what a new job with
    that spec and plan can do with it. Raises InputError where its weights do not fit, or nothing
    would be left to learn, NotFoundError where there is none."""
    name, _, told = wanted.partition(":")
    job, step = store.find_job(name), parse_step(told or NEWEST)
    record = store.job(job)
    old, old_plan = load(JobSpec, record.spec), load(Plan, record.plan)
    if problem := misfit(old, spec):
        raise InputError.single("checkpoint", problem)
    chosen = choose(await (holders := Holders.of(store, job)).survey(), step)
    folder = store.home.root / STAGED / job / f"{PREFIX}{chosen.step}"

    def put(part: Path) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        return part.rename(folder)

    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    await holders.bring(chosen, folder.with_name(f".{folder.name}.part"), put)
    done, rows = _read_cursor(folder / CURSOR)
    instead = other_samples(old, old_plan, spec, plan, done)
    if not instead and rows and done >= rows * spec.epochs:
        raise InputError.single(
            "checkpoint",
            f"{PREFIX}{chosen.step} of {job} has learnt all of its {done:,} samples; set epochs "
            "higher, or give other data",
        )
    return Beginning(job=job, step=chosen.step, folder=folder, samples_done=done, instead=instead)


def _read_cursor(file: Path) -> tuple[int, int]:
    """How many samples are learnt, and how many rows an epoch has; 0 where it is not told."""
    try:
        cursor = json.loads(file.read_bytes())
        return whole(cursor["samples_done"]) or 0, whole(cursor["order"]["rows"]) or 0
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError.single("checkpoint", f"{file} does not say how far it is") from None


def parse_step(text: str) -> int | None:
    """The step of `400`, `checkpoint-400`; None of `newest`. Raises InputError."""
    number = text.removeprefix(PREFIX)
    if text == NEWEST:
        return None
    if not (number.isascii() and number.isdecimal() and 0 < int(number[:16]) < 10**15):
        raise InputError.single("checkpoint", f"'{text}' is no step; a number, or {NEWEST}")
    return int(number)


def misfit(old: JobSpec, new: JobSpec) -> str:
    """Why a checkpoint of one spec holds no weights for another; "" when it does."""
    before, after = _flat(old), _flat(new)
    for key in _WEIGHTS:
        if before[key] != after[key]:
            return (
                f"its weights were made with {key} {before[key]}, and {after[key]} is asked for; "
                f"leave {key} as it was, or begin without the checkpoint"
            )
    return ""


def other_samples(
    old: JobSpec, old_plan: Plan, new: JobSpec, new_plan: Plan, samples_done: int
) -> str:
    """Why the next sample after a checkpoint is not the same in both runs; "" when it is. More
    epochs change no sample, unless the old run ended with a step that was cut short."""
    data, other = old_plan.dataset, new_plan.dataset
    if (data.path if data.is_on_hub else data.sha256) != (
        other.path if other.is_on_hub else other.sha256
    ):
        return "the data are others"
    if (was := old_plan.global_batch) != (now := new_plan.global_batch):
        return f"global_batch was {was} and is {now}"
    before, after = _flat(old), _flat(new)
    for key in _ORDER:
        if before[key] != after[key]:
            return f"{key} was {before[key]} and is {after[key]}"
    if old.epochs != new.epochs and samples_done % new_plan.global_batch:
        return "its last step was a short one, which a longer run does not have"
    return ""


def _flat(spec: JobSpec) -> Mapping[str, Any]:
    data = spec.as_data()
    return data | {f"lora.{key}": value for key, value in data["lora"].items()}
