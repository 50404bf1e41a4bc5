"""Plans of one draft after another ask each host and each dataset once."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from sollol_tui.jobs import survey as module
from sollol_tui.jobs.home import Home, open_home
from sollol_tui.jobs.probe import Answers
from sollol_tui.jobs.survey import Survey
from sollol_tui.model.errors import NotFoundError, UnreachableError
from sollol_tui.model.inventory import Host

HYDRA, ATTIC = Host(name="hydra"), Host(name="attic")


class Hosts:
    """Answers for hosts when it may; attic is never there."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.begun = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def ask(self, home: Home, hosts: Iterable[Host], question: Any) -> Answers[Any]:
        answers: Answers[Any] = Answers()
        for host in hosts:
            self.asked.append(host.name)
            self.begun.set()
            await self.may_answer.wait()
            if host.name == "attic":
                answers.errors[host.name] = UnreachableError("attic", "no route")
            else:
                answers.said[host.name] = f"facts of {host.name}"
        return answers


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Hosts:
    hosts = Hosts()
    monkeypatch.setattr(module, "ask", hosts.ask)
    return hosts


async def test_each_host_is_asked_once_also_one_that_is_silent(hosts: Hosts) -> None:
    survey = Survey(open_home())
    hosts.may_answer.set()
    for _ in range(3):
        answers = await survey.facts([HYDRA, ATTIC])
        assert answers.said == {"hydra": "facts of hydra"}
        assert list(answers.errors) == ["attic"]
    assert sorted(hosts.asked) == ["attic", "hydra"]
    await survey.facts([Host(name="hydra", port=2222)])
    assert sorted(hosts.asked) == ["attic", "hydra", "hydra"], "its settings have changed"


async def test_who_gives_up_leaves_the_question_to_the_next(hosts: Hosts) -> None:
    survey = Survey(open_home())
    impatient = asyncio.create_task(survey.facts([HYDRA]))
    await hosts.begun.wait()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    next_one = asyncio.create_task(survey.facts([HYDRA]))
    hosts.may_answer.set()
    assert (await next_one).said == {"hydra": "facts of hydra"}
    assert hosts.asked == ["hydra"]


async def test_what_is_closed_asks_nothing_any_more(hosts: Hosts) -> None:
    survey = Survey(open_home())
    waiting = asyncio.create_task(survey.facts([HYDRA]))
    await hosts.begun.wait()
    survey.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_dataset_is_read_again_only_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "one"}\n')
    read: list[str] = []
    really = module.check_dataset

    async def check(place: str, fmt: str | dict[str, str]) -> object:
        read.append(place)
        return await really(place, fmt)

    monkeypatch.setattr(module, "check_dataset", check)
    survey = Survey(open_home())
    assert (await survey.dataset(str(rows), "auto")).rows == 1
    assert (await survey.dataset(str(rows), "auto")).rows == 1
    assert len(read) == 1
    rows.write_text('{"text": "one"}\n{"text": "two"}\n')
    assert (await survey.dataset(str(rows), "auto")).rows == 2
    with pytest.raises(NotFoundError):
        await survey.dataset(str(tmp_path / "none.jsonl"), "auto")
    assert len(read) == 3
    survey.close()
