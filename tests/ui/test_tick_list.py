"""The tick list, by keyboard."""

import pytest

from sollol_tui.ui.tick_list import TickList

LINES = ["hydra  ml@192.0.2.9", "[b]attic[/b]  \x1b[31mme@192.0.2.10", "desk  me@192.0.2.11"]


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        (["enter"], []),
        (["space", "j", "j", "space", "enter"], [0, 2]),
        (["j", "space", "k", "space", "space", "enter"], [1]),
        (["a", "enter"], [0, 1, 2]),
        (["space", "a", "a", "enter"], []),
        (["space", "escape"], None),
        (["space", "q"], None),
    ],
)
async def test_what_is_ticked_is_the_answer(keys: list[str], chosen: list[int] | None) -> None:
    app = TickList("which?", LINES)
    async with app.run_test() as pilot:
        await pilot.press(*keys)
    assert app.return_value == chosen


async def test_lines_are_shown_as_they_are() -> None:
    app = TickList("which? [b]", LINES)
    async with app.run_test() as pilot:
        await pilot.pause()
        shown = "\n".join(
            "".join(segment.text for segment in strip)
            for strip in app.screen._compositor.render_strips()
        )
    assert "which? [b]" in shown
    assert "[b]attic[/b]  me@192.0.2.10" in shown
    assert "\x1b" not in shown
