"""Every key of the first screen does what the help says."""

import pytest
from textual.widgets._footer import FooterKey

from sollol_tui.model.errors import JobError
from sollol_tui.model.states import JobState
from sollol_tui.ui.app import parting_words
from sollol_tui.ui.screens.confirm import ConfirmCancel, ConfirmKill
from sollol_tui.ui.screens.help import HelpScreen
from sollol_tui.ui.screens.jobs import Jobs
from sollol_tui.ui.screens.logs import Logs
from sollol_tui.ui.screens.view import View
from tests.ui.pilot import Driven, driven
from tests.ui.sample import DONE, QUEUED, RUNNING, SampleClient, snapshot


def focused(screen: Driven) -> str:
    assert screen.app.focused is not None
    return screen.app.focused.id or ""


@pytest.mark.parametrize("key", ["q", "ctrl+q", "ctrl+c"])
async def test_leaving_says_that_the_jobs_go_on(key: str) -> None:
    async with driven(SampleClient(shown=snapshot(jobs=(RUNNING, DONE)))) as screen:
        await screen.press(key)
        assert screen.app.return_value == (
            "j-7f3a is still running. follow: sollol attach j-7f3a   stop: sollol cancel j-7f3a"
        )


def test_leaving_without_live_jobs_says_nothing() -> None:
    assert parting_words((DONE,)) == ""


def test_leaving_several_jobs_names_them_all() -> None:
    words = parting_words((RUNNING, QUEUED, DONE))
    assert words.startswith("2 jobs go on: j-7f3a (running), j-81c0 (queued).")


async def test_cancel_asks_and_the_screen_says_stopping_only_when_the_state_does() -> None:
    client = SampleClient()
    async with driven(client) as screen:
        await screen.press("x")
        assert isinstance(screen.app.screen, ConfirmCancel)
        await screen.sees("cancel j-7f3a?")
        await screen.sees("tools-621k")
        await screen.sees("started 5h ago")
        await screen.sees("Kept: checkpoints and logs")
        assert client.cancelled == []
        await screen.press("y")
        await screen.until(lambda: client.cancelled == ["j-7f3a"])
        assert "stopping" not in screen.text
        client.change_job("j-7f3a", state=JobState.STOPPING)
        await screen.sees("stopping")


async def test_cancel_needs_an_explicit_yes_also_by_tab_and_enter() -> None:
    client = SampleClient()
    async with driven(client) as screen:
        for no in ("n", "escape", "enter", "q"):
            await screen.press("x")
            assert isinstance(screen.app.screen, ConfirmCancel), no
            await screen.press(no)
            await screen.until(lambda: screen.app.screen is screen.overview)
            assert client.cancelled == [], no
            assert screen.app.return_value is None
        await screen.press("x", "tab", "enter")
        await screen.until(lambda: client.cancelled == ["j-7f3a"])


async def test_a_refused_cancel_says_why() -> None:
    class Refusing(SampleClient):
        def cancel_job(self, job_id: str, *, now: bool = False) -> None:
            raise JobError("j-7f3a has ended already")

    async with driven(Refusing()) as screen:
        await screen.press("x", "y")
        await screen.sees("j-7f3a has ended already")


async def test_what_ends_or_ended_cannot_be_cancelled() -> None:
    client = SampleClient(shown=snapshot(jobs=(RUNNING,)))
    async with driven(client) as screen:
        for state in (JobState.STOPPING, JobState.CANCELLED, JobState.DONE):
            client.change_job("j-7f3a", state=state)
            await screen.sees(state.value)
            await screen.press("x")
            assert screen.app.screen is screen.overview, state


async def test_p_pauses_a_job_and_lets_a_paused_one_go_on() -> None:
    client = SampleClient()
    async with driven(client) as screen:
        await screen.press("p")
        await screen.sees("asked j-7f3a to pause")
        assert client.paused == ["j-7f3a"]
        await screen.sees("running")  # until its workers say otherwise
        client.change_job("j-7f3a", state=JobState.PAUSING)
        await screen.until(lambda: screen.app.active_bindings["p"].enabled is False)
        client.change_job("j-7f3a", state=JobState.PAUSED, reason="at step 57")
        await screen.until(lambda: screen.app.active_bindings["p"].enabled)
        await screen.press("p")
        await screen.until(lambda: client.resumed == ["j-7f3a"])
        assert client.paused == ["j-7f3a"]


async def test_readonly_cancels_and_pauses_nothing() -> None:
    client = SampleClient()
    async with driven(client, readonly=True) as screen:
        await screen.press("x", "p")
        assert screen.app.screen is screen.overview
        for key in ("x", "p"):
            assert screen.app.active_bindings[key].enabled is False
        assert client.paused == []


