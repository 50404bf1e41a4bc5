"""The inventory's editor: what is wrong is said as one types, and nothing is written unseen."""

import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from textual.widgets import OptionList

from sollol_tui.inventories import starter_inventory
from sollol_tui.model.inventory_file import parse_inventory
from sollol_tui.ui.screens.diff import ConfirmDiff
from sollol_tui.ui.screens.editor import InventoryEditor
from sollol_tui.ui.screens.import_hosts import ImportHosts
from sollol_tui.ui.screens.view import View
from sollol_tui.ui.widgets.yaml_area import YamlArea
from tests.ui.drafts import INVENTORY, DraftClient
from tests.ui.pilot import Driven, driven
from tests.ui.test_hostile_text import UNSAFE

FILE = Path("inventory.yaml")


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DraftClient:
    monkeypatch.chdir(tmp_path)
    FILE.write_text(INVENTORY)
    FILE.chmod(0o600)
    return DraftClient()


def area(screen: Driven) -> YamlArea:
    assert isinstance(screen.app.screen, InventoryEditor), screen.app.screen
    return screen.app.screen.query_one(YamlArea)


async def opened(screen: Driven) -> None:
    await screen.press("e")
    await screen.sees("a good inventory of 2 hosts, nothing changed")


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_a_wrong_line_is_marked_and_told_and_not_saved(
    client: DraftClient, size: tuple[int, int]
) -> None:
    async with driven(client, size=size) as screen:
        await opened(screen)
        await screen.press("ctrl+end", *"    adress: 192.0.2.1")
        await screen.sees("line 6:5  unknown key 'adress' - did you mean 'address'?")
        assert area(screen).wrong == {6}
        await screen.until(
            lambda: any(
                "adress" in segment.text and segment.style is not None and segment.style.underline
                for strip in screen.app.screen._compositor.render_strips()
                for segment in strip
            )
        )
        await screen.press("ctrl+home", "f8")
        assert area(screen).cursor_location == (5, 4)
        await screen.press("ctrl+home", "ctrl+s")
        await screen.until(lambda: area(screen).cursor_location == (5, 4))
        assert FILE.read_text() == INVENTORY
        await screen.press("f7", "delete", *"hosts: [hydra]")
        await screen.sees("a good inventory of 1 host")
        assert area(screen).wrong == set()


async def test_words_are_coloured_by_what_they_are_in_every_theme(client: DraftClient) -> None:
    def colours() -> dict[str, object]:
        return {
            segment.text.strip(): segment.style and segment.style.color
            for strip in screen.app.screen._compositor.render_strips()
            for segment in strip
        }

    async with driven(client, size=(120, 40)) as screen:
        await opened(screen)
        seen = {}
        for theme in ("sollol", "textual-light", "ansi-dark"):
            if theme in screen.app.available_themes:
                screen.app.theme = theme
                await screen.pilot.pause()
                found = colours()
                assert found["port"] != found["2222"], theme
                seen[theme] = found["port"]
        assert len(set(seen.values())) == len(seen)


async def test_the_file_is_written_after_its_diff_and_comments_and_mode_stay(
    client: DraftClient,
) -> None:
    async with driven(client, size=(120, 40)) as screen:
        await opened(screen)
        await screen.press("ctrl+end", *"  desk: {nice: 5}")
        await screen.sees("a good inventory of 3 hosts")
        await screen.press("ctrl+s")
        await screen.until(lambda: isinstance(screen.app.screen, ConfirmDiff))
        await screen.sees("+  desk: {nice: 5}")
        await screen.press("j", "k", "escape")
        assert FILE.read_text() == INVENTORY
        await screen.press("ctrl+s", "y")
        await screen.hears("inventory.yaml is written")
        assert isinstance(screen.app.screen, View)
    assert FILE.read_text() == f"{INVENTORY}  desk: {{nice: 5}}"
    assert FILE.stat().st_mode & 0o777 == 0o600
    assert len(parse_inventory(FILE.read_bytes(), "i").hosts) == 3


async def test_nothing_changed_is_nothing_to_write(client: DraftClient) -> None:
    async with driven(client) as screen:
        await opened(screen)
        await screen.press("ctrl+s")
        await screen.hears("nothing changed, nothing to write")
        await screen.press("escape")
        await screen.until(lambda: isinstance(screen.app.screen, View))


