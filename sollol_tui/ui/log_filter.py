"""Which log lines a person wants to see: `text`, `!text` or `re:pattern`. Pure."""

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """`text` is what was typed; `admits` says whether a line stays, `pattern` where in it that is
    what was typed, None when it is what a line must not have."""

    text: str
    admits: Callable[[str], bool]
    pattern: re.Pattern[str] | None = None


EVERYTHING = LogFilter(text="", admits=lambda line: True)


def parse_filter(text: str) -> LogFilter:
    """A filter from what was typed; capitals matter only where some were typed.

    Raises ValueError with a sentence when the pattern after `re:` is none.
    """
    if not text or text in ("!", "re:"):
        return EVERYTHING
    if text.startswith("re:"):
        try:
            pattern = re.compile(text[3:], re.NOFLAG if _has_capitals(text[3:]) else re.IGNORECASE)
        except re.error as error:
            raise ValueError(f"{text[3:]!r} is not a pattern: {error}") from None
        return LogFilter(
            text=text, admits=lambda line: pattern.search(line) is not None, pattern=pattern
        )
    negated = text.startswith("!")
    wanted = text[1:] if negated else text
    exact = _has_capitals(wanted)
    found = None if negated else re.compile(re.escape(wanted), 0 if exact else re.IGNORECASE)
    if exact:
        return LogFilter(
            text=text, admits=lambda line: (wanted in line) is not negated, pattern=found
        )
    return LogFilter(
        text=text, admits=lambda line: (wanted in line.lower()) is not negated, pattern=found
    )


def _has_capitals(text: str) -> bool:
    return text != text.lower()
