"""Rules of layout and colour are read once, and anew for another theme."""

from typing import Any

import pytest
from textual.color import Color
from textual.css import stylesheet

from tests.ui.pilot import driven
from tests.ui.sample import SampleClient


async def test_rules_are_read_once_and_anew_for_another_theme(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[tuple[str, str, int]] = []
    parse = stylesheet.parse

    def noted(scope: str, css: str, *rest: Any, tie_breaker: int, **more: Any) -> Any:
        read.append((scope, css, tie_breaker))
        return parse(scope, css, *rest, tie_breaker=tie_breaker, **more)

    monkeypatch.setattr(stylesheet, "parse", noted)
    async with driven(SampleClient()) as screen:
        known = len(read)
        await screen.press("3", "5", "1")
        await screen.sees("coordinator free")
        fresh = read[known:]
        assert fresh
        assert len(fresh) == len(set(fresh))
        assert not set(fresh) & set(read[:known])
        screen.app.theme = "textual-light"
        light = Color.parse(screen.app.theme_variables["background"])
        await screen.until(lambda: screen.log.styles.background == light)
