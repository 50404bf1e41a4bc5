"""The sanitizer: what a host says reaches the screen as text and does nothing else."""

import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sollol_tui.model.text import MAX_LINE, clean, clean_lines

CLIPBOARD = "\x1b]52;c;ZXZpbA==\x07"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain text", "plain text"),
        ("\x1b[31mred\x1b[0m", "red"),
        (f"a{CLIPBOARD}b", "ab"),
        ("a\x1b]0;title\x1b\\b", "ab"),
        ("a\x1b]8;;http://evil\x07link\x1b]8;;\x07b", "alinkb"),
        ('a\x1bP$q"p\x1b\\b', "ab"),
        ("a\x1b_apc\x1b\\b\x1b^pm\x1b\\c\x1bXsos\x1b\\d", "abcd"),
        ("a\x9b2Jb\x9d0;t\x9cc\x90x\x9cd", "abcd"),
        ("a\x1b[?1049hb\x1bcc\x1b(0d", "abcd"),
        ("a\x1b[6n\x1b[>cb", "ab"),
        ("\x1b\x1b[31m[31mx", "[31mx"),
        ("a\x1b[", "a"),
        ("a\x1b", "a"),
        ("a\x1b]52;c;never ends", "a"),
        ("10%\r50%\r100%", "100%"),
        ("100%\r\n", "100%"),
        ("safe\rrm -rf ~\x08\x08", "rm -rf ~"),
        ("user\u202egpj.exe\u2066x\u2069\u200f", "usergpj.exex"),
        ("a\u2028b\u2029c\ufeffd\u200be", "abcde"),
        ("a\0b\x07c\x7fd\x85e", "abcde"),
        ("tag\U000e0041", "tag"),
        ("a\tb", "a    b"),
        ("[/b] [@click=app.quit]x[/] [red]", "[/b] [@click=app.quit]x[/] [red]"),
        ("日本語 é 🙂", "日本語 é 🙂"),
        ("\ud800x", "x"),
    ],
)
def test_what_is_shown_of_what_a_host_says(raw: str, shown: str) -> None:
    assert clean(raw) == shown


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (f"token=hf_{'a1' * 17}, ok", "token=hf_***, ok"),
        (f"hf_\u200b{'a' * 12}\x1b[1m{'b' * 22}", "hf_***"),
        (f"'sk-proj-{'x_-9' * 9}'", "'sk-***'"),
        (f"disk-{'a' * 40} hf_short sk-short", f"disk-{'a' * 40} hf_short sk-short"),
        ("k=-----BEGIN RSA PRIVATE KEY-----\\nMIIE\\n-----END RSA PRIVATE KEY----- x", "k=*** x"),
    ],
)
def test_tokens_and_keys_are_not_shown(raw: str, shown: str) -> None:
    assert clean(raw) == shown


def test_of_a_private_key_no_line_is_shown_and_what_follows_is() -> None:
    kind = "OPENSSH PRIVATE KEY-----"
    block = f"a\n-----BEGIN {kind}\nb3Blbn+/\nAAAA==\n-----END {kind}\nb"
    assert clean_lines(block)[:1] + clean_lines(block)[-1:] == ["a", "b"]
    assert "b3Bl" not in "".join(clean_lines(block))
    assert "AAAA" not in "".join(clean_lines(block))
    assert clean_lines("-----BEGIN PRIVATE KEY-----\nValueError: cut\nx") == [
        *("***", "ValueError: cut", "x"),
    ]


def test_bytes_that_are_no_text_are_marked() -> None:
    assert clean(b"a\xff\xc3(b") == "a\ufffd\ufffd(b"


def test_a_line_is_cut_and_says_so() -> None:
    assert clean("x" * 10_000) == "x" * (MAX_LINE - 1) + "…"
    assert len(clean("x" * 50, limit=20)) == 20


@pytest.mark.parametrize(
    "raw",
    ["\x1b]52;c;" + "A" * 10_000_000, "\x1b[" + "0;" * 5_000_000, "\x1b" * 10_000_000,
     "\r" * 10_000_000, "\x1b]" * 5_000_000, "x" * 10_000_000],
    ids=["osc", "csi", "esc", "cr", "oscs", "text"],
)  # fmt: skip
def test_ten_megabytes_in_one_line_are_no_burden(raw: str) -> None:
    began = time.thread_time()  # a busy machine is no reason
    assert len(clean(raw)) <= MAX_LINE
    assert time.thread_time() - began < 0.5


def unsafe(text: str) -> list[str]:
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")
            or unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI",
                                                "FSI", "PDI")]  # fmt: skip


HOSTILE = st.text(
    st.sampled_from([*"\x1b\x9b\x9d\x90\x9c\x07\r\n\t\0[]();?m0123PX^_\\ab", "\u202e", "\u2066"])
    | st.characters(),
    max_size=60,
)


@settings(max_examples=500, deadline=None)
@given(HOSTILE, st.integers(1, 40))
@example("\x1b\x1b]", 1)
def test_nothing_unsafe_is_ever_left(raw: str, limit: int) -> None:
    shown = clean(raw, limit=limit)
    assert unsafe(shown) == []
    assert len(shown) <= limit
    assert clean(shown, limit=limit) == shown
    for text in clean_lines(raw, limit=limit):
        assert unsafe(text) == []


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_no_bytes_leave_anything_unsafe(raw: bytes) -> None:
    assert unsafe(clean(raw)) == []


def test_a_block_keeps_its_lines_and_each_its_last_state() -> None:
    assert clean_lines(b"one\n1%\r99%\n\nlast") == ["one", "99%", "", "last"]
    assert clean_lines("one\n") == ["one"]
    assert clean_lines("") == []
