"""The inventory file on disk: found, read again when it changes, written whole or not at all."""

import os
from pathlib import Path

import pytest

from sollol_tui.client import SOLLOLClient
from sollol_tui.inventories import InventoryFile, find_inventory, read_text, write_text
from sollol_tui.model.errors import InputError, NotFoundError, SollolError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "inventory.yaml"
    path.write_text("hosts: [a]\n")
    return path


def names(inventory: InventoryFile) -> list[str]:
    return [host.name for host in inventory.read().hosts]


def test_it_is_looked_for_here_then_upwards_then_in_the_config_folder(
    tmp_path: Path, isolated_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "lab" / "deep"
    below.mkdir(parents=True)
    (tmp_path / "lab" / ".git").mkdir()
    (tmp_path / "inventory.yaml").write_text("hosts: [beyond-the-git-root]\n")
    monkeypatch.chdir(below)
    with pytest.raises(NotFoundError, match="sollol init writes one"):
        find_inventory()
    config = isolated_home / ".config" / "sollol" / "inventory.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("hosts: [a]\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(isolated_home / ".config"))
    assert find_inventory() == config
    above = tmp_path / "lab" / "inventory.yaml"
    above.write_text("hosts: [a]\n")
    assert find_inventory() == above
    monkeypatch.setenv("SOLLOL_INVENTORY", str(config))
    assert find_inventory() == config
    assert find_inventory(above) == above


def test_it_is_read_again_only_when_it_has_changed(file: Path) -> None:
    inventory = InventoryFile()
    first = inventory.read()
    assert inventory.read() is first
    file.write_text("hosts: [a, b]\n")
    assert names(inventory) == ["a", "b"]


def test_a_bad_edit_keeps_the_last_good_inventory_and_tells_the_line(file: Path) -> None:
    client = SOLLOLClient()
    try:
        assert client.inventory_problem == ""
        good = client.inventory()
        file.write_text("hosts:\n  a: {prot: 22}\n  b: {nice: x}\n")
        assert client.inventory() is good
        assert client.inventory_problem.startswith(f"{file.name}:2:7  unknown key 'prot'")
        assert client.inventory_problem.endswith("and 1 more (using the last good one)")
        assert [host.name for host in client.snapshot().hosts] == ["a"]
        file.write_text("hosts:\n  a: {port: 22}\n")
        assert client.inventory().host("a").port == 22
        assert client.inventory_problem == ""
    finally:
        client.close()


def test_a_vanished_file_keeps_the_last_good_inventory_and_no_other_takes_its_place(
    file: Path,
) -> None:
    inventory = InventoryFile()
    inventory.read()
    file.unlink()
    assert names(inventory) == ["a"]
    assert "cannot be read: No such file" in inventory.problem
    file.write_text("hosts: [a, c]\n")
    assert names(inventory) == ["a", "c"]
    assert inventory.problem == ""


def test_a_bad_file_at_the_start_is_an_error(file: Path) -> None:
    file.write_text("host: [a]\n")
    inventory = InventoryFile()
    for _ in range(2):
        with pytest.raises(InputError, match="did you mean 'hosts'"):
            inventory.read()
    file.write_text("hosts: [a]\n")
    assert names(inventory) == ["a"]


def test_writing_keeps_mode_and_link_and_leaves_nothing_else(file: Path, tmp_path: Path) -> None:
    file.chmod(0o640)
    link = tmp_path / "link" / "inventory.yaml"
    link.parent.mkdir()
    link.symlink_to(file)
    write_text(link, "hosts: [b]\r\n", instead_of="hosts: [a]\n")
    assert link.is_symlink()
    assert file.read_bytes() == b"hosts: [b]\r\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inventory.yaml", "link"]


def test_a_file_that_changed_meanwhile_is_not_overwritten(file: Path) -> None:
    old = read_text(file)
    file.write_text("hosts: [somebody-else]\n")
    with pytest.raises(SollolError, match="has changed meanwhile, nothing was written; try again"):
        write_text(file, "hosts: [b]\n", instead_of=old)
    assert file.read_text() == "hosts: [somebody-else]\n"


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SollolError, match="cannot be written: No space left on device"):
        write_text(file, "hosts: [b]\n", instead_of="hosts: [a]\n")
    assert [path.name for path in file.parent.iterdir()] == ["inventory.yaml"]
    assert file.read_text() == "hosts: [a]\n"
