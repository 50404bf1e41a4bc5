"""The form of a new job: what is typed is planned at once, and starts only when it is asked to."""

import json
from pathlib import Path

import pytest

from sollol_tui.model.errors import InputError, NotFoundError, NoWorkersError, concerning
from sollol_tui.model.spec import JobSpec, Lora
from sollol_tui.model.states import JobState
from sollol_tui.ui.screens.editor import JobFileEditor
from sollol_tui.ui.screens.launch import Launch
from sollol_tui.ui.screens.view import View
from sollol_tui.ui.widgets.draft_pane import DraftPane
from tests.ui.drafts import DraftClient
from tests.ui.launch_form import PLAN, client_beside_files, field, form, opened, planned, put
from tests.ui.pilot import driven
from tests.ui.test_hostile_text import CODES, MARKUP, UNSAFE

SIZES = [(80, 24), (160, 48)]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DraftClient:
    monkeypatch.chdir(tmp_path)
    return client_beside_files()


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_typed_is_planned_and_its_first_rows_are_shown(
    client: DraftClient, size: tuple[int, int]
) -> None:
    async with driven(client, size=size) as screen:
        await opened(screen)
        await screen.press(*"./model", "down", *"rows.jsonl")
        await screen.sees(PLAN)
        await screen.until(lambda: client.drafted[-1].dataset == "rows.jsonl")
        await screen.sees("question 0")
        for key in ("model", "dataset", "workers", "epochs"):
            assert key in screen.text
        assert client.checked == client.started == []


async def test_the_last_plan_stays_greyed_while_the_next_is_made(client: DraftClient) -> None:
    async with driven(client, size=(120, 40)) as screen:
        await planned(screen)
        client.may_plan.clear()
        await screen.press("down")  # into the next field, while nothing answers
        put(screen, lora__r="8")
        await screen.until(lambda: client.drafted[-1].lora.r == 8)
        await screen.sees("plan - being made anew")
        assert PLAN in screen.text
        assert form(screen).query_one(DraftPane).has_class("-old")
        put(screen, lora__r="16")  # the plan of 8 is of no use any more
        await screen.until(lambda: client.drafted[-1].lora.r == 16)
        client.may_plan.set()
        await screen.sees("r=16")
        assert not form(screen).query_one(DraftPane).has_class("-old")


async def test_what_is_wrong_is_said_at_its_field(client: DraftClient) -> None:
    async with driven(client, size=(120, 40)) as screen:
        await planned(screen)
        put(screen, epochs="0")
        await screen.sees("! epochs")
        await screen.sees("epochs: input should be greater")
        field(screen, "epochs").enter()
        await screen.until(lambda: screen.text.count("input should be greater") == 2)
        put(screen, epochs="2")
        await screen.until(lambda: "! epochs" not in screen.text)
        await screen.sees(PLAN)


async def test_a_refusal_names_its_field_and_every_host(client: DraftClient) -> None:
    async with driven(client, size=(120, 40)) as screen:
        await opened(screen)
        with pytest.raises(NotFoundError) as refused, concerning("model"):
            raise NotFoundError("no model folder ./modle", remedy="give a folder")
        client.refusal = refused.value
        put(screen, model="./modle", dataset="rows.jsonl")
        await screen.sees("no model folder ./modle; give a folder")
        await screen.sees("! model")
        reasons = {"hydra": "[b]in use[/b] by \x1b[31mj-1", "attic": "no route to host"}
        client.refusal = NoWorkersError("2 workers wanted, 0 suitable now", reasons)
        put(screen, model="./model")
        for words in ("2 workers wanted", "hydra: [b]in use[/b] by j-1", "attic: no route"):
            await screen.sees(words)
        await screen.until(lambda: "! model" not in screen.text)


async def test_ctrl_s_checks_anew_and_the_cursor_goes_to_the_job(client: DraftClient) -> None:
    async with driven(client, size=(120, 40)) as screen:
        await planned(screen)
        await screen.press("ctrl+s")
        await screen.until(lambda: isinstance(screen.app.screen, View))
        assert [spec.model for spec in client.checked] == ["./model"]
        assert client.started == client.checked
        await screen.hears("started j-new1")
        await screen.until(lambda: screen.overview.job_id == "j-new1")


async def test_a_job_that_has_to_wait_is_said_to_be_queued(client: DraftClient) -> None:
    client.starts_as = JobState.QUEUED
    async with driven(client) as screen:
        await planned(screen)
        await screen.press("ctrl+s")
        await screen.hears("queued j-new1: waits")


async def test_a_refusal_at_the_last_moment_keeps_the_form(client: DraftClient) -> None:
    async with driven(client) as screen:
        await planned(screen)
        client.refusal = NoWorkersError("1 worker wanted, 0 suitable now", {"hydra": "taken"})
        await screen.press("ctrl+s")
        await screen.sees("hydra: taken")
        assert form(screen).typed == {"model": "./model", "dataset": "rows.jsonl"}
        assert client.started == []


async def test_an_odd_plan_is_asked_about_and_starts_on_a_yes_alone(client: DraftClient) -> None:
    client.odd = ["pi01 does not take part: no [b]route[/b]\x1b[31m to host"]
    async with driven(client) as screen:
        await planned(screen)
        await screen.sees("odd  pi01 does not take part")  # before anybody wants to start it
        for answer in ("n", "enter", "escape"):
            await screen.press("ctrl+s")
            await screen.sees("start it all the same?")
            await screen.sees("- pi01 does not take part: no [b]route[/b] to host")
            await screen.press(answer)
            await screen.until(lambda: not form(screen).phase)
            assert client.started == []
        await screen.press("x")
        assert "x" in form(screen).typed["model"], "the cursor is where it was"
        await screen.press("ctrl+s")
        await screen.sees("start it all the same?")
        await screen.press("y")
        await screen.hears("started j-new1")
        assert client.started == client.checked[-1:]


