"""The palette: jobs, hosts and actions by name, whatever they are called."""

from dataclasses import replace

from textual.command import CommandPalette
from textual.widgets import OptionList

from sollol_tui.ui.screens.hosts import Hosts
from sollol_tui.ui.screens.jobs import Jobs
from sollol_tui.ui.screens.logs import Logs
from tests.ui.pilot import Driven, driven
from tests.ui.sample import HOSTS, NOW, RUNNING, SampleClient, snapshot


async def choose(screen: Driven, query: str, key: str = "ctrl+p") -> None:
    """Types into the palette, and takes the first that it finds."""
    await screen.press(key)
    await screen.until(lambda: isinstance(screen.app.screen, CommandPalette))
    await screen.press(*query)
    options = screen.app.screen.query_one(OptionList)

    def is_first() -> bool:
        return bool(options.option_count) and query in str(options.get_option_at_index(0).prompt)

    await screen.until(is_first)
    await screen.press("enter")
    await screen.until(lambda: not isinstance(screen.app.screen, CommandPalette))


async def test_the_palette_goes_to_a_job_its_log_and_to_a_host() -> None:
    client = SampleClient()
    client.say("j-1c55", "the end of it")
    async with driven(client) as screen:
        await choose(screen, "j-81c0")
        await screen.until(lambda: isinstance(screen.app.screen, Jobs))
        await screen.sees("job j-81c0 magicoder-r16")
        await choose(screen, "code-alpaca-tiny: log", key="colon")
        await screen.until(lambda: isinstance(screen.app.screen, Logs))
        await screen.sees("the end of it")
        await choose(screen, "host attic")
        await screen.until(lambda: isinstance(screen.app.screen, Hosts))
        await screen.sees("host attic")
        await screen.sees("RTX 2080 Ti")


async def test_the_palette_does_what_keys_do_and_nothing_that_is_greyed_out() -> None:
    client = SampleClient()
    async with driven(client) as screen:
        await screen.press("ctrl+p")
        await screen.sees("esc Leave")
        assert "p Pause/resume" not in screen.text  # which would do nothing here
        await screen.press("escape")
        await choose(screen, "Pause")
        await screen.until(lambda: client.paused == ["j-7f3a"])
    async with driven(client, readonly=True) as screen:
        await screen.press("ctrl+p", *"Pause")
        await screen.sees("No matches found")


async def test_hostile_names_are_shown_as_they_are() -> None:
    names = {"id": "j-[/b]", "name": "[@click=app.leave]x[/] \x1b]52;c;eA==\x07"}
    hosts = (replace(HOSTS[0], name="[bold"), *HOSTS[1:])
    client = SampleClient(shown=snapshot(jobs=[replace(RUNNING, **names)], hosts=hosts, at=NOW))
    async with driven(client) as screen:
        await screen.press("ctrl+p")
        await screen.sees("job j-[/b] [@click=app.leave]x[/]")
        await screen.press(*"host [b")
        await screen.sees("host [bold")


async def test_a_terminal_that_is_too_small_says_so_and_shows_all_once_it_is_not() -> None:
    async with driven(SampleClient()) as screen:
        for size in ((49, 24), (80, 11)):
            await screen.pilot.resize_terminal(*size)
            await screen.sees("sollol needs 50 columns and 12 rows")
            assert "tools-621k" not in screen.text
        await screen.pilot.resize_terminal(50, 12)
        await screen.sees("j-7f3a")
        assert "sollol needs" not in screen.text
