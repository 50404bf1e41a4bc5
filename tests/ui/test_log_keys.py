"""Keys of the log view: search with what stands around, wrapped lines, nothing but lines."""

from datetime import datetime

import pytest
from textual.events import MouseScrollUp

from sollol_tui.ui.screens.logs import Logs
from sollol_tui.ui.widgets.log_pane import LogPane
from sollol_tui.ui.widgets.log_view import LogView
from tests.ui.pilot import Driven, driven
from tests.ui.sample import NOW, SampleClient

FILLER = [f"line {number}" for number in range(60)]


def view(screen: Driven) -> LogView:
    assert isinstance(screen.app.screen, Logs)
    return screen.app.screen.query_one(LogView)


def first_shown(screen: Driven) -> str:
    """The line at the top of the pane."""
    log = view(screen)
    return list(log.lines)[round(log.scroll_y)]


async def test_n_goes_on_to_what_the_filter_finds_and_shows_what_stands_around_it() -> None:
    client = SampleClient()
    client.say("j-7f3a", "needle one", *FILLER, "NEEDLE two", *FILLER)
    async with driven(client) as screen:
        await screen.press("4")
        await screen.until(lambda: len(view(screen).lines) == 122)
        await screen.press("slash", *"needle", "enter")
        await screen.until(lambda: len(view(screen).lines) == 2)
        await screen.press("n")
        await screen.sees("search needle")
        assert len(view(screen).lines) == 122
        assert first_shown(screen).endswith("needle one")
        await screen.press("n")
        assert first_shown(screen).endswith("NEEDLE two")
        await screen.press("n")
        await screen.hears("no further line here")
        await screen.press("N")
        assert first_shown(screen).endswith("needle one")
        await screen.press("slash", *"s", "enter")  # what is typed anew is a filter again
        await screen.until(lambda: len(view(screen).lines) == 0)
        await screen.press("escape")
        await screen.until(lambda: len(view(screen).lines) == 122)


async def test_without_a_filter_n_goes_from_error_to_error() -> None:
    client = SampleClient()
    client.say("j-7f3a", "ValueError: a", *FILLER, "KeyError: b", *FILLER)
    async with driven(client) as screen:
        await screen.press("4")
        await screen.until(lambda: len(view(screen).lines) == 122)
        await screen.press("n", "n")
        assert first_shown(screen).endswith("KeyError: b")
        await screen.press("E")
        assert first_shown(screen).endswith("ValueError: a")


async def test_w_shows_long_lines_in_full_also_where_the_window_changes() -> None:
    client = SampleClient()
    client.say("j-7f3a", f"{'long ' * 40}END", "short")
    async with driven(client) as screen:
        await screen.press("4")
        await screen.until(lambda: len(view(screen).lines) == 2)
        assert "END" not in screen.text
        await screen.press("w")
        await screen.sees("END")
        await screen.sees("wrapped")
        folded = len(view(screen).lines)
        await screen.pilot.resize_terminal(120, 24)
        await screen.until(lambda: 2 < len(view(screen).lines) < folded)
        assert "END" in screen.text
        client.say("j-7f3a", f"{'more ' * 40}LAST")
        await screen.sees("LAST")
        await screen.press("w")
        await screen.until(lambda: len(view(screen).lines) == 3)


async def test_f_leaves_nothing_but_the_log() -> None:
    client = SampleClient()
    client.say("j-7f3a", "words")
    async with driven(client) as screen:
        await screen.press("4", "f")
        await screen.until(lambda: "hosts up" not in screen.text)
        assert screen.app.screen.query_one(LogPane).size.height >= 22
        await screen.sees("words")
        await screen.press("f")
        await screen.sees("hosts up")


async def test_t_shows_when_lines_came_and_who_reads_goes_on_where_he_was() -> None:
    client = SampleClient()
    client.say("j-7f3a", "early words", *FILLER, at=NOW)
    client.say("j-7f3a", f"KeyError: {'long ' * 40}END", *FILLER)
    client.say("j-7f3a", "there", host="desktop")
    moment = datetime.fromtimestamp(NOW).astimezone().strftime("%m-%d %H:%M:%S")
    async with driven(client) as screen:
        await screen.press("4")
        await screen.until(lambda: len(view(screen).lines) == 123)
        await screen.press("t")
        await screen.until(lambda: view(screen).lines[0] == f"{moment} hydra/0   │ early words")
        assert view(screen).lines[-1] == f"{' ' * 15}desktop/0 │ there"  # bar below bar
        assert first_shown(screen).startswith(" " * 15)  # nobody took down when
        await screen.press("E")
        for key in ("t", "w", "t"):
            assert "KeyError" in first_shown(screen)
            client.say("j-7f3a", "one more")
            await screen.sees("new, G follows")
            await screen.press(key)
            await screen.pilot.pause()
        assert "KeyError" in first_shown(screen)
        await screen.sees("3 new, G follows")
        await screen.press("y")  # what was found, whole, in whatever form it is shown
        assert screen.app.clipboard == f"hydra/0 │ KeyError: {'long ' * 40}END"
        await screen.press("slash", *moment[-5:], "enter")  # times are not what was said
        await screen.sees("no line passes the filter")
        await screen.press("escape", "G", "y")
        assert screen.app.clipboard == "hydra/0 │ one more"


