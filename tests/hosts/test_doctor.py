"""The doctor on a local host: what it finds, what it mends, and what it leaves alone."""

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sollol_tui.hosts.doctor import Expectations, diagnose, diagnose_all, passed_over_options
from sollol_tui.hosts.environment import Environment
from sollol_tui.hosts.facts import gather_facts
from sollol_tui.hosts.provision import provision
from sollol_tui.hosts.ssh import connect
from sollol_tui.hosts.steps import Site
from sollol_tui.hosts.workdir import parse_found
from sollol_tui.jobs.planner import MIN_DISK, accelerator_of
from sollol_tui.model.diagnosis import Check, Diagnosis, Outcome, Stage
from sollol_tui.model.errors import HostKeyError
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.inventory import Host, Packages
from tests.hosts.conftest import Server
from tests.hosts.test_ssh import say_marks_then
from tests.jobs.samples import facts
from tests.payloads import stub_payload


@pytest.fixture(autouse=True)
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ranks that need no torch: an environment is built in a second."""
    folder = stub_payload(tmp_path / "stub")
    monkeypatch.setenv("SOLLOL_PAYLOAD", str(folder))
    return folder


def expected(*, fix: bool = False, known_hosts: tuple[Path, ...] = ()) -> Expectations:
    return Expectations(
        known_hosts=known_hosts,
        packages=Packages(),
        accelerator_of=accelerator_of,
        disk_needed=dict.fromkeys(MIN_DISK, 1),
        fix=fix,
    )


async def examined(host: Host, *, fix: bool = False) -> Diagnosis:
    return await diagnose(host, expected(fix=fix), lambda name, check: None)


def at(diagnosis: Diagnosis, stage: Stage) -> Check:
    return diagnosis.checks[list(Stage).index(stage)]


async def provisioned(host: Host) -> Environment:
    async with connect(host, []) as connection:
        facts = await gather_facts(connection)
        site = await Site.read(connection, facts, Packages(), accelerator="cpu", env=host.env)
        return await provision(site, report=lambda step: None)


@contextmanager
def training_with(python: Path) -> Iterator[None]:
    """A process that names the environment's Python, as a rank does."""
    with subprocess.Popen(["sleep", "600"], env={**os.environ, "PYTHON": str(python)}) as rank:
        try:
            yield
        finally:
            rank.kill()


@pytest.fixture
def workdir(local_host: Host) -> Path:
    return Path(local_host.workdir)


async def test_a_host_that_was_never_used_is_well_and_nothing_is_made_there(
    local_host: Host, workdir: Path
) -> None:
    diagnosis = await examined(local_host)
    assert [check.stage for check in diagnosis.checks] == list(Stage)
    assert diagnosis.outcome in (Outcome.OK, Outcome.WARNING)
    assert diagnosis.error is None
    assert at(diagnosis, Stage.WORKDIR).fix == "make it, with mode 0700"
    assert "sollol provision here" in at(diagnosis, Stage.ENVIRONMENT).found
    assert not workdir.exists()


async def test_fix_makes_the_workdir_private_and_says_so(local_host: Host, workdir: Path) -> None:
    check = at(await examined(local_host, fix=True), Stage.WORKDIR)
    assert (check.outcome, check.fixed) == (Outcome.OK, "made it, with mode 0700")
    assert workdir.stat().st_mode & 0o777 == 0o700

    workdir.chmod(0o755)
    check = at(await examined(local_host), Stage.WORKDIR)
    assert (check.outcome, check.remedy) == (Outcome.WARNING, f"chmod 700 {workdir}")
    assert workdir.stat().st_mode & 0o777 == 0o755
    check = at(await examined(local_host, fix=True), Stage.WORKDIR)
    assert check.fixed == "gave it mode 0700"
    assert workdir.stat().st_mode & 0o777 == 0o700
    assert list(workdir.iterdir()) == []


@pytest.mark.parametrize("place", ["a file", "a file/below", "shared", "somebody's"])
async def test_a_folder_that_cannot_be_a_workdir_is_refused_before_anything_is_changed(
    local_host: Host, tmp_path: Path, place: str
) -> None:
    (tmp_path / "a file").write_text("mine")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    (tmp_path / "somebody's").mkdir(mode=0o755)
    (tmp_path / "somebody's" / "thesis.tex").write_text("theirs")
    host = replace(local_host, workdir=str(tmp_path / place))
    before = {each: each.stat().st_mode for each in tmp_path.rglob("*")}
    check = at(await examined(host, fix=True), Stage.WORKDIR)
    assert (check.outcome, check.fix, check.fixed) == (Outcome.FAILED, "", "")
    assert "set workdir to" in check.remedy
    assert {each: each.stat().st_mode for each in tmp_path.rglob("*")} == before


