"""`sollol events` as a shell sees it."""

import json
import re

from sollol_tui.jobs.store import Store
from sollol_tui.model.states import JobState
from tests.cli.shell import sollol
from tests.jobs.samples import add_job


def test_events_tell_what_happened_one_sentence_a_line(store: Store, running: str) -> None:
    code, out, err = sollol("events", running)
    assert (code, err) == (0, "")
    assert [re.split(r"\s{2,}", line)[1:] for line in out.splitlines()] == [
        *(["-", "is submitted"], ["-", "has its workers"], ["-", "prepares its workers"]),
        *(["-", "starts its ranks"], ["-", "trains"]),
    ]
    assert len(sollol("events", running, "-n", "2")[1].splitlines()) == 2
    other = add_job(store)
    assert sollol("events")[1].splitlines()[-1].split()[2] == other


def test_events_are_json_whole_or_line_by_line(store: Store, running: str) -> None:
    whole = json.loads(sollol("events", running, "--json")[1])
    assert whole["schema"] == "sollol.events/1"
    assert whole["events"][-1]["sentence"] == "trains"
    store.move_job(running, JobState.FAILED, "boom")
    lines = [json.loads(line) for line in sollol("events", running, "-f", "--json")[1].splitlines()]
    assert [line["schema"] for line in lines] == ["sollol.event/1"] * 6
    assert lines[-1]["sentence"] == "failed: boom"


def test_events_of_a_job_that_is_none_are_refused(store: Store) -> None:
    code, out, err = sollol("events", "j-none")
    assert (code, out) == (5, "")
    assert "no job 'j-none'" in err