async def test_a_log_that_begins_to_overflow_is_seen_from_its_end() -> None:
    client = SampleClient()
    client.say("j-7f3a", *(f"{'long ' * 40}{n}" for n in range(10)))
    async with driven(client) as screen:
        await screen.press("4")
        await screen.until(lambda: len(view(screen).lines) == 10)
        await screen.press("w")  # three rows each
        await screen.until(lambda: "frozen" in screen.text or view(screen).scroll_y > 0)
        assert view(screen).is_vertical_scroll_end
        await screen.press("w")
        await screen.until(lambda: len(view(screen).lines) == 10)
        client.say("j-7f3a", *FILLER, "the newest")
        await screen.sees("the newest")
        assert "frozen" not in screen.text


async def test_who_sees_the_end_again_follows_again() -> None:
    client = SampleClient()
    client.say("j-7f3a", *(f"{'long ' * 40}{n}" for n in range(10)))
    async with driven(client) as screen:
        await screen.press("4")
        await screen.until(lambda: len(view(screen).lines) == 10)
        await screen.press("w")
        client.say("j-7f3a", "one more")
        await screen.until(lambda: view(screen).scroll_y > 0)
        await screen.press("g")
        await screen.sees("frozen")
        await screen.press("w")  # each a row again
        await screen.until(lambda: "frozen" not in screen.text)


async def test_what_waits_is_shown_once_also_where_more_came_than_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sollol_tui.ui.widgets.log_pane.KEPT_LINES", 40)
    client = SampleClient()
    client.say("j-7f3a", *(f"needle {n}" for n in range(30)))
    async with driven(client) as screen:
        await screen.press("4")
        await screen.until(lambda: len(view(screen).lines) == 30)
        await screen.press("slash", *"needle", "enter", "g")
        await screen.sees("frozen")
        client.say("j-7f3a", *(f"{word} {n}" for n in range(30, 60) for word in ("needle", "hay")))
        await screen.sees("30 new, G follows")
        await screen.press("t")
        await screen.until(lambda: "frozen" not in screen.text)
        shown = [line.split()[-1] for line in view(screen).lines]
        assert shown == [str(number) for number in range(30, 60)]


@pytest.mark.parametrize(
    "up", ["scroll_home", "scroll_up", "page_up", "page(-0.5)", "screen.step(-1)"]
)
async def test_a_line_that_comes_with_the_key_that_leads_up_does_not_lead_back(up: str) -> None:
    client = SampleClient()
    client.say("j-7f3a", "Error: first", *(f"line {n}" for n in range(100)))
    async with driven(client) as screen:
        await screen.press("4")
        await screen.until(lambda: view(screen).scroll_y > 0)
        await screen.app.run_action(up, view(screen))
        pane = screen.app.screen.query_one(LogPane)
        pane.append([("hydra/0", "one more", None)])  # before Textual has scrolled
        await screen.sees("frozen: 1 new")
        assert not view(screen).is_vertical_scroll_end


async def test_the_wheel_lets_go_of_the_end_before_the_view_has_moved() -> None:
    client = SampleClient()
    client.say("j-7f3a", *FILLER)
    async with driven(client) as screen:
        await screen.press("4")
        await screen.until(lambda: len(view(screen).lines) == 60)
        log = view(screen)
        wheel = MouseScrollUp(
            log, x=1, y=1, delta_x=0, delta_y=-1, button=0, shift=False, meta=False, ctrl=False
        )
        log.post_message(wheel)
        log.call_later(log.add, ["a line that comes behind it"])  # before the first frame
        await screen.until(lambda: len(log.lines) == 61)
        await screen.sees("frozen: G follows")
        assert log.scroll_y < log.max_scroll_y
