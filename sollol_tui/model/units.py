"""Numbers as people write and read them: durations, sizes, counts."""

import re
from datetime import datetime, time, timedelta
from typing import Final

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*")
_CLOCK: Final = re.compile(r"\d\d:\d\d(:\d\d)?")
GIB: Final = 1024**3


def parse_duration_s(value: str | float) -> float:
    """Seconds of "10s", "1.5m", "2h", "500ms", or of a bare number of seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = DURATION.fullmatch(str(value))
    if match is None:
        raise ValueError(f"{value!r} is not a duration; write it like 10s, 5m or 2h")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def parse_moment(text: str, now: datetime) -> datetime:
    """The moment of "10m" (so long before now), "14:30" (the last time it was that), "2026-11-22"
    or "2026-11-22 14:30", in the zone of `now`."""
    if DURATION.fullmatch(text) is not None:
        return now - timedelta(seconds=parse_duration_s(text))
    try:
        if _CLOCK.fullmatch(text) is not None:
            moment = datetime.combine(now.date(), time.fromisoformat(text), now.tzinfo)
            return moment if moment <= now else moment - timedelta(days=1)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no time; write it like 10m, 14:30 or 2026-11-22 14:30"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=now.tzinfo)


def format_duration(seconds: float | None) -> str:
    """Two units at most: "45s", "4m 10s", "6h 21m", "2d 3h"; "-" when unknown."""
    if seconds is None or seconds != seconds or seconds in (float("inf"), float("-inf")):
        return "-"
    total = max(0, round(seconds))
    days, rest = divmod(total, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes:02d}m"
    if minutes:
        return f"{minutes}m {secs:02d}s"
    return f"{secs}s"


def format_bytes(count: float | None) -> str:
    """Binary units with one decimal: "512 B", "21.4 GiB"."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def format_usage(used: float | None, total: float | None) -> str:
    """ "28/64 GiB": both in GiB, the used one with a decimal while small."""
    if used is None or not total:
        return "-"
    gib_used, gib_total = used / GIB, total / GIB
    used_text = f"{gib_used:.0f}" if gib_used >= 100 else f"{gib_used:.1f}"
    total_text = f"{gib_total:.0f}" if gib_total >= 9.5 else f"{gib_total:.1f}"
    return f"{used_text}/{total_text} GiB"


def format_count(count: float | None) -> str:
    """Samples in a narrow column: "950", "280K", "1.2M"."""
    if count is None:
        return "-"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if count >= 10 * size or (unit != "K" and count >= size):
            scaled = count / size
            return f"{scaled:.1f}{unit}" if scaled < 10 else f"{scaled:.0f}{unit}"
    return f"{count:.0f}"


def format_rate(samples_per_s: float | None) -> str:
    return "-" if samples_per_s is None else f"{samples_per_s:.1f} smp/s"
