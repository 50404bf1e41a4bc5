"""Who is who among processes, and that nobody else is ever signalled."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from remote import processes, remains
from tests.remote.worker import Worker, wait_until


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the same user that is nothing to us."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("other", [{"start_time": 1}, {"boot_id": "another boot"}])
def test_a_reused_pid_is_never_signalled(
    bystander: subprocess.Popen[bytes], tmp_path: Path, other: dict[str, object]
) -> None:
    recorded = replace(processes.identify(bystander.pid), **other)
    assert not processes.is_alive(recorded)
    assert not processes.send_signal(recorded, signal.SIGKILL)
    remains.record(tmp_path, recorded, "rank.0")
    assert remains.living(tmp_path) == []
    assert remains.remove(lambda: remains.living(tmp_path), term_grace_s=0, reap=int) == []
    assert bystander.poll() is None


def test_the_right_identity_is_signalled(bystander: subprocess.Popen[bytes]) -> None:
    identity = processes.identify(bystander.pid)
    assert identity
    assert processes.is_alive(identity)
    assert processes.send_signal(identity, signal.SIGKILL)
    wait_until(lambda: not processes.is_alive(identity), "a zombie counts as dead")
    assert bystander.wait() == -signal.SIGKILL
    assert not processes.send_signal(identity, signal.SIGKILL)


def test_only_the_exact_cookie_counts(tmp_path: Path) -> None:
    run_dir = tmp_path / "w1"
    run_dir.mkdir()
    for value, belongs in ((f"{run_dir}0", False), (str(run_dir.parent), False), (run_dir, True)):
        environment = {**os.environ, remains.COOKIE: str(value)}
        with subprocess.Popen(["sleep", "600"], env=environment) as process:
            # Until the child has become `sleep`, its environment is still this test's.
            wait_until(lambda p=process: processes.command(p.pid) == "sleep 600", "sleep runs")
            found = [(r.identity.pid, r.role) for r in remains.living(run_dir)]
            assert found == ([(process.pid, "cookie")] if belongs else [])
            process.kill()


def test_a_name_full_of_parentheses_hides_nothing(tmp_path: Path) -> None:
    program = tmp_path / ") R 1 (x"
    shutil.copy(shutil.which("sleep") or "", program)
    with subprocess.Popen([str(program), "600"]) as process:
        found = processes.read_process(process.pid)
        assert found
        assert (found.parent, found.session) == (os.getpid(), os.getsid(0))
        process.kill()


def test_clean_spares_the_shell_it_was_called_from(
    make_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker()
    worker.run_dir.mkdir(parents=True)
    monkeypatch.setenv(remains.COOKIE, str(worker.run_dir))
    command = f'{shutil.which("sh")} -c \'python=$1; shift; "$python" "$@"; echo alive\' sh '
    agent = f"{os.sys.executable} -P -m remote.agent clean {worker.run_dir}"
    environment = {**os.environ, "PYTHONPATH": str(worker.payload)}
    done = subprocess.run(
        command + agent, shell=True, env=environment, capture_output=True, text=True, timeout=20
    )
    answer, alive = done.stdout.splitlines()
    assert (json.loads(answer)["processes"], alive) == ([], "alive")


def test_descendants_are_found_through_every_generation() -> None:
    def process(pid: int, parent: int) -> processes.Process:
        return processes.Process(pid=pid, parent=parent, session=1, start_time=pid, zombie=False)

    table = {p.pid: p for p in (process(1, 0), process(2, 1), process(3, 2), process(4, 1))}
    assert processes.descendants([2], table) == {3}
    assert processes.descendants([1], table) == {2, 3, 4}
    assert processes.ancestors(3, table) == {2, 1, 0}