async def test_a_workdir_below_a_setgid_folder_settles(local_host: Host, workdir: Path) -> None:
    workdir.parent.chmod(0o2755)
    assert at(await examined(local_host, fix=True), Stage.WORKDIR).outcome is Outcome.OK
    check = at(await examined(local_host, fix=True), Stage.WORKDIR)
    assert (check.outcome, check.fixed) == (Outcome.OK, "")


async def test_a_damaged_environment_is_found_and_built_anew(
    local_host: Host, workdir: Path
) -> None:
    host = replace(local_host, env={"UV_CACHE_DIR": os.environ["UV_CACHE_DIR"]})
    environment = await provisioned(host)
    check = at(await examined(host), Stage.ENVIRONMENT)
    assert (check.outcome, check.found[:8]) == (Outcome.OK, "Python 3")

    python = workdir / "envs" / environment.env_id / "bin" / "python"
    python.unlink()  # as an upgrade of the system's Python leaves it
    diagnosis = await examined(host)
    check = at(diagnosis, Stage.ENVIRONMENT)
    assert (check.outcome, check.reason) == (Outcome.FAILED, "its Python is gone")
    assert check.remedy == "sollol provision here --recreate"
    assert not at(diagnosis, Stage.CLOCK).is_reached
    assert diagnosis.facts is None

    with training_with(python):
        check = at(await examined(host, fix=True), Stage.ENVIRONMENT)
    assert "a job uses its environments now" in check.remedy
    assert not python.exists()

    check = at(await examined(host, fix=True), Stage.ENVIRONMENT)
    assert (check.outcome, check.fixed) == (Outcome.OK, "built it anew")
    assert at(await examined(host), Stage.ENVIRONMENT).outcome is Outcome.OK


async def test_a_damaged_uv_is_told_and_the_named_command_mends_it(
    local_host: Host, workdir: Path
) -> None:
    host = replace(local_host, env={"UV_CACHE_DIR": os.environ["UV_CACHE_DIR"]})
    await provisioned(host)
    assert at(await examined(host), Stage.PYTHON).outcome is Outcome.OK
    uv = workdir / "bin" / "uv"
    size = uv.stat().st_size
    uv.unlink()
    with uv.open("wb") as file:
        file.truncate(size)
    uv.chmod(0o700)
    check = at(await examined(host), Stage.PYTHON)
    assert (check.outcome, check.remedy) == (Outcome.WARNING, "sollol provision here")
    assert "the uv in its workdir is damaged" in check.reason
    await provisioned(host)
    assert at(await examined(host), Stage.PYTHON).outcome is Outcome.OK


async def test_a_new_payload_hides_no_damage(
    local_host: Host, workdir: Path, payload: Path
) -> None:
    host = replace(local_host, env={"UV_CACHE_DIR": os.environ["UV_CACHE_DIR"]})
    environment = await provisioned(host)
    program = payload / "remote" / "control.py"
    program.write_text(program.read_text() + "# of another version\n")
    check = at(await examined(host), Stage.ENVIRONMENT)
    assert (check.outcome, check.found[:8]) == (Outcome.OK, "Python 3")

    python = workdir / "envs" / environment.env_id / "bin" / "python"
    python.unlink()
    python.touch(mode=0o700)
    check = at(await examined(host), Stage.ENVIRONMENT)
    assert (check.outcome, check.fix) == (Outcome.FAILED, "build it anew")
    check = at(await examined(host, fix=True), Stage.ENVIRONMENT)
    assert (check.outcome, check.fixed) == (Outcome.OK, "built it anew")


async def test_the_environment_of_another_torch_is_not_the_one_that_is_tried(
    local_host: Host, workdir: Path
) -> None:
    other = workdir / "envs" / "ffffffffffffffff"
    (other / "bin").mkdir(parents=True)
    workdir.chmod(0o700)
    (other / ".complete").touch()
    other.with_suffix(".lock").touch()
    check = at(await examined(local_host), Stage.ENVIRONMENT)
    assert (check.outcome, check.found[:34]) == (
        Outcome.SKIPPED,
        "none that fits this version of sol",
    )


@pytest.mark.parametrize(
    ("complaint", "outcome", "words"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory.", Outcome.WARNING, "end what holds"),
        ("CUDA error: no kernel image is available", Outcome.FAILED, "packages.torch_backend"),
    ],
)
async def test_a_gpu_that_cannot_be_used_is_no_damage_and_nothing_is_built_anew(
    local_host: Host, payload: Path, complaint: str, outcome: Outcome, words: str
) -> None:
    host = replace(local_host, env={"UV_CACHE_DIR": os.environ["UV_CACHE_DIR"]})
    await provisioned(host)
    check = payload / "remote" / "selfcheck.py"
    check.write_text(f"import sys; sys.exit({complaint!r})")
    told = at(await examined(host, fix=True), Stage.ENVIRONMENT)
    assert (told.outcome, told.fix, told.fixed) == (outcome, "", "")
    assert complaint in told.reason
    assert words in told.remedy


