"""Files and folders arrive whole, verified, once; a hostile manifest writes nothing."""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from sollol_tui.hosts import receiver as receiver_module
from sollol_tui.hosts.fetch import fetch_tree, read_manifest
from sollol_tui.hosts.ssh import HostConnection, connect
from sollol_tui.hosts.transfer import BIG, Report, send_file, send_tree
from sollol_tui.hosts.tree import Tree, file_sha256, read_tree
from sollol_tui.model.errors import HostError, InputError, TransferError, UnreachableError
from sollol_tui.model.inventory import Host


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
    with pytest.raises(InputError, match="changed while it was sent"):
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
    assert await send_tree(local, read_tree(model), str(target))
    assert read_tree(target).sha256 == read_tree(model).sha256
    assert not (target / "link.bin").is_symlink()
    assert not await send_tree(local, read_tree(model), str(target))
    assert {path.name for path in target.parent.iterdir()} <= {"x", "x.unflushed"}


def test_a_name_that_cannot_travel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a\nb").write_text("")
    with pytest.raises(InputError, match="has a file named"):
        read_tree(tmp_path)


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


async def test_an_interrupted_fetch_goes_on_with_the_files_that_are_missing(
    local: HostConnection, tmp_path: Path
) -> None:
    result(tmp_path / "far", first=b"1" * 5_000_000, second=b"2" * 5_000_000)
    part, target = tmp_path / "work" / "part", tmp_path / "work" / "result"

    def unplug(done: int, total: int) -> None:
        if done > 6_000_000:
            raise UnreachableError("here", "the connection was lost")

    with pytest.raises(UnreachableError):
        await fetch_tree(
            local, str(tmp_path / "far"), part, publish=target.symlink_to, report=unplug
        )
    (part / "stale").write_text("")
    seen: list[int] = []
    await fetch_tree(
        local,
        str(tmp_path / "far"),
        part,
        publish=lambda folder: folder.rename(target),
        report=lambda done, _: seen.append(done),
    )
    assert (seen[0], seen[-1]) == (5_000_000, 10_000_000)
    assert sorted(p.name for p in target.iterdir()) == ["first", "manifest.json", "second"]
    assert [p.name for p in target.parent.iterdir()] == ["result"]


async def test_two_that_fetch_the_same_take_turns(
    local: HostConnection, local_host: Host, tmp_path: Path
) -> None:
    result(tmp_path / "far", adapter=os.urandom(8_000_000))
    part, at_work = tmp_path / "work" / "part", 0

    def publish(folder: Path) -> Path:
        nonlocal at_work
        at_work += 1
        return folder.rename(tmp_path / "work" / f"result-{at_work}")

    async with connect(local_host, []) as other:
        places = await asyncio.gather(
            *(fetch_tree(c, str(tmp_path / "far"), part, publish=publish) for c in (local, other))
        )
    for place in places:
        assert (place / "adapter").read_bytes() == (tmp_path / "far" / "adapter").read_bytes()
    assert sorted(p.name for p in (tmp_path / "work").iterdir()) == ["result-1", "result-2"]


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
        read_tree(source)


class Unplugged(Exception):
    """Stands for whatever ends a transfer in its middle."""


def unplug_after(count: int) -> Report:
    def report(done: int, total: int) -> None:
        if done >= count:
            raise Unplugged

    return report


def write_folder(folder: Path) -> Tree:
    (folder / "deep").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "deep" / "vocab").write_bytes(bytes(range(256)) * 4_000)
    (folder / "shard-1").write_bytes(os.urandom(3 * BIG))
    (folder / "shard-2").write_bytes(os.urandom(3 * BIG))
    return read_tree(folder)


async def test_a_folder_goes_on_within_the_file_where_it_stopped(
    local: HostConnection, tmp_path: Path
) -> None:
    tree, target = write_folder(tmp_path / "model"), tmp_path / "far" / "model"
    with pytest.raises(Unplugged):
        await send_tree(local, tree, str(target), report=unplug_after(4 * BIG))
    assert not target.exists()
    there = tmp_path / "far" / "model.part" / "tree" / "shard-1"
    assert there.read_bytes() == (tree.root / "shard-1").read_bytes()
    seen: list[int] = []
    assert await send_tree(local, tree, str(target), report=lambda done, _: seen.append(done))
    assert 3 * BIG <= seen[0] < seen[1]  # the first shard did not travel again
    assert seen[1] > 3 * BIG  # nor did the start of the second
    assert read_tree(target).sha256 == tree.sha256
    assert {path.name for path in target.parent.iterdir()} <= {"model", "model.unflushed"}


async def test_what_was_damaged_after_an_interruption_travels_again(
    local: HostConnection, tmp_path: Path
) -> None:
    tree, target = write_folder(tmp_path / "model"), tmp_path / "far" / "model"
    with pytest.raises(Unplugged):
        await send_tree(local, tree, str(target), report=unplug_after(4 * BIG))
    part = tmp_path / "far" / "model.part"
    (part / "tree" / "shard-1").write_bytes(b"x" * 3 * BIG)
    (part / "tree" / "config.json").write_text("{]")
    (part / tree.files[3].sha256).write_bytes(b"y" * 10)
    assert await send_tree(local, tree, str(target))
    assert read_tree(target).sha256 == tree.sha256


