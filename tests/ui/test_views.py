"""The numbered views: what each shows, and that the job one looks at stays the same in all."""

import pytest
from textual.widgets import Input

from sollol_tui.model.diagnosis import Check, Outcome, Stage, ok
from sollol_tui.model.errors import StateError
from sollol_tui.model.metrics import StepPoint
from sollol_tui.model.snapshot import EvaluationView
from sollol_tui.model.states import JobState
from sollol_tui.ui.screens.confirm import ConfirmKill
from sollol_tui.ui.screens.jobs import Jobs
from sollol_tui.ui.screens.logs import Logs
from sollol_tui.ui.screens.view import View
from sollol_tui.ui.widgets.jobs_table import JobsTable
from sollol_tui.ui.widgets.log_view import LogView
from sollol_tui.ui.widgets.loss_plot import LossPlot
from tests.ui.pilot import Driven, driven
from tests.ui.sample import NOW, QUEUED, RUNNING, PointReader, SampleClient, happening, snapshot

SIZES = [(80, 24), (160, 48)]


def shown(screen: Driven) -> View:
    assert isinstance(screen.app.screen, View)
    return screen.app.screen


@pytest.mark.parametrize("size", SIZES)
async def test_every_view_has_its_number_and_looks_at_the_same_job(size: tuple[int, int]) -> None:
    client = SampleClient()
    client.say("j-3b02", "words of the failed one", host="attic")
    async with driven(client, size=size) as screen:
        await screen.press("j", "j")
        await screen.until(lambda: screen.overview.job_id == "j-3b02")
        for number, name in enumerate(screen.app.views, 1):
            await screen.press(str(number))
            await screen.until(lambda name=name: screen.app.current_mode == name)
            assert f"{number} {name.capitalize()}" in screen.text
            await screen.until(lambda: shown(screen).job_id == "j-3b02")
        await screen.press("1")
        assert screen.jobs.key_under_cursor == "j-3b02"


async def test_a_click_on_its_name_opens_a_view() -> None:
    async with driven(SampleClient()) as screen:
        await screen.pilot.click("#views", offset=(18, 0))
        await screen.until(lambda: isinstance(screen.app.screen, Jobs))


async def test_the_page_of_a_job_follows_the_cursor_and_the_news() -> None:
    client = SampleClient()
    async with driven(client, size=(120, 40)) as screen:
        await screen.press("2")
        for words in ("280,000 of 621,000 samples", "6h 21m to go", "2x RTX 3090", "training"):
            await screen.sees(words)
        client.change_job("j-7f3a", samples_done=300_000, samples_per_s=15.5)
        await screen.sees("300,000 of 621,000 samples   15.5 smp/s")
        await screen.press("j", "j")
        await screen.sees("ModuleNotFoundError: No module named 'peft'")


async def test_a_hidden_view_is_left_alone_and_is_new_when_it_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = SampleClient()
    async with driven(client, size=(120, 40)) as screen:
        overview = screen.overview
        taken: list[float] = []
        monkeypatch.setattr(overview, "take", lambda snapshot: taken.append(snapshot.at))
        await screen.press("2")
        client.change_job("j-7f3a", loss=1.111)
        await screen.sees("1.111")
        assert taken == []
        monkeypatch.undo()
        await screen.press("1")
        await screen.sees("1.111")


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("state:fail", ["j-3b02"]),
        ("!alpaca", ["j-7f3a", "j-81c0"]),
        ("attic", ["j-7f3a"]),
        ("re:^j-[18]", ["j-81c0", "j-1c55"]),
        ("nothing like it", []),
    ],
)
async def test_jobs_are_filtered_with_every_letter(typed: str, kept: list[str]) -> None:
    async with driven(SampleClient()) as screen:
        await screen.press("2", "slash")
        screen.app.screen.query_one(Input).value = typed
        table = screen.app.screen.query_one("#jobs-table")
        await screen.until(lambda: [row.key for row in table._rows] == kept)
        await screen.press("enter")
        await screen.sees("only" if kept else "no job passes the filter - esc clears it")
        await screen.press("escape")
        await screen.until(lambda: len(table._rows) == 4)


async def test_a_pattern_that_is_none_says_so_and_hides_nothing() -> None:
    async with driven(SampleClient()) as screen:
        await screen.press("2", "slash")
        screen.app.screen.query_one(Input).value = "re:["
        await screen.sees("is not a pattern")
        assert "j-1c55" in screen.text
        assert isinstance(screen.app.screen.query_one(JobsTable), JobsTable)


