"""Ctrl+C, pressed at a real terminal: whoever follows only stops looking, whoever asked is told
that it was asked, and pressing it again never shows a traceback or leaves the terminal askew."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sollol_tui.cli import follow
from sollol_tui.cli.interrupts import held
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.store import Store
from tests.cli.furnished import furnish, supervised
from tests.cli.pseudo_terminal import CTRL_C, at_terminal
from tests.cli.shell import sollol
from tests.jobs.samples import add_job

ALT_SCREEN = "\x1b[?1049"
FOLLOWING = {  # what it shows first, its last words, its exit code
    "attach JOB": ("running", "is still running. follow: sollol attach JOB", 0),
    "logs JOB -f -n 3": ("line", "detached; the job goes on. again: sollol logs JOB -f", 0),
    "events JOB -f": ("is submitted", "detached; jobs go on. again: sollol events JOB -f", 0),
    "status -w --cached": ("tools-621k", "no longer watching; jobs go on. again: sollol status", 0),
    "wait JOB": ("", "no longer waiting; JOB goes on. again: sollol wait JOB", 130),
    "pause JOB": ("", "JOB is told to pause and will; see: sollol show JOB", 0),
    "-y cancel JOB": ("", "JOB is told to stop and will; see: sollol show JOB", 0),
}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (folder := tmp_path / "lab").mkdir()
    monkeypatch.chdir(folder)
    made = furnish(folder)
    with supervised():
        yield made


def is_polling(pid: int) -> bool:
    """Whether a process has the state open, which is the last thing before it looks at the job."""
    return any("state.db" in path for path in open_files(pid))


def open_files(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed since it was listed
            yield str(link.readlink())


def asked_of(job: str) -> set[str]:
    with Store(open_home()) as store:
        return set(store.open_requests(job))


@pytest.mark.parametrize("command", FOLLOWING)
def test_ctrl_c_stops_the_looking_and_says_how_to_return(job: str, command: str) -> None:
    shown, said, code = FOLLOWING[command]
    with at_terminal(*command.replace("JOB", job).split()) as terminal:
        if shown:
            terminal.sees(shown)
        elif command == "wait JOB":
            terminal.until(lambda: is_polling(terminal.pid))
        else:
            terminal.until(lambda: bool(asked_of(job)))
        terminal.type(CTRL_C)
        assert terminal.exit_code() == code, terminal.text
        assert said.replace("JOB", job) in terminal.text
        assert "Traceback" not in terminal.text


@pytest.mark.parametrize("command", ["attach JOB", "status -w --cached", "pause JOB"])
def test_a_second_ctrl_c_leaves_nothing_askew(job: str, command: str) -> None:
    with at_terminal(*command.replace("JOB", job).split()) as terminal:
        if command == "pause JOB":
            terminal.until(lambda: bool(asked_of(job)))
        else:
            terminal.sees("running")
        for _ in range(5):
            terminal.type(CTRL_C)
        assert terminal.exit_code() in (0, 130, -signal.SIGINT), terminal.text
        assert "Traceback" not in terminal.text
        assert "Exception" not in terminal.text
        if ALT_SCREEN in terminal.raw:
            assert terminal.raw.rindex(f"{ALT_SCREEN}l") > terminal.raw.rindex(f"{ALT_SCREEN}h")
            assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")
    assert asked_of(job) == ({"pause"} if command == "pause JOB" else set())


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where the inventory's one host listens, takes connections and says nothing."""
    monkeypatch.chdir(tmp_path)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(60)
        (tmp_path / "inventory.yaml").write_text("hosts: {w1: {connect_timeout: 90s}}\n")
        (ssh := Path.home() / ".ssh").mkdir(mode=0o700)
        (ssh / "config").write_text(
            f"Host w1 w2\n HostName 127.0.0.1\n User ml\n Port {listener.getsockname()[1]}\n"
        )
        yield listener


@pytest.mark.parametrize(
    ("command", "presses", "said"),
    [
        ("provision", 1, "the next `sollol provision` takes it up"),
        ("provision", 4, ""),
        ("train --model m --dataset d.jsonl", 1, "interrupted: no job was started"),
        ("doctor", 1, ""),
    ],
)
def test_what_asks_a_host_ends_at_once_and_says_what_stays(
    silent: socket.socket, tmp_path: Path, command: str, presses: int, said: str
) -> None:
    (tmp_path / "d.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (tmp_path / "m").mkdir()
    for name in ("config.json", "tokenizer.json", "x.safetensors"):
        (tmp_path / "m" / name).write_text("{}")
    with at_terminal(*command.split()) as terminal:
        connection, _ = silent.accept()
        with connection:
            for _ in range(presses):
                terminal.type(CTRL_C)
            assert terminal.exit_code() in (130, -signal.SIGINT), terminal.text
        assert "Traceback" not in terminal.text
        assert "Exception" not in terminal.text
        assert said in terminal.text


def test_whoever_interrupts_a_submission_is_told_the_name_of_the_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with Store(open_home()) as store:
        job = add_job(store, "w1 cpu")

    from sollol_tui.client import SOLLOLClient

    monkeypatch.setattr("sollol_tui.client.revive", lambda store: [])
    with SOLLOLClient() as client:
        view = client.get_job_status(job)

        def submit(prepared: object) -> object:
            os.kill(os.getpid(), signal.SIGINT)
            return view

        monkeypatch.setattr(client, "start_job", submit)
        with pytest.raises(SystemExit) as ended:
            follow.begin_and_follow(client, object())  # type: ignore[arg-type]
    said = capsys.readouterr()
    assert ended.value.code == 0
    assert said.out == f"started {job}\n"
    assert f"{job} is still running. follow: sollol attach {job}" in said.err


def interrupted(then: Exception | None = None) -> None:
    with held():
        os.kill(os.getpid(), signal.SIGINT)
        if then is not None:
            raise then
        os.environ["INTERRUPTED"] = "the body is whole"


def test_ctrl_c_waits_for_what_is_short_and_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INTERRUPTED", "")
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.environ["INTERRUPTED"]
    with pytest.raises(ValueError, match="itself"):
        interrupted(ValueError("itself"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupted_fetch_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sollol_tui.client.SOLLOLClient.fetch", interrupt)
    code, out, err = sollol("fetch", "j-7f3a", "--checkpoint", "400", "--to", "my folder")
    assert (code, out) == (130, "")
    again = "sollol fetch j-7f3a --checkpoint 400 --to 'my folder'"
    assert err.strip() == f"interrupted: what has arrived is kept; go on: {again}"
