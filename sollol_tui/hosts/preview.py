"""What provisioning would do on a host. Only looks: nothing there is made, sent or changed."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

from sollol_tui.hosts import payload as payloads
from sollol_tui.hosts.installed import Installed
from sollol_tui.hosts.steps import Site, Step, StepState
from sollol_tui.hosts.uv import kind_of, ours, ours_fits
from sollol_tui.hosts.wheelhouse import MissingWheelsError, Wheelhouse, extract_uv
from sollol_tui.model.units import format_bytes


async def preview(site: Site, *, report: Callable[[Step], None], recreate: bool = False) -> bool:
    """Reports each step as unchanged or as what would be done; returns whether there is any of
    these. Raises UnsuitableError where provisioning would refuse the host."""
    seen = await site.look()
    site.check_folder(seen.folder)
    steps = await asyncio.to_thread(_steps, site, seen, recreate)
    for step in steps:
        report(step)
    return any(step.state is StepState.WOULD for step in steps)


def _steps(site: Site, seen: Installed, recreate: bool) -> list[Step]:
    steps = []

    def say(name: str, would: str, unchanged: str = "") -> None:
        state = StepState.WOULD if would else StepState.UNCHANGED
        steps.append(Step(name=name, state=state, detail=would or unchanged))

    is_ready = seen.folder.is_private and seen.folder.is_writable
    say("workdir", "" if is_ready else f"make {site.workdir}, closed to others", site.workdir)
    size = format_bytes(len(payloads.payload_tar(site.root)))
    say("payload", "" if seen.payload == "whole" else f"send {size}", site.payload_hash)
    candidates = site.candidates
    built = next((e for e in seen.environments if e in candidates and not recreate), None)
    if built is not None:
        say("python", "", candidates[built].version)
        if seen.uv.is_damaged(site.facts):
            say("uv", *_uv(site, seen, None))
        say("environment", "", built)
        is_checked = built in seen.checked and seen.payload == "whole"
        say("selfcheck", "" if is_checked else "import torch, multiply a matrix", "passed before")
        return steps
    wheelhouse = site.wheelhouse()
    say("uv", *_uv(site, seen, wheelhouse))
    version, wheels = _wheels(site, seen, wheelhouse)
    python = next(p for p in candidates.values() if p.version == version)
    fetched = f"fetch {version}" + (f" from {m}" if (m := site.packages.python_mirror) else "")
    say("python", "" if python.path else fetched, f"{version} at {python.path}")
    if wheelhouse is not None:
        say("wheels", wheels, "all there")
    again = "again " if recreate and site.env_id(version) in seen.environments else ""
    what = f"Python {version}, torch for {site.build or site.accelerator}"
    say("environment", f"build {again}for {what}, packages from {_source(site, wheelhouse)}")
    say("selfcheck", "import torch, multiply a matrix")
    return steps


def _uv(site: Site, seen: Installed, wheelhouse: Wheelhouse | None) -> tuple[str, str]:
    facts = site.facts
    target = f"{site.workdir}/bin/uv"
    if ours_fits(facts):
        size = format_bytes(ours().stat().st_size)
        return ("" if seen.uv.equals(ours()) else f"send ours, {size}"), target
    if wheelhouse is not None and (wheel := wheelhouse.uv(facts)) is not None:
        with tempfile.TemporaryDirectory() as folder:
            is_there = seen.uv.equals(extract_uv(wheel, Path(folder)))
        return ("" if is_there else f"send the one in {wheel.path.name}"), target
    if seen.uv.sha256 or facts.uv:
        return "", target if seen.uv.sha256 else facts.uv
    return f"install it by pip, because ours is not for {kind_of(facts)}", ""


def _wheels(site: Site, seen: Installed, wheelhouse: Wheelhouse | None) -> tuple[str, str]:
    """The version of Python that would be taken, and what of the wheelhouse would be sent. Raises
    MissingWheelsError when it serves none."""
    refusals: list[MissingWheelsError] = []
    for python in site.candidates.values():
        if wheelhouse is None:
            return python.version, ""
        try:
            chosen = wheelhouse.chosen(site.host, site.facts, python.version, site.build, site.lock)
        except MissingWheelsError as error:
            refusals.append(error)
            continue
        missing = [wheel for wheel in chosen if wheel.place not in seen.wheels]
        size = format_bytes(sum(wheel.size for wheel in missing))
        return python.version, f"send {len(missing)} of {len(chosen)}, {size}" if missing else ""
    raise min(refusals, key=lambda refusal: refusal.missing)


def _source(site: Site, wheelhouse: Wheelhouse | None) -> str:
    if wheelhouse is not None:
        return f"the wheelhouse {wheelhouse.folder}"
    given = (site.packages.index_url, site.packages.find_links)
    return " and ".join(source for source in given if source) or "the public index"
