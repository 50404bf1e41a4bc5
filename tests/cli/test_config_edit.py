"""`sollol config edit`: what an editor leaves is checked, shown and written, or kept aside."""

import shlex
import sys
from pathlib import Path

import pytest

from sollol_tui.preferences import PreferencesFile, preferences_file
from tests.cli.shell import sollol

INVENTORY = "# my lab\nhosts: [hydra]\n"


@pytest.fixture
def screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("VISUAL", raising=False)
    return preferences_file()


def types(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """$EDITOR is a program that runs this, the draft's path in `draft`."""
    whole = f"import sys, pathlib\ndraft = pathlib.Path(sys.argv[1])\n{code}"
    monkeypatch.setenv("EDITOR", shlex.join([sys.executable, "-c", whole]))


def writes(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    types(monkeypatch, f"draft.write_text({text!r})")


def test_a_good_edit_is_shown_and_written(screen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    types(monkeypatch, "draft.write_text(draft.read_text() + 'theme: nord\\n')")
    code, out, err = sollol("config", "edit")
    assert (code, out.endswith("+theme: nord\n")) == (0, True)
    assert err == f"{screen} is written\n"
    assert PreferencesFile().read().theme == "nord"
    assert screen.read_text().startswith("# ")
    shown = sollol("config", "show")[1].splitlines()[-1]
    assert shown.split() == ["screen.theme", "nord", f"({screen})"]
    assert f"screen       {screen}" in sollol("config", "path")[1]


def test_a_bad_edit_is_told_with_its_place_and_kept(
    screen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes(monkeypatch, "theme: nord\nthmee: x\n")
    code, out, err = sollol("config", "edit", "screen")
    assert (code, out) == (2, "")
    assert f"{screen}:2:1  unknown key 'thmee' - did you mean 'theme'?" in err
    kept = screen.with_name("screen.yaml.edited")
    assert f"your edit is kept in {kept}; to go on with it: sollol config edit screen" in err
    assert not screen.exists()
    types(monkeypatch, "draft.write_text(draft.read_text().replace('thmee: x\\n', ''))")
    assert sollol("config", "edit")[0] == 0
    assert screen.read_text() == "theme: nord\n"
    assert not kept.exists()


def test_the_inventory_is_edited_too_and_asked_about_at_a_terminal(
    screen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path("inventory.yaml")
    writes(monkeypatch, INVENTORY.replace("[hydra]", "[hydra, attic]"))
    code, out, err = sollol("config", "edit", "inventory", typed="n\n")
    assert (code, file.read_text()) == (0, INVENTORY)
    assert "+hosts: [hydra, attic]" in out
    assert "nothing is written; your edit is kept in" in err
    assert sollol("config", "edit", "inventory", typed="y\ny\n")[0] == 0
    assert file.read_text() == "# my lab\nhosts: [hydra, attic]\n"


def test_an_inventory_that_would_not_be_read_is_not_written(
    screen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path("inventory.yaml").absolute()
    writes(monkeypatch, "hosts:\n  hydra: {adress: 192.0.2.1}\n")
    code, out, err = sollol("config", "edit", "inventory")
    assert (code, out, file.read_text()) == (2, "", INVENTORY)
    assert f"{file}:2:11  unknown key 'adress' - did you mean 'address'?" in err
    assert "your edit is kept in" in err


def test_what_changed_meanwhile_is_not_overwritten(
    screen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path("inventory.yaml").absolute()
    types(
        monkeypatch,
        f"draft.write_text('hosts: [mine]\\n')\n"
        f"pathlib.Path({str(file)!r}).write_text('hosts: [theirs]\\n')",
    )
    code, _, err = sollol("config", "edit", "inventory")
    assert (code, file.read_text()) == (1, "hosts: [theirs]\n")
    assert "has changed meanwhile" in err
    assert file.with_name("inventory.yaml.edited").read_text() == "hosts: [mine]\n"


@pytest.mark.parametrize(
    ("editor", "code", "said"),
    [
        ("false", 1, "sollol: false ended with 1, nothing was taken"),
        ("no-such-editor -w", 1, "no-such-editor cannot be used: No such file or directory"),
        ("'open", 1, 'EDITOR is "\'open": No closing quotation; set it anew'),
        ("", 1, "nobody can edit here; set EDITOR, or run it in a terminal"),
        ("true", 0, "nothing to change in "),
    ],
)
def test_an_editor_that_does_nothing_changes_nothing(
    screen: Path, monkeypatch: pytest.MonkeyPatch, editor: str, code: int, said: str
) -> None:
    monkeypatch.setenv("EDITOR", editor)
    found, _, err = sollol("config", "edit")
    assert (found, said in err) == (code, True), err
    assert not screen.exists()
    assert not screen.parent.exists()


def test_readonly_opens_no_editor(screen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes(monkeypatch, "theme: nord\n")
    code, _, err = sollol("--readonly", "config", "edit")
    assert (code, "--readonly is on" in err) == (1, True)
    assert not screen.exists()
