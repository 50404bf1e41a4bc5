"""Which hosts ~/.ssh/config names."""

from pathlib import Path

import pytest

from sollol_tui.aliases import read_aliases, ssh_config
from sollol_tui.model.errors import InputError, NotFoundError


@pytest.fixture
def config(isolated_home: Path) -> Path:
    (isolated_home / ".ssh").mkdir()
    return ssh_config()


def test_names_are_listed_once_and_patterns_left_out(config: Path) -> None:
    config.write_text(
        "# Host commented\n"
        "Host *\n  User ml\n"
        "Host hydra attic* !desktop pi? # trailing words\n"
        '  host = "with-quotes"\n'
        "HOST=equals\n"
        "Host hydra -oProxyCommand=x $(reboot) ..\n"
        "Match host other\n  HostName 192.0.2.1\n"
    )
    assert read_aliases(config) == ["hydra", "with-quotes", "equals"]


def test_included_files_are_read_in_place(config: Path, isolated_home: Path) -> None:
    folder = config.parent / "conf.d"
    folder.mkdir()
    (folder / "b").write_text("Host b\n")
    (folder / "a").write_text("Host a\nInclude ~/more nowhere\n")
    (isolated_home / "more").write_text("Host more\n")
    config.write_text("Host first\nInclude conf.d/*\nHost last\n")
    assert read_aliases(config) == ["first", "a", "more", "b", "last"]


def test_files_that_include_each_other_end(config: Path) -> None:
    config.write_text("Host a\nInclude config\n")
    assert read_aliases(config) == ["a"]


def test_a_missing_or_unreadable_file_is_said(config: Path) -> None:
    with pytest.raises(NotFoundError, match="sollol hosts add NAME"):
        read_aliases(config)
    config.write_bytes(b"Host \xff\n")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_aliases(config)
