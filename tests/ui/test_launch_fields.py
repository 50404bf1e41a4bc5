"""The fields of the form of a new job: keys between them, what is pasted, picked and explained."""

from pathlib import Path

import pytest
from textual.events import Key, Paste

from sollol_tui.ui.screens.help import HelpScreen
from sollol_tui.ui.screens.launch import Launch
from sollol_tui.ui.screens.picker import Picker
from sollol_tui.ui.widgets.form_field import FormField
from tests.ui.drafts import DraftClient
from tests.ui.launch_form import client_beside_files, field, form, opened, planned
from tests.ui.pilot import driven
from tests.ui.test_hostile_text import UNSAFE


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DraftClient:
    monkeypatch.chdir(tmp_path)
    return client_beside_files()


async def test_arrows_and_enter_go_from_field_to_field(client: DraftClient) -> None:
    async with driven(client) as screen:
        await opened(screen)

        def here() -> str:
            focused = screen.app.focused
            assert focused is not None
            return next(f.field.key for f in form(screen).query(FormField) if focused in f.query())

        places = [here()]
        for key in ("down", "enter", "up", "up", "up"):
            await screen.press(key)
            places.append(here())
        assert places == ["model", "dataset", "workers", "dataset", "model", "lora.alpha"]


@pytest.mark.parametrize("key", ["tab", "down", "enter"])
async def test_what_is_typed_right_behind_the_key_is_for_the_next_field(
    client: DraftClient, key: str
) -> None:
    async with driven(client) as screen:
        await opened(screen)
        for each in ("m", "o", key, "r", "s"):  # in one piece, as a slow connection brings them
            screen.app.post_message(Key(each, each if len(each) == 1 else None))
        await screen.until(lambda: sum(map(len, form(screen).typed.values())) >= 4)
        assert form(screen).typed == {"model": "mo", "dataset": "rs"}


async def test_a_pasted_job_file_of_another_trainer_fills_the_form(client: DraftClient) -> None:
    async with driven(client, size=(120, 40)) as screen:
        await planned(screen)
        # As terminals do, with returns.
        text = "base_model: org/m\rdataset: rows.jsonl\rlora_rank: 4\rlr: 0.001\r"
        assert screen.app.focused is not None
        screen.app.focused.post_message(Paste(text))
        await screen.sees("org/m on rows.jsonl, r=4")
        assert form(screen).typed["learning_rate"] == "0.001"
        assert screen.app.focused is not None
        screen.app.focused.post_message(Paste("model: m\ndataset: d\nbatchsize: 3\n"))
        await screen.hears("'batchsize'")
        assert form(screen).typed["model"] == "org/m"


async def test_a_pasted_word_is_typed_without_its_codes(client: DraftClient) -> None:
    async with driven(client) as screen:
        await opened(screen)
        assert screen.app.focused is not None
        screen.app.focused.post_message(Paste("./mo\x1b[31mdel\u202e\n"))
        await screen.until(lambda: form(screen).typed == {"model": "./model"})


async def test_model_and_dataset_are_picked_among_the_files_here(client: DraftClient) -> None:
    Path("data").mkdir()
    Path("data/more.csv").write_text("text\none\n")
    Path("data/\x1b[31mevil[b].csv").write_text("text\none\n")
    async with driven(client, size=(120, 40)) as screen:
        await opened(screen)
        await screen.press("ctrl+o")
        await screen.until(lambda: isinstance(screen.app.screen, Picker))
        await screen.sees("1 of 2 fit")
        await screen.press("enter")
        await screen.until(lambda: form(screen).typed == {"model": "model"})
        await screen.press("down", "ctrl+o", *"da", "enter")
        await screen.sees("evil[b].csv")
        assert UNSAFE.search(screen.text.replace("\n", "")) is None
        await screen.press(*"mo", "enter")
        await screen.until(lambda: form(screen).typed.get("dataset") == "data/more.csv")
        await screen.press("ctrl+o")
        await screen.sees("2 of 2 fit")
        await screen.press("up", "up", "ctrl+s")  # the folder itself
        await screen.until(lambda: form(screen).typed.get("dataset") == "data")
        await screen.press("ctrl+o", "escape", "down")
        assert form(screen).typed["dataset"] == "data"
        await screen.until(lambda: not screen.app.active_bindings["ctrl+o"].enabled)


async def test_a_folder_that_cannot_be_listed_says_so(client: DraftClient) -> None:
    async with driven(client) as screen:
        await opened(screen)
        await screen.press("ctrl+o", *"/none/at/all")
        await screen.sees("cannot be listed: No such file")
        await screen.press("escape")


async def test_every_setting_is_there_when_it_is_wanted(client: DraftClient) -> None:
    async with driven(client, size=(120, 60)) as screen:
        await planned(screen)
        await screen.press("f3")
        await screen.sees("all ")
        for key in ("on_worker_loss", "resources.gpu_ids", "notify.command", "sample_prompts"):
            assert field(screen, key)
        assert form(screen).typed == {"model": "./model", "dataset": "rows.jsonl"}
        field(screen, "wire").enter()
        await screen.press("right")
        await screen.until(lambda: client.drafted[-1].wire == "fp32")
        await screen.press("left")
        await screen.until(lambda: client.drafted[-1].wire == "bf16")
        await screen.press("l", "f3")
        assert "wire" in form(screen).typed, "what was said stays"
        await screen.until(lambda: "on_worker_loss" not in screen.text)


async def test_the_keys_of_the_form_are_explained(client: DraftClient) -> None:
    async with driven(client, size=(120, 40)) as screen:
        await opened(screen)
        await screen.press("f1")
        await screen.until(lambda: isinstance(screen.app.screen, HelpScreen))
        for words in ("The same settings as a job file", "Scroll the plan down", "launch.next"):
            await screen.sees(words)
        await screen.press("escape")
        assert isinstance(screen.app.screen, Launch)


async def test_a_key_pressed_before_the_form_is_built_acts_on_nothing(client: DraftClient) -> None:
    async with driven(client) as screen:
        screen.app.push_screen(opening := Launch(client, "new job", {}))  # type: ignore[arg-type]
        assert not opening.is_mounted  # not waited for: a key may come before its fields are there
        enabled = {each.binding.action: each.enabled for each in opening.active_bindings.values()}
        await screen.until(lambda: opening.is_mounted)
    assert not any(enabled[action] for action in ("submit", "pick", "move(1)", "edit_file"))
