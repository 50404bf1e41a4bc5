"""Brings a finished job's adapter to the coordinator and lays beside it what explains it."""

import shutil
from pathlib import Path

from sollol_tui.hosts.fetch import fetch_tree
from sollol_tui.hosts.ssh import connect
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.worker import Worker
from sollol_tui.model.errors import StateError
from sollol_tui.model.spec import JobSpec


async def collect(home: Home, job: str, spec: JobSpec, worker: Worker, output: Path) -> None:
    """Fetches the result from `worker` into `output`, verified, with the resolved job.yaml and the
    logs of all ranks. A folder that is there already is replaced only by the same job's result."""
    assert worker.place is not None
    if output.exists() and any(output.iterdir()) and _owner(output) != job:
        raise StateError(
            f"{output} holds something else",
            remedy=f"move it away, then: sollol fetch {job}",
        )
    async with connect(worker.host, [home.known_hosts]) as connection:
        await fetch_tree(connection, f"{worker.place.run_dir}/result", output)
    _write_job_file(output, job, spec)
    logs = output / "logs"
    for path in sorted(home.job(job).glob("*/log.*")):
        target = logs / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _write_job_file(output: Path, job: str, spec: JobSpec) -> None:
    from ruamel.yaml import YAML

    with (output / "job.yaml").open("w") as file:
        file.write(f"# {job}\n")
        YAML(typ="safe", pure=True).dump(spec.as_data(), file)


def _owner(output: Path) -> str:
    try:
        first = (output / "job.yaml").read_text().partition("\n")[0]
    except OSError:
        return ""
    return first.removeprefix("# ").strip()