async def test_esc_while_it_is_checked_calls_the_submission_off(client: DraftClient) -> None:
    async with driven(client) as screen:
        await planned(screen)
        client.may_plan.clear()
        await screen.press("ctrl+s")
        await screen.sees("checking once more")
        await screen.press("escape")
        client.may_plan.set()
        await screen.until(lambda: not form(screen).query_one(DraftPane).has_class("-old"))
        assert client.started == []
        await screen.press("x")
        assert "x" in form(screen).typed["model"], "the cursor is where it was"


async def test_a_clone_begins_with_what_the_job_was(client: DraftClient) -> None:
    spec = JobSpec(model="/m", dataset="rows.jsonl", lora=Lora(r=8), seed=7, name="tools")
    client.specs = {"j-7f3a": spec}
    client.change_job("j-7f3a", state=JobState.PAUSED)
    async with driven(client, size=(120, 40)) as screen:
        await screen.press("c")
        await screen.sees("new job like j-7f3a")
        await screen.sees("/m on rows.jsonl, r=8, all")
        assert form(screen).typed["seed"] == "7"
        assert client.drafted == [spec]
        await screen.press("f5")
        await screen.sees("from j-7f3a at step 40")
        await screen.press("f5")
        await screen.until(lambda: "at step 40" not in screen.text)
        client.may_plan.clear()
        await screen.press("ctrl+s", "f5")  # too late: what is checked does not change
        await screen.sees("checking once more")
        assert "from its newest checkpoint" not in screen.text
        await screen.press("escape", "escape")
        client.may_plan.set()
        await screen.until(lambda: isinstance(screen.app.screen, View))


async def test_leaving_what_was_typed_takes_a_second_esc(client: DraftClient) -> None:
    async with driven(client) as screen:
        await opened(screen)
        await screen.press("x", "escape")
        await screen.hears("esc once more")
        await screen.press("y", "escape")
        assert isinstance(screen.app.screen, Launch)
        await screen.press("escape")
        await screen.until(lambda: isinstance(screen.app.screen, View))


async def test_the_form_as_a_file_and_back(client: DraftClient) -> None:
    async with driven(client, size=(120, 40)) as screen:
        await planned(screen)
        await screen.press("f2")
        await screen.until(lambda: isinstance(screen.app.screen, JobFileEditor))
        await screen.sees("model: ./model")
        await screen.sees("a good job file, nothing changed")
        await screen.press("ctrl+end", *"epochs: 3", "ctrl+s")
        await screen.until(lambda: isinstance(screen.app.screen, Launch))
        await screen.until(lambda: client.drafted[-1].epochs == 3)
        await screen.press("f2", "escape")
        assert form(screen).typed["epochs"] == "3"


async def test_nothing_in_a_dataset_is_markup_or_a_control_code(client: DraftClient) -> None:
    texts = [*MARKUP, *CODES]
    rows = [{"prompt": "\n".join(texts), "completion": text} for text in texts]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    async with driven(client, size=(160, 80)) as screen:
        await planned(screen)
        await screen.sees("[@click=app.quit]x[/]")
        assert UNSAFE.search(screen.text.replace("\n", "")) is None
        assert all(text in screen.text for text in MARKUP)
        for strip in screen.app.screen._compositor.render_strips():
            assert all(segment.style is None or not segment.style.link for segment in strip)


async def test_a_row_of_one_long_line_leaves_room_for_the_next(client: DraftClient) -> None:
    rows = [{"prompt": f"{n}{'x' * 3000}", "completion": "y" * 3000} for n in range(3)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    async with driven(client, size=(120, 40)) as screen:
        await planned(screen)
        await screen.sees("row 2")
        await screen.sees("more characters]")


async def test_what_is_given_is_dim_and_what_is_learnt_is_not(client: DraftClient) -> None:
    async with driven(client, size=(160, 48)) as screen:
        await planned(screen)
        await screen.sees("answer 0")
        colours = {}
        for strip in screen.app.screen._compositor.render_strips():
            for segment in strip:
                if (words := segment.text.strip(" >")) in ("question 0", "answer 0"):
                    colours[words] = segment.style and segment.style.color
        assert len(set(colours.values())) == 2, colours


async def test_a_long_plan_is_scrolled_from_within_the_form(client: DraftClient) -> None:
    async with driven(client) as screen:
        await planned(screen)
        await screen.sees("question 0")
        pane = form(screen).query_one(DraftPane)
        await screen.press("pagedown")
        await screen.until(lambda: pane.scroll_y > 0)
        await screen.press("pageup")
        await screen.until(lambda: pane.scroll_y == 0)


async def test_an_inventory_that_cannot_be_read_is_told_in_the_form(client: DraftClient) -> None:
    client.refusal = InputError.single("inventory.yaml", "holds no mapping")
    async with driven(client) as screen:
        await opened(screen)
        put(screen, model="./model", dataset="rows.jsonl")
        await screen.sees("inventory.yaml  holds no mapping")


async def test_readonly_opens_no_form_and_no_editor(client: DraftClient) -> None:
    async with driven(client, readonly=True) as screen:
        for key in ("a", "c", "e", "i"):
            assert not screen.app.active_bindings[key].enabled
            await screen.press(key)
        assert isinstance(screen.app.screen, View)
