"""The repository as a stranger finds it: nothing of one machine, nothing stale, nothing huge."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
LONGEST_FILE = 420
REGISTRIES = re.compile(r"\b(pypi\.org|pythonhosted\.org|download\.pytorch\.org)\b")
OTHER_PEOPLES_HOMES = re.compile(r"/(home/(?!ml/|you/|user/)|Users/)\w+/")


def repository_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.fail(f"git ls-files: {listed.stderr.strip()}")
    paths = [CHECKOUT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def lines() -> Iterator[tuple[str, str]]:
    """Every text line of the repository with its place."""
    for path in repository_files():
        data = path.read_bytes()
        if b"\0" not in data:
            for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
                yield f"{path.relative_to(CHECKOUT)}:{number}", line


def places_of_this_machine() -> set[str]:
    """Folders that exist for whoever runs this, and for nobody else."""
    folders = {CHECKOUT, Path(sys.prefix), Path(sys.base_prefix)}
    folders |= {Path(part) for part in os.environ.get("PIP_FIND_LINKS", "").split()}
    # /usr or /src say nothing about a machine.
    return {str(folder) for folder in folders if folder.is_absolute() and len(folder.parts) > 2}


def tree_entries(text: str) -> list[str]:
    """Paths named by the file trees among the fenced blocks of a Markdown text."""
    entries = []
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if not re.search(r"^\W*sollol_tui/(\s|$)", block, re.MULTILINE):
            continue
        above: list[tuple[int, str]] = []
        for line in block.splitlines():
            begins = re.search(r"[\w.]", line)
            if begins is None:
                continue
            indent = begins.start()
            above = [(column, name) for column, name in above if column < indent]
            names = re.split(r"\s{2,}", line[indent:])[0].split()
            folder = "".join(name for _, name in above)
            entries += [folder + name for name in names]
            if names[-1].endswith("/"):
                above.append((indent, names[-1]))
    return entries


def test_no_path_of_one_machine_is_in_the_repository() -> None:
    here = re.compile("|".join(rf"{re.escape(p)}(?![\w-])" for p in places_of_this_machine()))
    found = [at for at, line in lines() if here.search(line) or OTHER_PEOPLES_HOMES.search(line)]
    assert found == []


def test_no_package_registry_is_named() -> None:
    assert [place for place, line in lines() if REGISTRIES.search(line)] == []


def test_what_a_worker_installs_is_the_extra_of_the_project() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = (CHECKOUT / "remote" / "worker.in").read_text().splitlines()
    assert [line for line in wanted if not line.startswith("#")] == (
        project["optional-dependencies"]["worker"]
    ), "run: make lock"


def test_the_file_tree_of_the_readme_exists() -> None:
    entries = tree_entries((CHECKOUT / "README.md").read_text())
    assert [entry for entry in entries if not list(CHECKOUT.glob(entry))] == []


def test_every_module_stands_in_the_file_tree_of_the_readme() -> None:
    named = {Path(entry).name for entry in tree_entries((CHECKOUT / "README.md").read_text())}
    modules = {
        path.name
        for path in repository_files()
        if path.suffix == ".py" and path.relative_to(CHECKOUT).parts[0] in ("sollol_tui", "remote")
    }
    assert modules - named - {"__init__.py", "__main__.py"} == set()


def test_a_file_tree_is_read_with_and_without_branches() -> None:
    plain = (
        "```\nREADME.md LICENSE\nsollol_tui/   the coordinator\n  model/  what things are\n```\n"
    )
    drawn = (
        "```text\n.\n├── sollol_tui/  the coordinator\n│   └── model/  what\n└── Makefile\n```\n"
    )
    assert tree_entries(plain) == ["README.md", "LICENSE", "sollol_tui/", "sollol_tui/model/"]
    assert tree_entries(drawn)[1:] == ["sollol_tui/", "sollol_tui/model/", "Makefile"]


def test_no_file_is_too_long_to_read() -> None:
    long = {
        str(path.relative_to(CHECKOUT)): length
        for path in repository_files()
        if path.suffix == ".py" and (length := len(path.read_text().splitlines())) > LONGEST_FILE
    }
    assert long == {}


def test_nothing_is_left_for_later() -> None:
    later = re.compile(r"\b(TODO|FIXME|XXX)\b")
    packages = ("sollol_tui/", "remote/", "tools/")
    assert [at for at, line in lines() if at.startswith(packages) and later.search(line)] == []
