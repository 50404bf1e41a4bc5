"""A client for forms and editors: files are real, plans are answered from memory."""

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sollol_tui.drafting import Drafting
from sollol_tui.inventories import InventoryFile
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.survey import Survey
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState
from tests.ui.sample import NOW, SampleClient

INVENTORY = "# my lab\nhosts:\n  hydra: {port: 2222}   # the big one\n  attic:\n    nice: 10\n"


@dataclass
class Planned:
    spec: JobSpec
    oddities: list[str] = field(default_factory=list)
    resume: str | None = None

    def parts(self) -> list[tuple[str, list[str]]]:
        spec = self.spec
        parts = [("plan", [f"{spec.model} on {spec.dataset}, r={spec.lora.r}, {spec.workers}"])]
        return [*parts, ("from", [f"{self.resume} at step 40"])] if self.resume else parts


def _may() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class DraftClient(SampleClient, Drafting):
    """`drafted` and `checked` are the specs that were planned with a survey and without one."""

    inventory_place: Path = Path("inventory.yaml")
    may_plan: asyncio.Event = field(default_factory=_may)
    refusal: Exception | None = None
    drafted: list[JobSpec] = field(default_factory=list)
    checked: list[JobSpec] = field(default_factory=list)
    started: list[JobSpec] = field(default_factory=list)
    specs: Mapping[str, JobSpec] = field(default_factory=dict)
    starts_as: JobState = JobState.PLANNING
    resumed_from: str | None = None
    odd: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home = open_home()
        self._inventory = InventoryFile(self.inventory_place)
        self._lock = threading.RLock()

    def job_spec(self, job_id: str) -> JobSpec:
        return self.specs[job_id]

    async def prepare_job(
        self, spec: JobSpec, survey: Survey | None = None, resume: str | None = None
    ) -> Planned:
        self.resumed_from = resume
        (self.checked if survey is None else self.drafted).append(spec)
        await self.may_plan.wait()
        if self.refusal is not None:
            raise self.refusal
        return Planned(spec, self.odd, resume)

    def start_job(self, prepared: Planned) -> JobView:
        self.started.append(prepared.spec)
        job = JobView(id="j-new1", name="new", state=self.starts_as, reason="waits", created_at=NOW)
        self.show(replace(self.shown, jobs=(*self.shown.jobs, job)))
        return job
