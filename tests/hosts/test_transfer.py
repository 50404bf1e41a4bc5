"""Files and folders arrive whole, verified, once; a hostile manifest writes nothing."""

import hashlib
import json
from pathlib import Path

import pytest

from sollol_tui.hosts.fetch import fetch_tree, read_manifest
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.hosts.transfer import file_sha256, send_file, send_tree, tree_hash
from sollol_tui.model.errors import InputError, TransferError


async def test_a_file_is_sent_once_and_goes_on_where_it_stopped(
    local: HostConnection, tmp_path: Path
) -> None:
    source, target = tmp_path / "rows.jsonl", tmp_path / "far" / "it's here" / "rows.jsonl"
    source.write_bytes(bytes(range(256)) * 20_000)
    seen: list[int] = []
    target.parent.mkdir(parents=True)
    target.with_name("rows.jsonl.part").write_bytes(source.read_bytes()[:3_000_000])

    def report(sent: int, total: int) -> None:
        seen.append(sent)

    assert await send_file(local, source, str(target), file_sha256(source), report=report)
    assert (seen[0], seen[-1]) == (3_000_000, source.stat().st_size)
    assert target.read_bytes() == source.read_bytes()
    assert not await send_file(local, source, str(target), file_sha256(source))


async def test_a_damaged_start_is_thrown_away(local: HostConnection, tmp_path: Path) -> None:
    source, target = tmp_path / "rows", tmp_path / "far" / "rows"
    source.write_bytes(b"good" * 1000)
    target.parent.mkdir()
    target.with_name("rows.part").write_bytes(b"bad!" * 10)
    assert await send_file(local, source, str(target), file_sha256(source))
    assert target.read_bytes() == source.read_bytes()


async def test_a_file_that_is_not_what_was_announced_never_gets_its_name(
    local: HostConnection, tmp_path: Path
) -> None:
    source, target = tmp_path / "rows", tmp_path / "far" / "rows"
    source.write_bytes(b"changed meanwhile")
    with pytest.raises(TransferError, match="damaged"):
        await send_file(local, source, str(target), hashlib.sha256(b"other").hexdigest())
    assert not target.exists()


async def test_a_folder_arrives_whole_with_what_its_links_point_to(
    local: HostConnection, tmp_path: Path
) -> None:
    model, target = tmp_path / "model", tmp_path / "far" / "models" / "x"
    (model / "deep").mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "deep" / ("long" * 40)).write_bytes(bytes(2_000_001))
    (model / "link.bin").symlink_to(model / "config.json")
    assert await send_tree(local, model, str(target))
    assert tree_hash(target) == tree_hash(model)
    assert not (target / "link.bin").is_symlink()
    assert not await send_tree(local, model, str(target))
    assert [path.name for path in target.parent.iterdir()] == ["x"]


def test_a_name_that_cannot_travel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a\nb").write_text("")
    with pytest.raises(InputError, match="has a file named"):
        tree_hash(tmp_path)


def result(folder: Path, **files: bytes) -> None:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    entries = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in files.items()
    }
    (folder / "manifest.json").write_text(json.dumps({"v": 1, "files": entries}))


async def test_a_result_is_verified_and_complete_before_it_is_published(
    local: HostConnection, tmp_path: Path
) -> None:
    result(tmp_path / "far", adapter=bytes(3_000_000), empty=b"", config=b"{}")
    part, target = tmp_path / "work" / ".part", tmp_path / "work" / "result"
    part.mkdir(parents=True)
    (part / "stale").write_text("")

    def publish(folder: Path) -> Path:
        assert not target.exists()
        return folder.rename(target)

    assert await fetch_tree(local, str(tmp_path / "far"), part, publish=publish) == target
    assert sorted(p.name for p in target.iterdir()) == [
        "adapter",
        "config",
        "empty",
        "manifest.json",
    ]
    assert [p.name for p in target.parent.iterdir()] == ["result"]


@pytest.mark.parametrize("damage", [b"{]", b"{}longer", b""])
async def test_a_file_that_is_not_what_its_manifest_says_is_refused(
    local: HostConnection, tmp_path: Path, damage: bytes
) -> None:
    result(tmp_path / "far", config=b"{}", last=b"x")
    (tmp_path / "far" / "config").write_bytes(damage)
    with pytest.raises(TransferError, match="not what its manifest says"):
        await fetch_tree(
            local, str(tmp_path / "far"), tmp_path / "work" / "part", publish=Path.resolve
        )
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/x", "a/../../x", "a\\b", "a//b", "./a", "", "manifest.json", "a\x1b[2J", "a\nb"],
)
def test_a_name_that_leaves_the_folder_is_refused(name: str) -> None:
    raw = json.dumps({"files": {name: {"sha256": "0" * 64, "size": 1}}}).encode()
    with pytest.raises(TransferError, match="its manifest names"):
        read_manifest("w1", raw, 10)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"files": []}',
        b'{"files": {"a": 1}}',
        b'{"files": {"a": {"size": -1, "sha256": "' + b"0" * 64 + b'"}}}',
        b'{"files": {"a": {"size": 11, "sha256": "' + b"0" * 64 + b'"}}}',
        b'{"files": {"a": {"size": 1, "sha256": "x"}}}',
        b"[" * 100_000,
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(raw: bytes) -> None:
    with pytest.raises(TransferError):
        read_manifest("w1", raw, 10)


async def test_what_is_gone_here_is_told_in_a_sentence_and_blames_no_host(
    local: HostConnection, tmp_path: Path
) -> None:
    source, target = tmp_path / "gone", str(tmp_path / "far")
    said = "gone  is gone or cannot be read: No such file"
    with pytest.raises(InputError, match=said):
        await send_file(local, source, target, "0" * 64)
    with pytest.raises(InputError, match=said):
        await send_tree(local, source, target)
    with pytest.raises(InputError, match=said):
        tree_hash(source)
