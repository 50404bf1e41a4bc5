"""What a person chose for the screens is kept in their file, beside what they wrote there."""

from pathlib import Path

import pytest

from sollol_tui.model.errors import InputError
from sollol_tui.preferences import Preferences, PreferencesFile, preferences_file


def test_without_a_file_nothing_is_chosen(isolated_home: Path) -> None:
    assert PreferencesFile().read() == Preferences()
    assert preferences_file().is_relative_to(isolated_home)


def test_what_is_kept_is_read_again_and_comments_stay(tmp_path: Path) -> None:
    file = PreferencesFile(tmp_path / "new" / "screen.yaml")
    file.keep_theme("nord")
    file.keep_hidden("jobs", ["eta", "loss"])
    assert file.read() == Preferences(theme="nord", hide={"jobs": ["eta", "loss"]})
    file.path.write_text("# mine\ntheme: nord # dark\nkeys:\n  job.pause: f5 # as elsewhere\n")
    file.path.chmod(0o600)
    file.keep_hidden("hosts", ["temp"])
    file.keep_theme("textual-light")
    text = file.path.read_text()
    for words in ("# mine\n", "textual-light # dark\n", "job.pause: f5 # as elsewhere\n"):
        assert words in text
    assert file.path.stat().st_mode & 0o777 == 0o600
    file.keep_hidden("hosts", [])
    assert "hide" not in file.path.read_text()
    assert file.read().keys == {"job.pause": "f5"}


@pytest.mark.parametrize("text", ["# nothing yet\n", "", "{}\n"])
def test_a_file_that_says_nothing_can_be_added_to(tmp_path: Path, text: str) -> None:
    file = PreferencesFile(tmp_path / "screen.yaml")
    file.path.write_text(text)
    file.keep_theme("nord")
    assert file.read().theme == "nord"
    assert file.path.read_text().startswith(text.removesuffix("{}\n"))


def test_a_file_that_cannot_be_read_is_told_and_left_alone(tmp_path: Path) -> None:
    file = PreferencesFile(tmp_path / "screen.yaml")
    file.path.write_text("thme: nord\n")
    with pytest.raises(InputError, match=r"screen.yaml:1:1  unknown key 'thme' - did you mean"):
        file.keep_theme("nord")
    assert file.path.read_text() == "thme: nord\n"
