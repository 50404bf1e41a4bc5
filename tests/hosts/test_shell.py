"""Quoting: what reaches the other side is what was meant, or nothing does."""

import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sollol_tui.hosts.shell import env_prefix, marked, quote, script

HOSTILE = (
    ";touch P",
    "$(touch P)",
    "`touch P`",
    "-oProxyCommand=touch P",
    "a\nb",
    "it's",
    "\\'",
    "\\\\",
    "'\\''",
    "*",
    "",
    "~",
    "ü ß 漢",
    "x" * 4096,
)
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


def through_sh(command: str) -> bytes:
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True).stdout


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(WORDS, st.sampled_from(HOSTILE)), min_size=1, max_size=4))
@example(list(HOSTILE))
def test_words_arrive_byte_identical_through_two_shells(words: list[str]) -> None:
    command = marked(quote("printf", r"%s\0", *words), "mark")
    assert through_sh(command) == b"mark\n" + b"".join(word.encode() + b"\0" for word in words)


@pytest.mark.parametrize("word", HOSTILE)
def test_a_hostile_value_of_a_variable_arrives_byte_identical(word: str) -> None:
    assert through_sh(f"{env_prefix({'A': word})} sh -c 'printf %s \"$A\"'") == word.encode()
    source = script('printf %s "$value"', value=word)
    done = subprocess.run(["/bin/sh", "-s"], input=source, capture_output=True, check=True)
    assert done.stdout == word.encode()


@pytest.mark.parametrize("word", ["a\0b", "\udcff"])
def test_what_no_command_line_can_carry_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"NUL|UTF-8"):
        quote(word)


@pytest.mark.parametrize("name", ["A B", "A;touch P", "", "1A", "A="])
def test_a_name_that_is_not_a_variables_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        env_prefix({name: "x"})
