"""What hosts say of themselves, at three widths and with and without colours; the hosts' answers
are given here, because those of real ones differ from machine to machine."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from sollol_tui.client import SOLLOLClient
from sollol_tui.model.checkpoints import CheckpointSurvey, Holding, merge
from sollol_tui.model.diagnosis import (
    Check,
    Diagnosis,
    Examination,
    Outcome,
    Stage,
    not_reached,
    ok,
)
from sollol_tui.model.links import Endpoint, Firewall, Link, NetworkReport, Reach
from sollol_tui.model.snapshot import GpuReading, HostState, HostView
from tests.cli.furnished import GIB, furnish, supervised
from tests.cli.goldens import golden, timeless
from tests.cli.shell import sollol

UNKNOWN_KEY = (
    "the host key of 192.0.2.9 is unknown: it shows ssh-ed25519 "
    "SHA256:QObiz0ExKdLerHmL/5TpXcNaiRHh2kmrSbUjnauhl/I; compare it with the machine's own, then: "
    "sollol hosts trust attic"
)
COMMANDS = {
    "hosts-ls": ["hosts", "ls"],
    "checkpoints": ["checkpoints", "tools-621k"],
    "doctor": ["doctor", "w1,w2", "--network"],
}


def nodes(_client: SOLLOLClient, _patterns: Sequence[str]) -> list[HostView]:
    now = time.time()
    gpus = tuple(
        GpuReading(
            index=index,
            name="NVIDIA GeForce RTX 3090",
            util_percent=97.0 - index,
            vram_used_bytes=(21 - index) * GIB,
            vram_total_bytes=24 * GIB,
            temp_c=71.0,
        )
        for index in range(2)
    )
    figures: dict[str, Any] = {"ram_used_bytes": 28 * GIB, "ram_total_bytes": 64 * GIB}
    return [
        HostView(
            name="hydra",
            state=HostState.UP,
            at=now,
            gpus=gpus,
            cpu_percent=31.0,
            cpu_cores=16,
            job="j-7f3a01",
            share=0.62,
            **figures,
        ),
        HostView(name="old-xeon-in-the-cellar", state=HostState.UP, at=now, cpu_percent=5.0),
        HostView(name="attic", state=HostState.REFUSED, reason=UNKNOWN_KEY, since=now - 250),
        HostView(name="pi01", state=HostState.DOWN, reason="no route to host", since=now - 250),
        HostView(name="pi02", state=HostState.DISABLED),
    ]


def survey(_client: SOLLOLClient, job: str) -> CheckpointSurvey:
    def at(place: str, step: int, damage: str = "") -> Holding:
        return Holding(place=place, step=step, at=0.0, size_bytes=101 * 2**20, damage=damage)

    torn = "adapter_model.safetensors is not what its manifest says"
    return merge(
        "j-7f3a01",
        [at("w1", 400), at("w2", 400, torn), at("w1", 200), at("w2", 200), at("coordinator", 200)],
        {400: (1_795_000_000.0, 51_200), 200: (1_794_990_000.0, 25_600)},
        {"pi-behind": "no route to 10.0.0.2 port 22; is it switched on and in this network?"},
    )


async def examined(_client: SOLLOLClient, *_: object, **__: object) -> Examination:
    fine = Diagnosis(host="w1", checks=tuple(ok(stage, f"{stage.value} fits") for stage in Stage))
    chatty = Check(
        stage=Stage.SHELL,
        outcome=Outcome.WARNING,
        found="a command starts within 2009 ms",
        reason="its start-up files print without a terminal: hello",
        remedy="let them end where no terminal is: as the first line of ~/.bashrc, "
        "`case $- in *i*) ;; *) return ;; esac`",
    )
    small = Check(
        stage=Stage.DISK,
        outcome=Outcome.FAILED,
        found="2.0 MiB free in /home/ml/.sollol",
        reason="a job needs 3.0 GiB for a cpu environment and checkpoints",
        remedy="free some space there, or set workdir to a larger disk",
    )
    before = tuple(ok(stage, "there") for stage in (Stage.SSH, Stage.SYSTEM, Stage.WORKDIR))
    rest = tuple(not_reached(stage) for stage in list(Stage)[list(Stage).index(Stage.DISK) + 1 :])
    poor = Diagnosis(host="w2", checks=(before[0], chatty, *before[1:], small, *rest))
    ends = tuple(
        Endpoint(
            host=name,
            address=f"10.0.0.{number}",
            interface="enp0s31f6",
            speed_mbit=1000,
            firewall=Firewall.UFW,
        )
        for number, name in enumerate(("w1", "w2"), 1)
    )
    shut = Link(origin="w2", target="w1", job_port=Reach.FILTERED, free_port=Reach.FILTERED)
    open_ = Link(
        origin="w1",
        target="w2",
        job_port=Reach.OK,
        free_port=Reach.OK,
        bytes_per_s=117e6,
        latency_s=0.0002,
    )
    network = NetworkReport(endpoints=ends, links=(open_, shut))
    return Examination(diagnoses=(fine, poor), network=network)


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    furnish(tmp_path)
    monkeypatch.setattr(SOLLOLClient, "list_nodes", nodes)
    monkeypatch.setattr(SOLLOLClient, "checkpoints", survey)
    monkeypatch.setattr(SOLLOLClient, "examine_hosts", examined)
    with supervised():
        yield


@pytest.mark.parametrize("columns", [60, 80, 160])
@pytest.mark.parametrize("name", COMMANDS)
def test_tables_fit_the_terminal(
    answers: None, name: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    _, plain, _ = sollol("--color", "never", *COMMANDS[name])
    assert "\x1b" not in plain
    assert timeless(plain) == golden(f"{name}.{columns}", plain)
    _, coloured, _ = sollol("--color", "always", *COMMANDS[name])
    assert click.unstyle(timeless(coloured)) == timeless(plain)


def test_a_command_in_a_reason_can_be_copied_to_the_end_of_its_line(answers: None) -> None:
    _, out, _ = sollol("hosts", "ls")
    assert [line for line in out.splitlines() if line.endswith("sollol hosts trust attic")]


def test_what_is_amiss_is_coloured_only_where_colours_are_wanted(
    answers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b[31mattic" in sollol("--color", "always", "hosts", "ls")[1]
    assert "\x1b" not in sollol("hosts", "ls")[1]
    monkeypatch.setenv("SOLLOL_COLOR", "always")
    assert "\x1b[31mattic" in sollol("hosts", "ls")[1]
