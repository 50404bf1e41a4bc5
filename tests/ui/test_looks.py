"""Columns, theme and keys that a person chose are there the next time."""

import pytest

from sollol_tui.preferences import PreferencesFile
from sollol_tui.ui.screens.columns import ChooseColumns
from sollol_tui.ui.screens.view import View
from sollol_tui.ui.widgets.keyed_table import KeyedTable
from tests.ui.pilot import Driven, driven
from tests.ui.sample import SampleClient


@pytest.fixture
def file() -> PreferencesFile:
    file = PreferencesFile()
    file.path.parent.mkdir(parents=True)
    return file


def columns(screen: Driven) -> list[str | None]:
    """Those of the jobs table that is shown."""
    shown = screen.app.screen.query("#jobs-table").results(KeyedTable)
    return [key.value for table in shown for key in table.columns]


async def test_columns_that_are_not_ticked_go_and_stay_away(file: PreferencesFile) -> None:
    async with driven(SampleClient(), size=(160, 48)) as screen:
        assert "SPEED" in screen.text
        await screen.press("C")
        await screen.until(lambda: isinstance(screen.app.screen, ChooseColumns))
        for column in ("name", "state", "progress", "loss", "speed", "workers", "eta"):
            assert f"[x] {column}" in screen.text
        await screen.press("j", "j", "j", "j", "space", "enter")
        await screen.until(lambda: "speed" not in columns(screen))
        assert "loss" in columns(screen)
        await screen.press("2")
        await screen.until(lambda: screen.app.current_mode == "jobs" and "loss" in columns(screen))
        assert "speed" not in columns(screen)
        await screen.press("1", "C", "space", "escape")
        await screen.sees("NAME")
    assert file.read().hide == {"jobs": ["speed"]}
    async with driven(SampleClient(), size=(160, 48)) as screen:
        assert "SPEED" not in screen.text
        await screen.press("C", "a", "enter")
        await screen.sees("SPEED")
    assert file.read().hide == {}


async def test_without_any_column_the_first_is_left(file: PreferencesFile) -> None:
    file.keep_hidden("hosts", ["host", "state", "gpu"])
    async with driven(SampleClient(), size=(160, 48)) as screen:
        assert "hydra" in screen.text
        await screen.press("tab", "C", "a", "a", "enter")
        await screen.until(lambda: isinstance(screen.app.screen, View))
        await screen.until(lambda: "VRAM" not in screen.text)
        assert screen.hosts.key_under_cursor == "hydra"


async def test_a_theme_is_kept_but_not_by_readonly(file: PreferencesFile) -> None:
    async with driven(SampleClient(), readonly=True) as screen:
        screen.app.theme = "gruvbox"
        await screen.pilot.pause()
    assert not file.path.exists()
    async with driven(SampleClient()) as screen:
        screen.app.theme = "textual-light"
        await screen.until(lambda: file.read().theme == "textual-light")
    async with driven(SampleClient()) as screen:
        assert screen.app.theme == "textual-light"


async def test_who_only_looks_leaves_no_file(file: PreferencesFile) -> None:
    async with driven(SampleClient()) as screen:
        await screen.press("2", "3", "1")
        await screen.sees("NAME")
    assert not file.path.exists()


async def test_keys_are_remapped_by_their_ids(file: PreferencesFile) -> None:
    file.path.write_text("keys: {job.pause: f5, app.leave: 'Q,ctrl+x'}\n")
    client = SampleClient()
    async with driven(client) as screen:
        assert "f5 Pause/resume" in screen.text
        await screen.press("p")
        assert client.paused == []
        await screen.press("f5")
        await screen.until(lambda: client.paused == ["j-7f3a"])
        await screen.press("q")
        assert screen.app.is_running
        await screen.press("Q")
        assert screen.app.return_value is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("theme: gruvbos\n", ["no theme 'gruvbos' - did you mean 'gruvbox'?"]),
        ("keys: {job.pose: f5}\n", ["no key has the id 'job.pose' - did you mean 'job.pause'?"]),
        ("keys: {job.pause: ctrl-x}\n", ["job.pause: 'ctrl-x' is no key; write f5"]),
        ("keys: {job.pause: x}\n", ["x is job.pause, and job.cancel as well"]),
        ("keys: {job.pause: question_mark}\n", ["? is job.pause, and app.help as well"]),
        ("keys: {table.open: l}\n", ["l is table.open, and log.maximise as well"]),
        ("hide: {job: [eta]}\n", ["no table 'job' - did you mean 'jobs'?"]),
        ("hide: {jobs: [etta]}\n", ["jobs: no column 'etta' - did you mean 'eta'?"]),
        ("theme: [a]\n", ["screen.yaml:1:1  theme: write a text"]),
        ("theme: gruvbos\nkeys: {a.b: c}\n", ["no theme 'gruvbos'", "no key has the id 'a.b'"]),
    ],
)
async def test_what_cannot_be_is_told_and_the_screen_comes_all_the_same(
    file: PreferencesFile, text: str, words: list[str]
) -> None:
    file.path.write_text(text)
    async with driven(SampleClient(), size=(160, 48)) as screen:
        for each in words:
            await screen.hears(each)
        assert screen.app.theme == "sollol"


async def test_keys_that_never_meet_are_no_conflict(file: PreferencesFile) -> None:
    file.path.write_text(
        "keys: {launch.submit: f10, edit.save: f10, app.new_job: B, logs.rank: W}\n"
    )
    async with driven(SampleClient()) as screen:
        assert screen.told == []
        assert screen.app.active_bindings["B"].binding.id == "app.new_job"