async def test_j_k_g_G_and_the_arrows_move_the_cursor() -> None:
    async with driven(SampleClient()) as screen:
        order = ["j-7f3a", "j-81c0", "j-3b02", "j-1c55"]
        for key, place in (("j", 1), ("down", 2), ("k", 1), ("up", 0), ("G", 3), ("g", 0)):
            await screen.press(key)
            assert screen.jobs.key_under_cursor == order[place], key
            await screen.until(lambda place=place: screen.overview.job_id == order[place])


async def test_tab_goes_round_the_panes() -> None:
    async with driven(SampleClient()) as screen:
        assert focused(screen) == "jobs-table"
        for pane in ("hosts-table", "log-view", "jobs-table"):
            await screen.press("tab")
            assert focused(screen) == pane
        await screen.press("shift+tab")
        assert focused(screen) == "log-view"


async def test_enter_on_a_job_goes_into_its_log_and_escape_comes_back() -> None:
    async with driven(SampleClient()) as screen:
        await screen.press("enter")
        assert focused(screen) == "log-view"
        await screen.press("escape")
        assert focused(screen) == "jobs-table"


async def test_enter_on_a_host_goes_into_the_log_of_its_job() -> None:
    async with driven(SampleClient()) as screen:
        await screen.press("j", "tab", "enter")
        assert focused(screen) == "log-view"
        await screen.until(lambda: screen.overview.job_id == "j-7f3a")


async def test_help_lists_the_keys_of_the_pane() -> None:
    async with driven(SampleClient(), size=(120, 40)) as screen:
        await screen.press("question_mark")
        assert isinstance(screen.app.screen, HelpScreen)
        for words in ("Next row", "Stop the job under the cursor", "Leave; jobs go on"):
            await screen.sees(words)
        await screen.press("j", "k", "escape", "enter", "f1")
        await screen.sees("Half a page up; freezes")
        for key in ("f1", "question_mark"):
            await screen.press(key)
            await screen.until(lambda: screen.app.screen is screen.overview)
            await screen.press(key)
            assert isinstance(screen.app.screen, HelpScreen)


async def test_every_key_has_an_id_a_description_and_a_sentence() -> None:
    async with driven(SampleClient()) as screen:
        for holder in (
            type(screen.app),
            View,
            Jobs,
            Logs,
            ConfirmKill,
            type(screen.overview),
            type(screen.jobs),
            type(screen.log),
        ):
            for binding in holder.__dict__["BINDINGS"]:
                assert binding.id, binding
                assert binding.description, binding
                assert binding.tooltip, binding


async def test_y_copies_the_job_or_the_host_under_the_cursor() -> None:
    async with driven(SampleClient()) as screen:
        await screen.press("y")
        assert screen.app.clipboard == "j-7f3a"
        await screen.press("tab", "j", "y")
        assert screen.app.clipboard == "desktop"


async def test_l_shows_the_log_alone_and_back() -> None:
    client = SampleClient()
    client.say("j-7f3a", "words")
    async with driven(client) as screen:
        await screen.press("l")
        assert focused(screen) == "log-view"
        assert "HOST" not in screen.text
        await screen.press("l")
        await screen.sees("HOST")
        await screen.press("l", "escape")
        await screen.sees("HOST")


async def test_ctrl_r_asks_the_hosts_now() -> None:
    client = SampleClient()
    async with driven(client) as screen:
        await screen.until(lambda: client.probes == 1)
        await screen.press("ctrl+r")
        await screen.until(lambda: client.probes == 2)


async def test_typing_a_filter_triggers_no_other_key() -> None:
    client = SampleClient()
    client.say("j-7f3a", "xylophone /q?", "other")
    async with driven(client) as screen:
        await screen.press("slash", *"xyl", "o", "p", "h", "o", "n", "e")
        assert screen.app.return_value is None
        await screen.press("space", "slash", "q", "question_mark")
        await screen.until(lambda: list(screen.log.lines) == ["hydra/0 │ xylophone /q?"])
        assert screen.app.screen is screen.overview


async def test_the_line_of_keys_is_drawn_anew_only_when_it_changes() -> None:
    async with driven(SampleClient(), size=(160, 48)) as screen:

        def keys() -> list[FooterKey]:
            return list(screen.overview.query(FooterKey))

        await screen.until(keys)
        before = keys()
        await screen.press("tab")
        await screen.until(lambda: screen.hosts.has_focus)
        await screen.press("shift+tab")
        await screen.until(lambda: screen.jobs.has_focus)
        assert keys() == before
        await screen.press("G")  # to a job that has ended
        await screen.until(lambda: not screen.overview.can_cancel)
        await screen.until(lambda: any(key.has_class("-disabled") for key in keys()))
        assert keys() != before
