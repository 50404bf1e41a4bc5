"""A conversation under plain headings, for tokenizers without a chat template and for whoever looks
at a dataset before a model is chosen. Standard library only.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from remote.data.turns import Turn

HEADINGS = {
    "system": "### System:\n",
    "user": "### Instruction:\n",
    "assistant": "### Response:\n",
    "tool": "### Tool:\n",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A row as the model sees it, with the character spans that are learnt, and whether the row has
    thinking or tools that this text does not show."""

    text: str
    spans: list[tuple[int, int]]
    hides_thinking: bool = False
    hides_tools: bool = False


def render_plain(
    turns: Sequence[Turn], tools: Sequence[Any] = (), *, begin: str = "", end: str = ""
) -> Rendered:
    """`begin` opens the text, `end` closes every answer and is learnt with it."""
    text, spans = begin, []
    if tools:
        text += f"### Tools:\n{_written(tools)}\n\n"
    for place, turn in enumerate(turns):
        text += ("\n\n" if place else "") + HEADINGS[turn.role]
        start = len(text)
        said = turn.content.strip()
        if calls := turn.extras.get("tool_calls"):
            said += ("\n" if said else "") + _written([call["function"] for call in calls])
        text += said + (end if turn.role == "assistant" else "")
        if turn.trained:
            spans.append((start, len(text)))
    hides_thinking = any(turn.thinking for turn in turns)
    return Rendered(text=text, spans=spans, hides_thinking=hides_thinking)


def opening_plain(turns: Sequence[Turn], *, begin: str = "", end: str = "") -> str:
    """What stands before an answer that follows `turns`."""
    return render_plain(turns, begin=begin, end=end).text + "\n\n" + HEADINGS["assistant"]


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
