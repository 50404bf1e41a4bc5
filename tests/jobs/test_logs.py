"""The log reader: every line once, whole, clean and with its host."""

from pathlib import Path

from sollol_tui.jobs.logs import LogReader


def write(folder: Path, host: str, name: str, data: bytes) -> None:
    path = folder / host / name
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        file.write(data)


def texts(reader: LogReader) -> list[str]:
    return [f"{line.host}/{line.slot} {line.text}" for line in reader.read()]


def test_lines_come_once_in_order_of_host_and_slot(tmp_path: Path) -> None:
    for host, name in [
        ("w2", "log.1.1"),
        ("w1", "log.10.1"),
        ("w1", "log.2.1"),
        ("w1", "log.agent.1"),
    ]:
        write(tmp_path, host, name, f"{name}\n".encode())
    reader = LogReader(tmp_path)
    assert texts(reader) == [
        "w1/None log.agent.1", "w1/2 log.2.1", "w1/10 log.10.1", "w2/1 log.1.1",
    ]  # fmt: skip
    assert texts(reader) == []
    write(tmp_path, "w1", "log.2.1", b"more\n")
    assert texts(reader) == ["w1/2 more"]


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    reader = LogReader(tmp_path)
    write(tmp_path, "w1", "log.0.1", b"one\nha")
    assert texts(reader) == ["w1/0 one"]
    assert texts(reader) == []
    write(tmp_path, "w1", "log.0.1", b"lf\n")
    assert texts(reader) == ["w1/0 half"]


def test_a_line_without_an_end_is_shown_in_pieces(tmp_path: Path) -> None:
    write(tmp_path, "w1", "log.0.1", b"x" * 200_000)
    reader = LogReader(tmp_path)
    assert len(texts(reader)) == 3


def test_a_late_reader_begins_near_the_end_with_a_whole_line(tmp_path: Path) -> None:
    write(tmp_path, "w1", "log.0.1", b"".join(b"line %04d\n" % n for n in range(1000)))
    lines = texts(LogReader(tmp_path, tail_bytes=95))
    assert lines[0] == "w1/0 line 0991"
    assert lines[-1] == "w1/0 line 0999"


def test_a_flood_comes_in_portions_and_none_is_lost(tmp_path: Path) -> None:
    for host in ("w1", "w2"):
        write(tmp_path, host, "log.0.1", b"".join(b"%d\n" % n for n in range(50_000)))
    reader, seen = LogReader(tmp_path), []
    while portion := reader.read(max_lines=2000):
        assert len(portion) < 50_000
        seen += portion
    for host in ("w1", "w2"):
        assert [int(line.text) for line in seen if line.host == host] == list(range(50_000))


def test_what_a_rank_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    write(tmp_path, "w1", "log.0.1", b"\x1b]52;c;ZQ==\x07a\x1b[2J\xff\n10%\r100%\n")
    assert texts(LogReader(tmp_path)) == ["w1/0 a\ufffd", "w1/0 100%"]


def test_other_files_are_not_logs(tmp_path: Path) -> None:
    write(tmp_path, "w1", "log.0", b"no\n")
    write(tmp_path, "w1", "log.0.1.tmp", b"no\n")
    write(tmp_path, "w1", "events.0.1.jsonl", b"{}\n")
    assert texts(LogReader(tmp_path)) == []
