"""The log follows, freezes, filters, and changes with the job."""

import pytest

from sollol_tui.model.errors import NotFoundError
from sollol_tui.ui.log_filter import parse_filter
from sollol_tui.ui.widgets.log_pane import KEPT_LINES
from tests.ui.pilot import driven
from tests.ui.sample import Reader, SampleClient


async def test_new_lines_are_followed() -> None:
    client = SampleClient()
    client.say("j-7f3a", *(f"line {n}" for n in range(100)))
    async with driven(client) as screen:
        await screen.sees("line 99")
        client.say("j-7f3a", "the newest")
        await screen.sees("the newest")


async def test_scrolling_up_freezes_and_counts_and_G_follows() -> None:
    client = SampleClient()
    client.say("j-7f3a", *(f"line {n}" for n in range(100)))
    async with driven(client) as screen:
        await screen.sees("line 99")
        await screen.press("enter", "k", "ctrl+u")
        frozen = [line for line in screen.text.splitlines() if "hydra/0" in line]
        client.say("j-7f3a", *(f"late {n}" for n in range(132)))
        await screen.sees("frozen: 132 new, G follows")
        assert [line for line in screen.text.splitlines() if "hydra/0" in line] == frozen
        await screen.press("G")
        await screen.sees("late 131")
        assert "frozen" not in screen.text
        client.say("j-7f3a", "and on")
        await screen.sees("and on")


async def test_scrolling_down_to_the_end_follows_again() -> None:
    client = SampleClient()
    client.say("j-7f3a", *(f"line {n}" for n in range(50)))
    async with driven(client) as screen:
        await screen.sees("line 49")
        await screen.press("enter", "k")
        await screen.sees("frozen")
        await screen.press("j")
        await screen.until(lambda: "frozen" not in screen.text)


async def test_g_goes_to_the_oldest_line() -> None:
    client = SampleClient()
    client.say("j-7f3a", *(f"line {n}" for n in range(100)))
    async with driven(client) as screen:
        await screen.sees("line 99")
        await screen.press("enter", "g")
        await screen.sees("line 0 ")


async def test_a_smaller_terminal_does_not_freeze_the_log() -> None:
    client = SampleClient()
    client.say("j-7f3a", *(f"line {n}" for n in range(100)))
    async with driven(client, size=(160, 48)) as screen:
        await screen.sees("line 99")
        await screen.pilot.resize_terminal(80, 24)
        await screen.sees("line 99")
        client.say("j-7f3a", "still followed")
        await screen.sees("still followed")


async def test_another_job_brings_its_own_log_only() -> None:
    client = SampleClient()
    client.say("j-7f3a", "words of the first")
    client.say("j-81c0", "words of the second", host="attic", slot=None)
    async with driven(client) as screen:
        await screen.sees("words of the first")
        await screen.press("j")
        await screen.sees("attic │ words of the second")
        assert "words of the first" not in screen.text
        await screen.press("j")
        await screen.sees("no output")


async def test_the_filter_shows_what_was_asked_for() -> None:
    client = SampleClient()
    all_lines = ["UserWarning: x", "a warning", "loss 1.2"]
    client.say("j-7f3a", *all_lines)
    async with driven(client) as screen:
        await screen.until(lambda: len(screen.log.lines) == 3)
        await screen.press("slash")
        for typed, left in (
            ("warn", ["UserWarning: x", "a warning"]),
            ("Warn", ["UserWarning: x"]),
            ("!warn", ["loss 1.2"]),
            ("re:^.*x$", ["UserWarning: x"]),
            ("", all_lines),
            ("re:(", all_lines),
        ):
            screen.overview.query_one("#log-filter").value = typed  # type: ignore[attr-defined]
            wanted = [f"hydra/0 │ {text}" for text in left]
            await screen.until(lambda wanted=wanted: list(screen.log.lines) == wanted)
        await screen.sees("is not a pattern")


async def test_the_filter_stays_stands_in_the_title_and_escape_clears_it() -> None:
    client = SampleClient()
    client.say("j-7f3a", "apple", "pear")
    async with driven(client) as screen:
        await screen.press("slash", *"pear", "enter")
        await screen.sees("only pear")
        client.say("j-7f3a", "apple two", "pear two")
        await screen.sees("pear two")
        assert "apple" not in screen.text
        await screen.press("escape")
        await screen.sees("apple two")
        assert "only pear" not in screen.text


async def test_a_filter_that_admits_nothing_says_how_to_clear_it() -> None:
    client = SampleClient()
    client.say("j-7f3a", "apple")
    async with driven(client) as screen:
        await screen.press("slash", *"zzz")
        await screen.sees("no line passes the filter - esc clears it")


async def test_n_goes_on_in_the_log_of_the_overview_too_but_in_a_table_to_the_next_row() -> None:
    client = SampleClient()
    lines = [f"line {n}" for n in range(40)]
    client.say("j-7f3a", "KeyError: a", *lines, "KeyError: b", *lines)
    async with driven(client) as screen:
        await screen.until(lambda: len(screen.log.lines) == 82)
        await screen.press("enter", "n", "n")
        await screen.sees("KeyError: b")
        await screen.press("N")
        await screen.sees("KeyError: a")
        await screen.press("N")
        await screen.hears("no further line here")
        await screen.press("escape", "n")
        await screen.until(lambda: screen.jobs.key_under_cursor == "j-81c0")


def test_a_pattern_that_is_none_is_told_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="is not a pattern"):
        parse_filter("re:(")


async def test_a_log_that_cannot_be_read_is_a_line_and_is_tried_again() -> None:
    class Locked(SampleClient):
        locked = True

        def open_logs(self, job_id: str, *, tail_bytes: int | None = None) -> Reader:
            if self.locked:
                raise NotFoundError("no logs of j-7f3a yet")
            return super().open_logs(job_id, tail_bytes=tail_bytes)

    client = Locked()
    client.say("j-7f3a", "here they are")
    async with driven(client) as screen:
        await screen.sees("the log cannot be read: no logs of j-7f3a yet")
        client.locked = False
        await screen.sees("here they are")
        await screen.until(lambda: "cannot be read" not in screen.text)


async def test_a_burst_leaves_the_newest_lines_and_a_bounded_memory() -> None:
    client = SampleClient()
    client.say("j-7f3a", *(f"line {n}" for n in range(KEPT_LINES + 10_000)))
    async with driven(client) as screen:
        await screen.sees(f"line {KEPT_LINES + 9_999}")
        assert len(screen.log.lines) == KEPT_LINES
        assert len(screen.pane._kept) == KEPT_LINES