async def test_x_big_kills_only_a_job_whose_name_was_typed() -> None:
    client = SampleClient()
    async with driven(client) as screen:
        await screen.press("X")
        assert isinstance(screen.app.screen, ConfirmKill)
        await screen.sees("Type tools-621k and press enter")
        await screen.press(*"yes", "enter")
        assert screen.app.screen.query_one(Input).value == ""
        assert client.killed == []
        await screen.press(*"tools", "minus", *"621k", "enter")
        await screen.until(lambda: client.killed == ["j-7f3a"])
        assert client.cancelled == []
        await screen.press("X", "escape")
        assert isinstance(screen.app.screen, View)


async def test_what_stops_already_can_still_be_killed_and_what_ended_cannot() -> None:
    client = SampleClient(shown=snapshot(jobs=(RUNNING,)))
    async with driven(client) as screen:
        client.change_job("j-7f3a", state=JobState.STOPPING)
        await screen.sees("stopping")
        assert screen.app.active_bindings["X"].enabled
        client.change_job("j-7f3a", state=JobState.CANCELLED)
        await screen.sees("cancelled")
        await screen.until(lambda: not screen.app.active_bindings["X"].enabled)


async def test_the_log_of_one_rank_of_the_next_job_and_the_first_error() -> None:
    client = SampleClient(shown=snapshot(jobs=(RUNNING, QUEUED)))
    client.say("j-7f3a", "ValueError: early", *(f"line {n}" for n in range(200)))
    client.say("j-7f3a", "from the desktop", host="desktop", slot=2)
    async with driven(client) as screen:
        await screen.press("4")
        log = screen.app.screen.query_one(LogView)
        await screen.until(lambda: len(log.lines) == 202)
        await screen.press("o")
        await screen.sees("only desktop/2")
        assert list(log.lines) == ["desktop/2 │ from the desktop"]
        await screen.press("o", "o")
        await screen.until(lambda: len(log.lines) == 202)
        await screen.press("E")
        await screen.sees("ValueError: early")
        await screen.sees("frozen: G follows")
        await screen.press("o", "escape")
        await screen.until(lambda: len(log.lines) == 202)
        await screen.press("right_square_bracket")
        await screen.sees("j-81c0 magicoder-r16")
        await screen.press("left_square_bracket")
        await screen.sees("j-7f3a tools-621k")
        assert isinstance(screen.app.screen, Logs)


async def test_the_log_view_without_a_chosen_job_takes_the_first() -> None:
    client = SampleClient(shown=snapshot(jobs=()))
    async with driven(client) as screen:
        await screen.press("4")
        await screen.sees("no jobs yet - press a")
        client.say("j-7f3a", "the first line")
        client.show(snapshot(jobs=(RUNNING,)))
        await screen.sees("the first line")


def points(*losses: float) -> list[StepPoint]:
    return [StepPoint(step=at, loss=loss) for at, loss in enumerate(losses, 1)]


async def test_a_tall_job_page_draws_the_loss_and_a_low_one_keeps_to_its_sentences() -> None:
    client = SampleClient()
    client.points = {"j-7f3a": points(2.5, 1.75)}
    async with driven(client, size=(120, 60)) as screen:
        await screen.press("2")
        await screen.sees("2.500 -> 1.750")
        await screen.sees("2.50")
        drawn = screen.app.screen.query_one(LossPlot)
        await screen.until(lambda: drawn.size.height >= 12)
        await screen.pilot.resize_terminal(120, 30)
        await screen.until(lambda: not drawn.display)
        await screen.sees("2.500 -> 1.750")


async def test_figures_that_can_be_read_again_take_the_complaint_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def locked(_job: str) -> None:
        raise TimeoutError

    client = SampleClient()
    client.points = {"j-7f3a": points(2.5, 1.75)}
    async with driven(client, size=(120, 40)) as screen:
        await screen.press("5")
        await screen.sees("1.750")
        with monkeypatch.context() as broken:
            broken.setattr(client, "evaluations", locked)
            client.show(snapshot(at=NOW + 1))
            await screen.sees("metrics cannot be read: TimeoutError")
        client.show(snapshot(at=NOW + 2))
        await screen.sees("loss of j-7f3a")