async def test_a_file_that_changed_meanwhile_is_not_overwritten(client: DraftClient) -> None:
    async with driven(client, size=(120, 40)) as screen:
        await opened(screen)
        await screen.press("ctrl+home", *"# new", "enter")
        FILE.write_text(INVENTORY + "# theirs\n")
        await screen.press("ctrl+s")
        await screen.until(lambda: isinstance(screen.app.screen, ConfirmDiff))
        await screen.press("y")
        await screen.hears("has changed meanwhile, nothing was written")
        assert FILE.read_text() == INVENTORY + "# theirs\n"
        await screen.press("ctrl+s")
        await screen.sees("-# theirs")
        await screen.press("y")
        await screen.until(lambda: FILE.read_text() == f"# new\n{INVENTORY}")


async def test_leaving_what_was_changed_takes_a_second_esc(client: DraftClient) -> None:
    async with driven(client) as screen:
        await opened(screen)
        await screen.press("x", "escape")
        await screen.hears("esc once more")
        assert area(screen)
        await screen.press("ctrl+z", "escape")
        await screen.until(lambda: isinstance(screen.app.screen, View))
        assert FILE.read_text() == INVENTORY


async def test_the_persons_own_editor_changes_the_text_and_writes_no_file(
    client: DraftClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = "import sys; open(sys.argv[1], 'a').write('  desk:\\n')"
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f'{sys.executable} -c "{add}"')
    async with driven(client, size=(120, 40)) as screen:
        await opened(screen)
        await screen.press("f4")
        await screen.hears("can be given to no other program")  # a test has no terminal to give
        monkeypatch.setattr(screen.app, "suspend", nullcontext)
        await screen.press("f4")
        await screen.sees("a good inventory of 3 hosts")
        assert area(screen).text == f"{INVENTORY}  desk:\n"
        monkeypatch.setenv("EDITOR", "false")
        await screen.press("f4")
        await screen.hears("ended with 1, nothing was taken")
        assert FILE.read_text() == INVENTORY


async def test_control_codes_in_the_file_do_not_reach_the_terminal(client: DraftClient) -> None:
    FILE.write_text("# \x1b]0;title\x07 \x9b31m \u202e [/b]\nhosts: [hydra]\n")
    async with driven(client, size=(120, 40)) as screen:
        await screen.press("e")
        await screen.sees("[/b]")
        await screen.sees("is not allowed")
        assert UNSAFE.search(screen.text.replace("\n", "")) is None


async def test_without_an_inventory_the_first_one_is_offered(client: DraftClient) -> None:
    FILE.unlink()
    async with driven(client) as screen:
        await screen.press("e")
        await screen.sees("+# The machines that sollol may use")
        await screen.sees("28 lines more, 0 less")
        await screen.press("n")
        await screen.until(lambda: isinstance(screen.app.screen, View))
        assert not FILE.exists()
        await screen.press("e")
        await screen.sees("+version: 1")
        await screen.press("y")
        await screen.until(lambda: isinstance(screen.app.screen, InventoryEditor))
    assert FILE.read_text() == starter_inventory()


def config(text: str) -> None:
    folder = Path.home() / ".ssh"
    folder.mkdir(exist_ok=True)
    (folder / "config").write_text(text)


async def test_hosts_of_ssh_config_are_ticked_and_added_after_the_diff(
    client: DraftClient,
) -> None:
    config("Host attic\nHost pi01 desk\n  User pi\n  HostName 192.0.2.31\nHost *\n")
    async with driven(client, size=(120, 40)) as screen:
        await screen.press("i")
        await screen.until(lambda: isinstance(screen.app.screen, ImportHosts))
        await screen.sees("[ ] pi01  pi@192.0.2.31")
        assert screen.app.screen.query_one(OptionList).option_count == 2
        await screen.press("j", "space", "enter")
        await screen.sees("+  desk: {}")
        await screen.press("y")
        await screen.hears("next: sollol hosts trust desk")
    assert FILE.read_text() == INVENTORY + "  desk: {}\n"


async def test_importing_nothing_writes_nothing(client: DraftClient) -> None:
    async with driven(client, size=(120, 40)) as screen:
        await screen.press("i")
        await screen.hears("there is no ")
        config("Host hydra attic\n")
        await screen.press("i")
        await screen.hears("every host of ~/.ssh/config is there already")
        config("Host desk\n")
        for keys in (("enter",), ("escape",), ("space", "enter", "n")):
            await screen.press("i")
            await screen.until(lambda: isinstance(screen.app.screen, ImportHosts))
            await screen.press(*keys)
            await screen.until(lambda: isinstance(screen.app.screen, View))
    assert FILE.read_text() == INVENTORY
