"""The user's own program is told how a job fares, and can do the job no harm."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sollol_tui.jobs import notify
from sollol_tui.jobs.events import note, read_events
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.notify import keep_telling, whole_command
from sollol_tui.jobs.records import load
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import InputError
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.spec import JobSpec, Notify
from sollol_tui.model.states import JobState
from tests.jobs.samples import add_job


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(open_home(tmp_path / "home")) as opened:
        yield opened


def failed_job(store: Store, command: str) -> str:
    job = add_job(store, "host w1", "host w2")
    record = store.job(job)
    spec = replace(load(JobSpec, record.spec), notify=Notify(command=command))
    store.note_wish(job, spec=spec, inventory=load(Inventory, record.inventory), same_hosts=())
    store.move_job(job, JobState.FAILED, "w1: boom; $(touch owned)")
    return job


def tell_all(store: Store, job: str) -> None:
    async def tell() -> None:
        over = asyncio.Event()
        over.set()
        await keep_telling(store, job, over)

    asyncio.run(tell())


def notices(store: Store, job: str) -> list[str]:
    return [event.data["message"] for event in read_events(store, job, ["notice"])]


def program(folder: Path, text: str) -> Path:
    file = folder / "tell me.py"
    file.write_text(f"#!{sys.executable}\n{text}")
    file.chmod(0o700)
    return file


def test_each_event_reaches_the_program_once_and_no_shell_reads_it(
    store: Store, tmp_path: Path
) -> None:
    heard = tmp_path / "heard"
    file = program(
        tmp_path,
        f"import sys; open({str(heard)!r}, 'a').write(sys.argv[1] + ' ' + sys.stdin.read())\n",
    )
    job = failed_job(store, whole_command(f"'./{file.name}' '$HOME;x'", tmp_path))
    note(store, job, "worker", host="w2", old="training", new="lost", reason="gone")
    tell_all(store, job)
    tell_all(store, job)  # a supervisor that was started again
    told = [line.partition(" ") for line in heard.read_text().splitlines()]
    assert [word for word, _, _ in told] == ["$HOME;x"] * 2
    messages = [json.loads(text) for _, _, text in told]
    assert [(m["event"], m["host"], m["job"]) for m in messages] == [
        ("failed", None, job),
        ("worker_lost", "w2", job),
    ]
    assert messages[0]["sentence"] == "failed: w1: boom; $(touch owned)"
    assert notices(store, job) == []
    assert not list(tmp_path.rglob("owned"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import sys; sys.exit('no such room')", "ended with status 1: no such room"),
        ("import os; os.kill(os.getpid(), 9)", "ended with status -9"),
    ],
)
def test_a_program_that_fails_is_a_notice(
    store: Store, tmp_path: Path, text: str, told: str
) -> None:
    job = failed_job(store, whole_command(f"'{program(tmp_path, text)}'", tmp_path))
    tell_all(store, job)
    assert notices(store, job) == [f"notify.command, told of 'failed', {told}"]


def test_a_program_that_is_gone_is_a_notice(store: Store) -> None:
    job = failed_job(store, "/nowhere/at-all")
    tell_all(store, job)
    (told,) = notices(store, job)
    assert "could not be started: No such file" in told


def test_a_program_that_does_not_end_is_ended_with_its_children(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "LIMIT_S", 2.0)
    pids = tmp_path / "pids"
    text = (
        "import os, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)\n"
    )
    job = failed_job(store, whole_command(f"'{program(tmp_path, text)}'", tmp_path))
    tell_all(store, job)
    assert notices(store, job) == [
        "notify.command, told of 'failed', took longer than 2 s and was ended"
    ]
    if pids.exists():  # on a machine so busy that it had not begun there is nothing to look for
        deadline = time.monotonic() + 20
        for pid in pids.read_text().split():
            while is_alive(int(pid)):
                assert time.monotonic() < deadline, f"{pid} lives"
                time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("'unclosed", "cannot be read"),
        ("   ", "names no program"),
        ("no-such-program-here x", "no-such-program-here is not in PATH"),
        ("./nothing", "./nothing is not a program that can be run"),
    ],
)
def test_a_command_that_cannot_run_is_refused_beforehand(
    command: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told):
        whole_command(command, tmp_path)