async def test_events_are_newest_first_of_one_job_or_of_all() -> None:
    client = SampleClient()
    client.happened = [
        happening("attic joined", number=1),
        happening("is done", job="j-1c55", number=2),
        happening("hydra is silent since 12 s", number=3),
    ]
    async with driven(client, size=(120, 40)) as screen:
        await screen.press("6")
        table = screen.app.screen.query_one("#events-table")
        await screen.until(lambda: [row.key[-1] for row in table._rows] == ["3", "1"])
        await screen.press("o")
        await screen.until(lambda: [row.key[-1] for row in table._rows] == ["3", "2", "1"])
        await screen.sees("events of all jobs")
        client.happened.append(happening("hydra is back", number=4))
        client.show(snapshot(at=NOW + 1))
        await screen.sees("hydra is back")
        assert table.key_under_cursor == "j-7f3a.4"
        await screen.press("j", "j", "y")
        assert screen.app.clipboard == "is done"
        await screen.press("enter")
        await screen.until(lambda: shown(screen).job_id == "j-1c55")
        assert isinstance(screen.app.screen, Logs)
        await screen.press("6", "left_square_bracket")
        await screen.sees("events of j-3b02")
        await screen.press("l")
        await screen.until(lambda: isinstance(screen.app.screen, Logs))
        await screen.sees("log j-3b02")


async def test_a_view_that_nobody_sees_rests_and_wakes_without_a_gap() -> None:
    client = SampleClient()
    client.say("j-7f3a", "the first")
    client.points = {"j-7f3a": points(2.5, 1.75)}
    async with driven(client, size=(120, 40)) as screen:
        await screen.sees("the first")
        overview, log = screen.overview, screen.log
        await screen.press("5")
        await screen.sees("1.750")
        await screen.press("6")
        lines, steps = len(log.lines), client.points["j-7f3a"]
        asked, taken = client.probes, overview.snapshot
        client.say("j-7f3a", "meanwhile")
        client.happened.append(happening("goes on"))
        for at in (1, 2):
            client.show(snapshot(at=NOW + at))
            await screen.until(lambda at=at: shown(screen).snapshot.at == NOW + at)
        await screen.sees("goes on")  # so whoever wanted to read has read
        assert (overview.snapshot, len(log.lines)) == (taken, lines)
        assert client.probes == asked
        steps += points(2.5, 1.75, 1.25)[2:]
        await screen.press("1")
        await screen.sees("meanwhile")
        await screen.until(lambda: client.probes == asked + 1)
        assert list(log.lines)[-2:] == ["hydra/0 │ the first", "hydra/0 │ meanwhile"]
        await screen.press("5")
        await screen.sees("1.250")


async def test_events_are_filtered_and_the_one_under_the_cursor_is_whole() -> None:
    client = SampleClient()
    client.happened = [happening(f"word{n} " * 30, number=n) for n in range(3)]
    async with driven(client) as screen:
        await screen.press("6")
        await screen.sees("word2")
        assert screen.text.count("word2 word2 word2") >= 10, "all of it, and as much as fits"
        await screen.press("slash", *"word0", "enter")
        await screen.until(lambda: "word2" not in screen.text)
        await screen.press("escape")
        await screen.sees("word2")


async def test_the_loss_is_a_curve_beside_another_jobs() -> None:
    client = SampleClient()
    client.points = {"j-7f3a": points(2.5, 1.75, 1.25), "j-1c55": points(3.5, 0.5)}
    client.held_out = (EvaluationView(step=2, loss=1.5, perplexity=4.48, rows=200),)
    async with driven(client, size=(120, 40)) as screen:
        await screen.press("5")
        for words in (
            "loss of j-7f3a tools-621k",
            "1.250 to 2.500",
            "j-7f3a held-out",
            "held-out loss 1.500 (perplexity 4.48) on 200 rows after step 2",
        ):
            await screen.sees(words)
        await screen.press("o", "o", "o")
        await screen.sees("beside j-1c55")
        client.points["j-7f3a"] += [StepPoint(step=4, loss=1.125)]
        client.show(snapshot(at=NOW + 1))
        await screen.sees("1.125 to 2.500")
        client.held_out = ()
        await screen.press("o", "right_square_bracket")
        await screen.sees("no step has been told yet")


async def test_figures_that_cannot_be_read_say_why() -> None:
    class Failing(SampleClient):
        def open_metrics(self, job_id: str) -> PointReader:
            raise StateError("state.db is locked")

    async with driven(Failing()) as screen:
        await screen.press("5")
        await screen.sees("metrics cannot be read: state.db is locked")


