"""`sollol logs`: which lines, in which shape, and how it ends."""

import json
import os
import time

import pytest

from sollol_tui.jobs.store import Store
from sollol_tui.model.states import JobState
from tests.cli.shell import sollol


@pytest.fixture
def written(store: Store, running: str) -> str:
    """A job on two hosts whose logs are here."""
    for host, slot, lines in (
        ("w1", "0", ["loading", "loss 4.5", "loss 1.2"]),
        ("w2", "1", ["loading", "Traceback"]),
        ("w2", "agent", ["agent starts"]),
    ):
        folder = store.home.copies(running, host)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"log.{slot}.1").write_text("".join(f"{line}\n" for line in lines))
    (store.home.job(running) / "supervisor.log").write_text("12:00 running\n12:01 w2: lost\n")
    return running


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ("--slot 0", ["w1/0  loading", "w1/0  loss 4.5", "w1/0  loss 1.2"]),
        ("--slot agent", ["w2/agent  agent starts"]),
        ("--slot 1 --host w1", []),
        ("--host w2 -n 1", ["w2/1  Traceback"]),
        ("--grep loss\\s[0-9]", ["w1/0  loss 4.5", "w1/0  loss 1.2"]),
        ("--grep loss -n 1", ["w1/0  loss 1.2"]),
        ("--grep ^nothing", []),
        ("-n 0", []),
        ("--supervisor", ["12:00 running", "12:01 w2: lost"]),
        ("--supervisor --grep lost -n 5", ["12:01 w2: lost"]),
        ("--since 2000-01-01 --slot 1", ["w2/1  loading", "w2/1  Traceback"]),
        ("--since 2999-01-01", []),
    ],
)
def test_lines_are_chosen(written: str, options: str, shown: list[str]) -> None:
    code, out, err = sollol("logs", written, *options.split())
    assert (code, out.splitlines(), err) == (0, shown, "")


def test_each_line_is_one_json_object(written: str) -> None:
    lines = [json.loads(line) for line in sollol("logs", written, "--json")[1].splitlines()]
    assert lines[0] == {
        "schema": "sollol.log-line/1", "host": "w1", "slot": 0, "text": "loading", "at": None,
    }  # fmt: skip
    assert [line["slot"] for line in lines] == [0, 0, 0, None, 1, 1]


def test_following_ends_with_the_job_and_its_supervisor_is_followed_too(
    store: Store, written: str
) -> None:
    store.move_job(written, JobState.FAILED, "over")
    assert sollol("logs", written, "-f", "-n", "1", "--slot", "1")[1] == "w2/1  Traceback\n"
    assert sollol("logs", written, "-f", "--supervisor")[1].count("\n") == 2


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ("--slot 7", 5, "no slot 7 in {job}; it has 0, 1; or --slot agent"),
        ("--slot all", 2, "'all' is no slot; a number, or agent"),
        ("--slot -1", 2, "'-1' is no slot"),
        ("--host w3", 5, "no host 'w3' in {job}; it has: w1, w2"),
        ("--grep (", 2, "'(' is no regular expression: "),
        ("--since soon", 2, "'soon' is no time; write it like 10m, 14:30 or 2026-11-22 14:30"),
        ("--since 99999999999d", 2, "--since"),
        ("--supervisor --slot 0", 2, "--supervisor takes no --host, --slot or --since"),
    ],
)
def test_what_cannot_be_chosen_is_said(written: str, options: str, code: int, said: str) -> None:
    found, out, err = sollol("logs", written, *options.split())
    assert (found, out) == (code, "")
    assert said.format(job=written) in err


def test_a_clock_time_is_the_last_time_it_was_that(store: Store, written: str) -> None:
    old = store.home.copies(written, "w1") / "log.0.1"
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    now = time.strftime("%H:%M", time.localtime(time.time() - 3600))
    shown = sollol("logs", written, "--since", now)[1].splitlines()
    assert [line for line in shown if line.startswith("w1/0")] == []
    assert [line for line in shown if line.startswith("w2/1")] != []


def test_a_job_that_has_written_nothing_yet_says_so(running: str) -> None:
    code, out, err = sollol("logs", running)
    assert (code, out) == (0, "")
    assert err == f"{running} has no logs yet; to wait for them: sollol logs {running} -f\n"
    assert sollol("-q", "logs", running)[2] == ""
