"""What the first screen shows, and that it stays where a person put it while the data change."""

from dataclasses import replace

import pytest

from sollol_tui.model.errors import StateError
from sollol_tui.model.snapshot import HostState
from sollol_tui.model.states import JobState
from tests.ui.pilot import driven
from tests.ui.sample import FAILED, NOW, QUEUED, RUNNING, SampleClient, host, snapshot

SIZES = [(80, 24), (160, 48)]


@pytest.mark.parametrize("size", SIZES)
async def test_jobs_hosts_and_the_log_are_on_one_screen(size: tuple[int, int]) -> None:
    client = SampleClient()
    client.say("j-7f3a", "the first words of a rank")
    async with driven(client, size=size) as screen:
        for words in (
            "SOLLOL  lab",
            "4/5 hosts up   1 running  1 queued",
            "j-7f3a",
            "tools-621k",
            "45%  ####",
            "#1: waits for 2",
            "old-xeon",
            "no route to host, 4m",
            "hydra/0 │ the first words of a rank",
            "x Cancel job",
        ):
            await screen.sees(words)


async def test_a_wide_screen_shows_every_column() -> None:
    async with driven(SampleClient(), size=(160, 48)) as screen:
        await screen.sees("45%  ########.......... 280K/621K")
        for words in ("hydra desktop attic", "2x RTX 3090", "71C", "28.0/64 GiB", "62%"):
            await screen.sees(words)


@pytest.mark.parametrize("size", SIZES)
async def test_empty_panes_name_the_next_command(size: tuple[int, int]) -> None:
    async with driven(SampleClient(shown=snapshot(jobs=(), hosts=())), size=size) as screen:
        await screen.sees("no jobs yet - press a, or: sollol train --model DIR --dataset FILE")
        await screen.sees("no hosts in the inventory - press e to edit it, i to import from")
        await screen.sees("the log of the job under the cursor appears here")


async def test_the_first_job_replaces_the_empty_pane() -> None:
    client = SampleClient(shown=snapshot(jobs=()))
    async with driven(client) as screen:
        await screen.sees("no jobs yet")
        client.show(snapshot(jobs=(RUNNING,)))
        await screen.sees("tools-621k")
        assert "no jobs yet" not in screen.text
        await screen.until(lambda: screen.overview.job_id == "j-7f3a")


async def test_a_failed_job_says_why_and_shows_the_end_of_its_traceback() -> None:
    async with driven(SampleClient(shown=snapshot(jobs=(FAILED,)))) as screen:
        await screen.sees("failed 2h ago: attic/2 died at import: ModuleNotFoundError")
        await screen.sees('File "remote/train.py", line 12, in <module>')


async def test_the_cursor_stays_on_its_job_when_others_come_and_finish() -> None:
    client = SampleClient(shown=snapshot(jobs=(RUNNING, QUEUED)))
    async with driven(client) as screen:
        await screen.press("j")
        await screen.until(lambda: screen.overview.job_id == "j-81c0")
        newcomers = tuple(replace(RUNNING, id=f"j-000{n}", name=f"new-{n}") for n in range(3))
        client.show(snapshot(jobs=(*newcomers, RUNNING, QUEUED)))
        await screen.sees("new-2")
        assert screen.jobs.key_under_cursor == "j-81c0"
        client.show(snapshot(jobs=(QUEUED,)))
        await screen.until(lambda: "new-2" not in screen.text)
        assert screen.jobs.key_under_cursor == "j-81c0"
        assert screen.overview.job_id == "j-81c0"


async def test_the_cursor_and_scroll_of_a_long_table_survive_every_snapshot() -> None:
    hosts = [host(f"w{n:03}") for n in range(200)]
    client = SampleClient(shown=snapshot(hosts=hosts))
    async with driven(client) as screen:
        await screen.press("tab", *["j"] * 60, "k")
        place = screen.hosts.scroll_y
        assert place > 0
        hosts[59] = host("w059", cpu_percent=88.0)
        client.show(snapshot(hosts=hosts))
        await screen.sees("88%")
        assert (screen.hosts.key_under_cursor, screen.hosts.scroll_y) == ("w059", place)
        del hosts[:10]
        client.show(snapshot(hosts=hosts))
        await screen.sees("190/190 hosts up")
        assert screen.hosts.key_under_cursor == "w059"


async def test_only_changed_cells_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    client = SampleClient()
    async with driven(client, size=(160, 48)) as screen:
        written: list[tuple[str, str]] = []
        update = screen.jobs.update_cell

        def note(row: str, column: str, value: object) -> None:
            written.append((row, column))
            update(row, column, value)

        monkeypatch.setattr(screen.jobs, "update_cell", note)
        client.change_job("j-7f3a", loss=1.199)
        await screen.sees("1.199")
        assert written == [("j-7f3a", "loss")]


async def test_the_job_that_was_asked_for_is_under_the_cursor() -> None:
    async with driven(SampleClient(), job="j-3b02") as screen:
        await screen.until(lambda: screen.overview.job_id == "j-3b02")


async def test_a_failing_poll_is_a_line_on_the_screen_and_goes_away() -> None:
    client = SampleClient()
    async with driven(client) as screen:
        client.failure = StateError("state.db is locked", remedy="wait for the other sollol")
        await screen.sees("what you see is old: state.db is locked; wait for the other sollol")
        assert "tools-621k" in screen.text
        client.failure = None
        await screen.until(lambda: "locked" not in screen.text)


async def test_hosts_are_asked_while_the_screen_is_shown_and_a_failure_is_said() -> None:
    class Failing(SampleClient):
        async def probe_hosts(self) -> None:
            self.probes += 1
            raise StateError("no route to anything")

    client = Failing()
    async with driven(client) as screen:
        await screen.sees("hosts cannot be asked: no route to anything")
        assert client.probes == 1
        await screen.press("ctrl+r")
        await screen.until(lambda: client.probes == 2)


async def test_what_a_row_cannot_hold_about_a_host_stands_in_the_title() -> None:
    shown = snapshot(
        hosts=(
            host("w1", state=HostState.REFUSED, reason="its host key has changed", since=NOW - 60),
        )
    )
    async with driven(SampleClient(shown=shown)) as screen:
        await screen.sees("hosts - w1: its host key has changed, 1m")


async def test_a_resized_terminal_gets_the_columns_that_fit() -> None:
    async with driven(SampleClient(), size=(160, 48)) as screen:
        await screen.sees("WORKERS")
        await screen.pilot.resize_terminal(80, 24)
        await screen.until(lambda: "WORKERS" not in screen.text)
        await screen.sees("6h 21m")
        await screen.pilot.resize_terminal(160, 48)
        await screen.sees("WORKERS")


@pytest.mark.parametrize("theme", ["sollol", "ansi-dark", "ansi-light", "textual-light"])
async def test_states_are_words_in_every_theme(theme: str) -> None:
    async with driven(SampleClient()) as screen:
        screen.app.theme = theme
        for state in (JobState.RUNNING, JobState.QUEUED, JobState.FAILED, "down"):
            await screen.sees(str(state))