async def test_w_asks_whom_one_ticks_to_join_and_the_others_to_leave() -> None:
    client = SampleClient()
    async with driven(client) as screen:
        await screen.press("w")
        for words in ("[ ] coordinator  this machine", "[x] hydra", "[ ] pi01  down: no route"):
            await screen.sees(words)
        await screen.press("space", "j", "j", "space", "enter")
        await screen.until(lambda: len(client.asked) == 2)
        assert client.asked == [("join", "j-7f3a", "coordinator"), ("leave", "j-7f3a", "desktop")]
        await screen.press("w", "space", "escape")
        assert isinstance(screen.app.screen, View)
        assert len(client.asked) == 2


async def test_the_doctor_tells_stage_by_stage_and_its_verdict() -> None:
    client = SampleClient()
    client.checks = [
        ok(Stage.SSH, "logs in as ml"),
        Check(stage=Stage.DISK, outcome=Outcome.FAILED, found="1 GiB free", reason="3 GiB needed",
              remedy="free some space"),
    ]  # fmt: skip
    async with driven(client, size=(120, 40)) as screen:
        await screen.press("3", "j", "D")
        await screen.sees("[x] ssh          ok      logs in as ml")
        await screen.sees("[ ] python")
        await screen.sees("..  1 of 10  ssh")
        await screen.until(lambda: not screen.app.active_bindings["D"].enabled)
        await screen.press("j", "k")
        client.may_go_on.set()
        await screen.sees("doctor: failed")
        await screen.sees("[-] disk         failed  1 GiB free; 3 GiB needed")
        await screen.sees("-> free some space")
        await screen.until(lambda: screen.app.active_bindings["D"].enabled)
        await screen.press("j")
        await screen.sees("[-] desktop      doctor: failed")


async def test_provisioning_shows_its_steps_and_says_why_it_failed() -> None:
    client = SampleClient()
    async with driven(client, size=(120, 40)) as screen:
        await screen.press("3", "P")
        await screen.sees("[x] workdir      unchanged ~/.sollol")
        await screen.sees("[ ] environment  working   building")
        await screen.sees("####................  1 of 5  environment working")
        await screen.press("j", "P")
        await screen.sees("hydra        ####")
        await screen.press("k")
        client.failure = StateError("hydra: its disk is full", remedy="free some space")
        client.may_go_on.set()
        await screen.sees("provisioning: failed")
        await screen.sees("hydra: its disk is full; free some space")


async def test_readonly_examines_but_provisions_nothing() -> None:
    async with driven(SampleClient(), readonly=True) as screen:
        await screen.press("3")
        await screen.until(lambda: "P" in screen.app.active_bindings)
        assert not screen.app.active_bindings["P"].enabled
        assert screen.app.active_bindings["D"].enabled


async def test_keys_act_on_the_job_that_one_sees() -> None:
    client = SampleClient()
    client.happened = [happening("is done", job="j-1c55"), happening("trains", number=1)]
    async with driven(client) as screen:
        await screen.press("j")
        await screen.until(lambda: screen.overview.job_id == "j-81c0")
        await screen.press("3", "p")
        await screen.until(lambda: client.paused == ["j-7f3a"])
        await screen.press("j", "j", "j")
        await screen.until(lambda: not screen.app.active_bindings["p"].enabled)
        await screen.press("k", "enter")
        await screen.until(lambda: isinstance(screen.app.screen, Jobs))
        await screen.until(lambda: shown(screen).job_id == "j-7f3a")
        await screen.press("6", "o")
        await screen.sees("events of all jobs")
        await screen.press("j")
        await screen.until(lambda: not screen.app.active_bindings["p"].enabled)
        await screen.press("k", "p")
        await screen.until(lambda: client.paused == ["j-7f3a", "j-7f3a"])


@pytest.mark.parametrize("name", ["jobs", "hosts", "logs", "metrics", "events"])
async def test_a_key_pressed_before_its_view_is_built_finds_nothing_to_act_on(name: str) -> None:
    async with driven(SampleClient()) as screen:
        screen.app.switch_mode(name)  # not waited for: a key may come before its panes are there
        view = shown(screen)
        assert (view.NAME, view.is_mounted) == (name, False)
        enabled = {each.binding.action: each.enabled for each in view.active_bindings.values()}
        clones = screen.app.check_action("clone_job", ())
        await screen.until(lambda: view.is_mounted)
    assert clones is None
    assert not any(enabled[action] for action in ("log", "describe", "copy", "pause", "keep"))