async def test_an_error_that_nobody_expected_is_that_hosts_alone(local_host: Host) -> None:
    broken = replace(local_host, name="broken")

    def harm(host: Host, facts: HostFacts) -> str:
        if host is broken:
            raise LookupError("what is\nthis")
        return accelerator_of(host, facts)

    wanted = replace(expected(), accelerator_of=harm)
    first, second = await diagnose_all([broken, local_host], wanted, lambda name, check: None)
    failed = at(first, Stage.DISK)
    assert failed.reason == "failed unexpectedly: LookupError: what is this"
    assert failed.remedy
    assert first.error is not None
    assert second.error is None


async def test_damage_that_a_new_build_does_not_mend_leads_to_the_cache(
    local_host: Host, payload: Path
) -> None:
    check = payload / "remote" / "selfcheck.py"
    check.write_text(
        f"import os\nif 'HARM' in os.environ: raise OSError('torn')\n{check.read_text()}"
    )
    cache = os.environ["UV_CACHE_DIR"]
    host = replace(local_host, env={"UV_CACHE_DIR": cache})
    await provisioned(host)
    harmed = replace(host, env={**host.env, "HARM": "1"})
    assert at(await examined(harmed), Stage.ENVIRONMENT).reason == "OSError: torn"
    told = at(await examined(harmed, fix=True), Stage.ENVIRONMENT)
    assert told.outcome is Outcome.FAILED
    assert "built anew, and still" in told.reason
    assert f"rm -rf {cache}" in told.remedy


async def test_what_a_killed_build_left_is_told_from_one_under_way(
    local_host: Host, workdir: Path
) -> None:
    (workdir / "envs" / "0123456789abcdef.part" / "bin").mkdir(parents=True)
    workdir.chmod(0o700)
    check = at(await examined(local_host), Stage.ENVIRONMENT)
    assert (check.outcome, check.found) == (Outcome.WARNING, "half built")
    lock = workdir / "envs" / "0123456789abcdef.lock"
    with lock.open("a") as building:
        fcntl.flock(building, fcntl.LOCK_EX)
        check = at(await examined(local_host), Stage.ENVIRONMENT)
    assert (check.outcome, check.found) == (Outcome.SKIPPED, "is being built right now")


async def test_a_host_that_cannot_be_reached_stops_at_ssh_and_hides_no_other(
    local_host: Host, server: Server, host: Host, tmp_path: Path
) -> None:
    heard: list[str] = []
    diagnoses = await diagnose_all(
        [host, local_host], expected(), lambda name, check: heard.append(name)
    )
    assert [each.host for each in diagnoses] == ["w1", "here"]
    first, second = diagnoses
    assert isinstance(first.error, HostKeyError)
    assert at(first, Stage.SSH).remedy.endswith("sollol hosts trust w1")
    assert not any(check.is_reached for check in first.checks[1:])
    assert second.error is None
    assert (heard.count("w1"), heard.count("here")) == (1, len(Stage))


async def test_what_a_shell_prints_before_a_command_is_shown_clean(
    server: Server, host: Host, known_hosts: Path
) -> None:
    server.answer = say_marks_then(b"1\n2\n", before=b"\x1b[31mWelcome to w1\x1b]0;owned\x07\n")
    told: list[Check] = []
    await diagnose(
        host, expected(known_hosts=(known_hosts,)), lambda name, check: told.append(check)
    )
    assert [check.outcome for check in told[:2]] == [Outcome.OK, Outcome.WARNING]
    assert told[1].reason == "its start-up files print without a terminal: Welcome to w1"


def test_options_of_ssh_that_are_not_followed_are_told(isolated_home: Path) -> None:
    (isolated_home / ".ssh").mkdir(mode=0o700)
    config = isolated_home / ".ssh" / "config"
    assert passed_over_options(Host(name="hydra")) == []
    config.write_text(
        "Host hydra\n  StrictHostKeyChecking accept-new\n"
        "Host attic\n  StrictHostKeyChecking yes\n"
        "Match user ml\n  ControlMaster auto\n"
    )
    assert passed_over_options(Host(name="hydra", user="root")) == [
        "StrictHostKeyChecking accept-new: keys are always checked"
    ]
    assert passed_over_options(Host(name="attic", user="ml")) == [
        "ControlMaster auto: connections are our own"
    ]


def test_answers_of_a_stranger_are_capped_and_cleaned() -> None:
    said = {
        "mode": ["rwx\x1b[2J"],
        "owner": ["\x1b]0;owned\x07root"],
        "mount": ["nfs4 rw,relatime"],
        "files": ["tmpfs " + "9" * 400 + " 1 1 1% /"],
        "env": [f"{number:016x} whole" for number in range(5000)] + ["../../etc whole"],
    }
    found = parse_found(said, facts())
    assert (found.folder.mode, found.folder.owner) == ("", "root")
    assert (found.folder.filesystem, found.folder.files_free) == ("nfs4", None)
    assert len(found.environments) == 100
    assert "../../etc" not in found.environments