async def test_small_files_that_are_there_whole_do_not_travel_again(
    local: HostConnection, tmp_path: Path
) -> None:
    source, target = tmp_path / "code", tmp_path / "far" / "code"
    source.mkdir()
    for name in ("whole", "spoilt", "missing"):
        (source / name).write_text(name * 1000)
    there = tmp_path / "far" / "code.part" / "tree"
    there.mkdir(parents=True)
    shutil.copyfile(source / "whole", there / "whole")
    (there / "spoilt").write_text("spoilt" * 999)
    seen: list[int] = []
    tree = read_tree(source)
    assert await send_tree(local, tree, str(target), report=lambda done, _: seen.append(done))
    assert seen[0] == (source / "whole").stat().st_size
    assert read_tree(target).sha256 == tree.sha256


async def test_a_folder_that_lost_its_power_before_it_was_on_disk_is_looked_through(
    local: HostConnection, tmp_path: Path
) -> None:
    tree, target = write_folder(tmp_path / "model"), tmp_path / "far" / "model"
    assert await send_tree(local, tree, str(target))
    mark = target.parent / "model.unflushed"
    async with asyncio.timeout(30):
        while mark.exists():  # noqa: ASYNC110 - the host removes it
            await asyncio.sleep(0.01)
    (target / "shard-1").write_bytes(b"")
    mark.write_text("an earlier boot\n")
    seen: list[int] = []
    assert await send_tree(local, tree, str(target), report=lambda done, _: seen.append(done))
    assert seen[0] == tree.size - 3 * BIG  # only the damaged one travelled
    assert read_tree(target).sha256 == tree.sha256


async def test_a_source_that_changes_is_told_and_never_gets_its_name(
    local: HostConnection, tmp_path: Path
) -> None:
    tree, target = write_folder(tmp_path / "model"), tmp_path / "far" / "model"
    for name, content in (("shard-2", b"shorter"), ("deep/vocab", b""), ("config.json", b"[]")):
        whole = (tree.root / name).read_bytes()
        (tree.root / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}  changed while it was sent"):
            await send_tree(local, tree, str(target))
        (tree.root / name).write_bytes(whole)
        assert not target.exists()
    assert await send_tree(local, tree, str(target))


async def test_two_that_send_the_same_take_turns(
    local: HostConnection, local_host: Host, tmp_path: Path
) -> None:
    tree, target = write_folder(tmp_path / "model"), tmp_path / "far" / "model"
    async with connect(local_host, []) as other:
        sent = await asyncio.gather(
            send_tree(local, tree, str(target)), send_tree(other, tree, str(target))
        )
    assert sorted(sent) == [False, True]
    assert read_tree(target).sha256 == tree.sha256


async def test_a_receiver_whose_sender_is_gone_without_a_word_makes_way(
    local: HostConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver_module, "PATIENCE_S", 1)
    source, target = tmp_path / "rows", tmp_path / "far" / "rows"
    source.write_bytes(b"good" * 1000)
    variables = {
        "target": str(target),
        "part": f"{target}.part",
        "sha256": file_sha256(source),
        "mode": "600",
    }
    async with receiver_module.receiver(local, receiver_module.FILE, 4000, variables) as gone:
        assert await gone.answer() == "offset 0"
        assert await send_file(local, source, str(target), file_sha256(source))
        assert await gone.process.wait() == 128 + signal.SIGKILL
    assert target.read_bytes() == source.read_bytes()


async def test_what_cannot_be_stored_is_told_with_its_remedy(
    local: HostConnection, tmp_path: Path
) -> None:
    source = tmp_path / "rows"
    source.write_bytes(b"good" * 1000)
    with pytest.raises(HostError, match=r"what is sent could not be put into /proc/far: .*mkdir"):
        await send_file(local, source, "/proc/far/rows", file_sha256(source))


async def test_hosts_with_nothing_but_busybox_take_files_and_folders(
    local_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (busybox := shutil.which("busybox")) is None:
        pytest.skip("no busybox on this machine")
    tools = tmp_path / "tools"
    tools.mkdir()
    for applet in subprocess.check_output([busybox, "--list"], text=True).split():  # noqa: ASYNC221
        (tools / applet).symlink_to(busybox)
    tree, target = write_folder(tmp_path / "model"), tmp_path / "far" / "model"
    monkeypatch.setenv("PATH", str(tools))
    async with connect(local_host, []) as local:
        with pytest.raises(Unplugged):
            await send_tree(local, tree, str(target), report=unplug_after(4 * BIG))
        assert await send_tree(local, tree, str(target))
        assert not await send_tree(local, tree, str(target))
    assert read_tree(target).sha256 == tree.sha256
