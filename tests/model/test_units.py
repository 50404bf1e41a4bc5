"""Numbers as people write and read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollol_tui.model.units import (
    format_bytes,
    format_count,
    format_duration,
    format_rate,
    format_usage,
    parse_duration_s,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("1.5m", 90), ("2h", 7200), ("500ms", 0.5), ("7", 7), (3, 3.0), (" 1 d ", 86400)],
)
def test_a_duration_is_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1w", "1h30m", True, "1e3"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 10s, 5m or 2h"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (float("nan"), "-"), (float("inf"), "-"), (-5, "0s"), (45, "45s"),
     (59.6, "1m 00s"), (250, "4m 10s"), (22860, "6h 21m"), (183600, "2d 3h")],
)  # fmt: skip
def test_a_duration_is_shown_in_two_units(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "-"), (512, "512 B"), (1536, "1.5 KiB"), (21.4 * 1024**3, "21.4 GiB"),
     (5000 * 1024**4, "5000.0 TiB")],
)  # fmt: skip
def test_bytes_are_shown_in_binary_units(count: float | None, text: str) -> None:
    assert format_bytes(count) == text


def test_counts_rates_and_usage_fit_their_columns() -> None:
    assert [format_count(n) for n in (None, 950, 280_000, 1_200_000)] == [
        "-",
        "950",
        "280K",
        "1.2M",
    ]
    assert [format_rate(r) for r in (None, 14.93)] == ["-", "14.9 smp/s"]
    assert format_usage(28.4 * 1024**3, 64 * 1024**3) == "28.4/64 GiB"
    assert format_usage(None, 64) == format_usage(1, None) == "-"


@given(st.floats(0, 1e10))
def test_every_number_can_be_shown(value: float) -> None:
    for shown in (format_duration(value), format_bytes(value), format_count(value)):
        assert 0 < len(shown) <= 12
