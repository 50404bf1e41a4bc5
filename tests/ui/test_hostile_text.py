"""Nothing that a worker wrote is markup, an action or an escape sequence on our screen."""

import re
from dataclasses import replace

import pytest

from sollol_tui.model.snapshot import HostState
from tests.ui.pilot import Driven, driven
from tests.ui.sample import FAILED, RUNNING, SampleClient, gpu, host, snapshot

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
MARKUP = ["[/b]", "[TODO]", "[/", "[@click=app.quit]x[/]", "[red]x"]
CODES = [
    "\x1b]52;c;aGk=\x07clip",
    "\x1b]0;title\x1b\\named",
    "\x1b[2Jcleared",
    "\x9b31mred",
    "\u202egnp.exe",
    "nul\x00byte",
    "1%\r50%\r100%",
    "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\",
]
PLAIN = ["\U0001f525 fire", "日本語", "e\u0301"]


def cluster(texts: list[str]) -> SampleClient:
    """A job and two hosts for each text, which stands wherever a host can make it stand."""
    hosts, jobs = [], [RUNNING]
    for number, text in enumerate(texts):
        reading = gpu(text, util=1, used=1, total=2, temp=3)
        hosts.append(host(f"w{number}", gpus=(reading,), job=text))
        hosts.append(host(f"{text}{number}", state=HostState.DOWN, reason=text))
        worker = replace(RUNNING.workers[0], host=text, state=text, reason=text)
        more = {
            "id": f"j-{number:04}",
            "name": text,
            "reason": text,
            "traceback": f"{text}\n{text}",
        }
        jobs.append(replace(FAILED, **more))
        jobs.append(replace(RUNNING, **{**more, "id": f"r-{number:04}"}, workers=(worker,)))
    client = SampleClient(shown=snapshot(jobs=jobs, hosts=hosts))
    for job in jobs:
        client.say(job.id, *texts, "the end")
    return client


async def every_pane(screen: Driven) -> str:
    """All that is shown while one walks through panes, rows, help and questions."""
    seen = []
    await screen.sees("the end")
    rows = ["j"] * 2 * len(screen.app.snapshot.hosts)  # type: ignore[union-attr]
    for key in ("x", "n", "f1", "escape", "j", "x", "n", "y", "tab", *rows, "y", "l", "y"):
        await screen.press(key)
        seen += [screen.text, screen.app.clipboard]
    assert screen.app.is_running
    assert screen.app.return_value is None
    return "\n".join(seen)


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_no_text_from_a_worker_is_markup_an_action_or_a_control_code(
    size: tuple[int, int],
) -> None:
    async with driven(cluster(MARKUP + CODES + PLAIN), size=size) as screen:
        seen = await every_pane(screen)
        for text in MARKUP + PLAIN:
            assert f"hydra/0 │ {text}" in seen
        assert "hydra/0 │ 100%" in seen  # the last state of a line of carriage returns
        assert UNSAFE.search(seen.replace("\n", "")) is None
        for strip in screen.app.screen._compositor.render_strips():
            assert all(segment.style is None or not segment.style.link for segment in strip)


async def test_markup_in_names_and_reasons_is_shown_as_it_was_written() -> None:
    async with driven(cluster(["[/b]", "[@click=app.quit]x[/]"]), size=(160, 48)) as screen:
        await screen.sees("the end")
        for text in ("[/b]", "[@click=app.quit]x[/]"):
            assert sum(text in line for line in screen.text.splitlines()) >= 5


async def test_a_line_of_a_megabyte_is_cut_and_keys_still_work() -> None:
    client = SampleClient()
    client.say("j-7f3a", "A" * 1_000_000, "after it")
    async with driven(client) as screen:
        await screen.sees("after it")
        assert max(map(len, screen.log.lines)) < 5_000
        await screen.press("x")
        await screen.sees("Kept: checkpoints and logs")


async def test_a_failure_of_the_state_is_no_markup_either() -> None:
    client = SampleClient()
    async with driven(client) as screen:
        client.failure = RuntimeError("[/b]\x1b[2J broken [@click=app.quit]x[/]")
        await screen.sees("[/b] broken [@click=app.quit]x[/]")
