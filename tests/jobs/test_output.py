"""The place of a job's adapter is looked at before the job starts, never taken from anybody."""

from pathlib import Path

import pytest

from sollol_tui.jobs.output import Output, owner, part_of, publish
from sollol_tui.model.errors import InputError

JOB = "j-7f3a"


def output(template: str, folder: Path) -> Output:
    return Output(template=template, folder=folder, name="tiny")


def made(folder: Path, job: str, text: str) -> Path:
    folder.mkdir()
    (folder / "job.yaml").write_bytes(f"# {job}\n".encode() + b"name: \xff\n")
    (folder / "adapter").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("file", "is a file"),
        ("file/below/it", "file is a file"),
        ("full", "holds other files"),
        ("foreign", "holds other files"),
        ("x" * 253, "has too long a name"),
        ("y" * 300 + "/x", "cannot be a path: File name too long"),
        ("y/" + "x" * 300 + "/z", "has too long a name"),
        ("d/" * 1900, "is too long a path"),
        ("/proc/xx", "cannot be used"),
        ("/proc", "is a mount point"),
        ("/", "is the current folder or holds it"),
        (".", "is the current folder or holds it"),
        ("..", "is the current folder or holds it"),
        ("loop", "[Ss]ymlink loop"),
    ],
)
def test_a_place_that_cannot_be_is_refused_with_a_reason(
    tmp_path: Path, template: str, said: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis").write_text("")
    made(tmp_path / "foreign", "j-0000", "")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=said) as refusal:
        output(template, tmp_path).check({})
    assert "\n" not in str(refusal.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_place_that_is_new_or_empty_is_taken_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for template in ("empty", "new", "a/b/{name}-{id}", "x" * 252):
        output(template, tmp_path).check({})
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_link_leads_to_its_folder_and_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    place = output("link", tmp_path)
    place.check({})
    assert place.of(JOB) == str(tmp_path / "disk")
    with pytest.raises(InputError, match=f"disk is where {JOB} will put its adapter"):
        place.check({str(tmp_path / "disk"): JOB})


def test_only_what_was_written_is_filled_in(tmp_path: Path) -> None:
    folder = tmp_path / "{name}" / "{id}"
    assert output("{name}-{id}", folder).of(JOB) == f"{folder}/tiny-{JOB}"


def publish_to(place: Path, text: str = "new") -> Path:
    return publish(made(part_of(place, JOB), JOB, text), place, JOB)


def test_the_same_jobs_result_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    place = made(tmp_path / "out", JOB, "old")
    assert publish_to(place) == place
    assert (place / "adapter").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_somebody_elses_makes_the_result_go_beside_it(tmp_path: Path) -> None:
    place = made(tmp_path / "out", "j-0000", "theirs")
    (tmp_path / "out.2").write_text("a file")
    (tmp_path / "out.3").symlink_to(tmp_path / "nowhere")
    (tmp_path / "out.4").symlink_to(made(tmp_path / "mine", JOB, "linked"))
    (tmp_path / "out.5").mkdir()
    assert publish_to(place) == tmp_path / "out.5"
    assert owner(tmp_path / "out.5") == JOB
    assert (place / "adapter").read_text() == "theirs"
    assert (tmp_path / "mine" / "adapter").read_text() == "linked"
    assert (tmp_path / "out.4").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mine",
        "out",
        *(f"out.{number}" for number in (2, 3, 4, 5)),
    ]
