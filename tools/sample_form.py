"""What the form of a new job asks, for a picture of it: hosts that are not there say what they are;
the planner and the look into the dataset are those of `sollol train`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sollol_tui.jobs.dataset import Checked, inspect_dataset
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.output import Output
from sollol_tui.jobs.planner import make_plan
from sollol_tui.jobs.submit import Prepared
from sollol_tui.jobs.survey import Survey
from sollol_tui.model.facts import Gpu, HostFacts
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.patterns import select
from sollol_tui.model.plan import DatasetFacts
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.units import GIB

TYPED: Final[Mapping[str, str]] = {
    "model": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    "dataset": "code_alpaca.jsonl",
    "workers": "hydra,desktop,attic",
    "epochs": "2",
}
_GPUS: Final = {
    "hydra": ("RTX 3090", 24, 2),
    "desktop": ("RTX 3060", 12, 1),
    "attic": ("RTX 2080 Ti", 11, 1),
}
_ROWS: Final = (
    ("Reverse a list in place.", "items.reverse()"),
    ("Count the vowels of a word.", "sum(letter in 'aeiou' for letter in word.lower())"),
    ("Flatten a list of lists.", "[item for inner in lists for item in inner]"),
)


class FormClient:
    """Answers a form; starts nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._inventory = Inventory(file="inventory.yaml", hosts=tuple(map(_host, _GPUS)))

    def open_survey(self) -> Survey:
        return Survey(open_home(self._folder / "state"))

    async def preview_dataset(self, dataset: str, fmt: str | dict[str, str]) -> Checked:
        file = self._folder / dataset
        rows = ({"instruction": ask, "output": tell} for ask, tell in _ROWS)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return await inspect_dataset(str(file), fmt, rows=len(_ROWS))

    async def prepare_job(
        self, spec: JobSpec, *, survey: Survey | None = None, resume: str | None = None
    ) -> Prepared:
        dataset = DatasetFacts(
            path=spec.dataset, format="alpaca", rows=20_022, sha256="", size_bytes=8 << 20,
            mean_chars=394.0,
        )  # fmt: skip
        facts = {name: _facts(name) for name in _GPUS}
        selection = select(self._inventory, spec.workers)
        return Prepared(
            spec=spec,
            inventory=self._inventory,
            plan=make_plan(spec, self._inventory, selection, facts, {}, dataset, None),
            model=spec.model,
            name="code_alpaca",
            output=Output(template=spec.output_dir, folder=self._folder, name="code_alpaca"),
        )


def _host(name: str) -> Host:
    return Host(name=name)


def _facts(name: str) -> HostFacts:
    gpu, gib, count = _GPUS[name]
    return HostFacts(
        hostname=name, user="ml", home="/home/ml", workdir="/home/ml/.sollol", system="Linux",
        arch="x86_64", libc="glibc", cpu_model="", cpu_cores=16, ram_bytes=64 * GIB,
        ram_available_bytes=48 * GIB, disk_free_bytes=300 * GIB, pythons=(),
        gpus=tuple(Gpu(index=at, name=gpu, vram_bytes=gib * GIB) for at in range(count)),
        address=f"192.0.2.{len(name)}",
    )  # fmt: skip
