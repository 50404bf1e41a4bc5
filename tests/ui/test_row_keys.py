"""Keys that act on rows: marks, cordon, describe, peek, a shell, and the same as a command."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from sollol_tui.model.snapshot import HostState
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState
from sollol_tui.preferences import PreferencesFile
from sollol_tui.ui.screens.diff import ConfirmDiff
from sollol_tui.ui.screens.hosts import Hosts
from sollol_tui.ui.screens.launch import Launch
from sollol_tui.ui.screens.sheet import Sheet
from sollol_tui.ui.widgets.filter_entry import FilterEntry
from tests.ui.drafts import DraftClient
from tests.ui.pilot import Driven, driven
from tests.ui.sample import HOSTS, SampleClient, host, snapshot

FILE = Path("inventory.yaml")
LAB = "hosts:\n  hydra: {tags: [cuda]}\n  attic:\n    enabled: false\n  desk: {tags: [cuda, big]}\n"
DESK = host("desk")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DraftClient:
    """Three hosts, of which attic is cordoned; the job's host is hydra."""
    monkeypatch.chdir(tmp_path)
    FILE.write_text(LAB)
    shown = snapshot(hosts=(HOSTS[0], host("attic", state=HostState.DISABLED), DESK))
    client = DraftClient(shown=shown)
    client.inventory = client._inventory.read  # type: ignore[method-assign]
    return client


def rows(screen: Driven) -> list[str]:
    """The hosts that the view shows."""
    view = screen.app.screen
    assert isinstance(view, Hosts)
    return [str(key.value) for key in view.table.rows]


async def test_marked_hosts_are_cordoned_together_and_let_in_again(lab: DraftClient) -> None:
    async with driven(lab, size=(120, 40)) as screen:
        await screen.press("3", "space", "j", "space")
        await screen.sees("2 marked, esc unmarks")
        await screen.sees("* hydra")
        await screen.press("u")
        await screen.sees("+  hydra: {tags: [cuda], enabled: false}")
        await screen.press("y")
        await screen.hears("hydra desk stay out of new jobs that do not name them")
        assert FILE.read_text().count("enabled: false") == 3
        await screen.press("escape")
        await screen.until(lambda: "marked" not in screen.text)
        await screen.press("g", "j", "u")
        await screen.until(lambda: isinstance(screen.app.screen, ConfirmDiff))
        await screen.sees("-    enabled: false")
        await screen.press("y")
        await screen.hears("attic take part in new jobs again")
        assert FILE.read_text().count("enabled: false") == 2


async def test_no_key_of_a_footer_is_cut_at_80_columns() -> None:
    async with driven(SampleClient()) as screen:
        for key, view in enumerate(screen.app.views, 1):
            await screen.press(str(key))
            await screen.until(lambda view=view: view == screen.app.current_mode)
            await screen.sees("a New job")


async def test_provisioning_acts_on_every_marked_host() -> None:
    client = SampleClient()
    async with driven(client, size=(120, 40)) as screen:
        await screen.press("3", "space", "space", "P")
        await screen.sees("elsewhere")
        await screen.press("g")
        await screen.sees("[x] workdir      unchanged ~/.sollol")
        await screen.sees("desktop      ####")
        client.may_go_on.set()


async def test_a_filter_of_hosts_by_tag_and_state_is_kept_with_ctrl_s(lab: DraftClient) -> None:
    async with driven(lab, size=(120, 40)) as screen:
        await screen.press("3", "slash", "enter")
        entry = screen.app.screen.query_one(FilterEntry)
        entry.value = "state:dis"
        await screen.until(lambda: rows(screen) == ["attic"])
        entry.value = "tag:cuda"
        await screen.until(lambda: rows(screen) == ["hydra", "desk"])
        await screen.press("ctrl+s")
        await screen.hears("hosts begins with only 'tag:cuda' from now on")
    assert PreferencesFile().read().filters == {"hosts": "tag:cuda"}
    async with driven(lab, size=(120, 40)) as screen:
        await screen.press("3")
        await screen.sees("hosts - only tag:cuda")
        await screen.until(lambda: rows(screen) == ["hydra", "desk"])
        await screen.press("escape", "ctrl+s")
        await screen.hears("hosts begins with no filter from now on")
    assert PreferencesFile().read().filters == {}


async def test_describe_peek_and_the_command_that_does_the_same(lab: DraftClient) -> None:
    lab.specs = {"j-7f3a": JobSpec(model="./model", dataset="a b.jsonl", epochs=3)}
    lab.say("j-7f3a", "the last words")
    async with driven(lab, size=(120, 40)) as screen:
        await screen.press("d")
        await screen.sees("epochs: 3")
        await screen.press("escape", "Y", "2", "space")
        await screen.until(lambda: isinstance(screen.app.screen, Sheet))
        await screen.sees("hydra/0  the last words")
        assert screen.app.clipboard == "sollol status -w"
        await screen.press("escape", "Y")
        assert screen.app.clipboard == "sollol show j-7f3a"
        await screen.press("4", "Y")
        assert screen.app.clipboard == "sollol logs j-7f3a -f"
        await screen.press("3", "G", "d")
        await screen.sees("tags                 cuda, big")
        await screen.press("escape", "Y")
        assert screen.app.clipboard == "sollol doctor desk"


async def test_s_gives_the_terminal_to_ssh(
    lab: DraftClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > said\nexit 255\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(ssh.parent), prepend=":")
    async with driven(lab, size=(120, 40)) as screen:
        await screen.press("3", "s")
        await screen.hears("can be given to no other program")  # a test has no terminal to give
        monkeypatch.setattr(screen.app, "suspend", nullcontext)
        await screen.press("s")
        await screen.hears("ssh hydra ended with 255")
    assert Path("said").read_text().splitlines()[-2:] == ["--", "hydra"]


async def test_a_clone_may_begin_at_the_newest_checkpoint(lab: DraftClient) -> None:
    lab.specs = {"j-7f3a": JobSpec(model="./model", dataset="rows.jsonl")}
    lab.change_job("j-7f3a", state=JobState.PAUSED)
    async with driven(lab, size=(120, 40)) as screen:
        await screen.until(lambda: screen.overview.job is not None)
        await screen.press("c")
        await screen.until(lambda: isinstance(screen.app.screen, Launch))
        await screen.press("f5", "f6")
        await screen.sees("new job like j-7f3a, from its newest checkpoint")
        command = "sollol train --resume j-7f3a --set model=./model --set dataset=rows.jsonl"
        assert screen.app.clipboard == command
        await screen.press("ctrl+s")
        await screen.hears("started j-new1")
    assert lab.resumed_from == "j-7f3a"
