"""The form of a new job, driven: opened, typed into, planned."""

import json
from pathlib import Path

from textual.widgets import Input

from sollol_tui.ui.screens.launch import Launch
from sollol_tui.ui.widgets.form_field import FormField
from tests.ui.drafts import INVENTORY, DraftClient
from tests.ui.pilot import Driven

PLAN = "./model on rows.jsonl, r=32, all"


def client_beside_files() -> DraftClient:
    """In a folder with an inventory, some rows and a model."""
    Path("inventory.yaml").write_text(INVENTORY)
    rows = [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(9)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("model").mkdir()
    Path("model/config.json").write_text("{}")
    return DraftClient()


def form(screen: Driven) -> Launch:
    assert isinstance(screen.app.screen, Launch), screen.app.screen
    return screen.app.screen


def field(screen: Driven, key: str) -> FormField:
    return next(each for each in form(screen).query(FormField) if each.field.key == key)


def put(screen: Driven, **typed: str) -> None:
    """Types into fields, whatever the focus."""
    for key, text in typed.items():
        field(screen, key.replace("__", ".")).query_one(Input).value = text


async def opened(screen: Driven) -> None:
    await screen.press("a")
    await screen.until(lambda: isinstance(screen.app.screen, Launch))
    await screen.sees("the plan appears here: give model and dataset")


async def planned(screen: Driven) -> None:
    await opened(screen)
    put(screen, model="./model", dataset="rows.jsonl")
    await screen.sees(PLAN)
