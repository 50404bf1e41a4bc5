"""Who may import what, and which calls may stand where: the boundaries of the house.

import-linter checks the direction between packages; here stands what it cannot see: what is really
loaded by a command, and rules about single calls.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
COORDINATOR = CHECKOUT / "sollol_tui"
WORKER = CHECKOUT / "remote"
HEAVY = {"asyncssh", "textual", "pydantic", "ruamel", "torch", "numpy"}
REPORT = "import json, sys; sys.stderr.write(json.dumps(sorted(sys.modules)))"


def packages_loaded(statement: str, *flags: str) -> set[str]:
    """Runs the statement in a fresh Python and returns the top-level names that it loaded."""
    code = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\n{statement}\n{REPORT}"
    done = subprocess.run(
        [sys.executable, "-I", *flags, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


@cache
def nodes(folder: Path) -> list[tuple[str, ast.AST]]:
    """Every syntax node that a rule asks about, with the place it stands at; read once for all."""
    return [
        (f"{path.relative_to(CHECKOUT)}:{getattr(node, 'lineno', 0)}", node)
        for path in files(folder)
        for node in ast.walk(ast.parse(path.read_text(), str(path)))
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Call | ast.keyword)
    ]


def imports_of(folder: Path, *packages: str) -> list[str]:
    """Places in `folder` that import one of `packages`."""
    found = []
    for place, node in nodes(folder):
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom(level=0, module=str(module)):
                names = [module]
            case _:
                continue
        if any(name.partition(".")[0] in packages for name in names):
            found.append(place)
    return found


def calls_in(folder: Path) -> Iterator[tuple[str, str, ast.Call]]:
    for place, node in nodes(folder):
        if isinstance(node, ast.Call):
            yield place, ast.unparse(node.func), node


def outside(places: list[str], *allowed: str) -> list[str]:
    return [place for place in places if not place.startswith(allowed)]


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert packages_loaded("import sollol_tui") & HEAVY == set()


def test_help_loads_neither_ssh_nor_the_terminal_application() -> None:
    statement = (
        "from sollol_tui.cli.main import main; sys.argv = ['sollol', '--help']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code"
    )
    assert packages_loaded(statement) & {"asyncssh", "textual", "torch", "numpy"} == set()


def test_a_command_that_reads_the_state_loads_no_event_loop(tmp_path: Path) -> None:
    (tmp_path / "inventory.yaml").write_text("hosts: [w1]\n")
    statement = (
        "import os; from pathlib import Path; from sollol_tui.client import SOLLOLClient\n"
        f"with SOLLOLClient({str(tmp_path / 'inventory.yaml')!r}, home=Path({str(tmp_path)!r})) "
        "as client: client.list_jobs()"
    )
    assert packages_loaded(statement) & {"asyncio", "asyncssh", "pydantic"} == set()


@pytest.mark.parametrize("module", ["remote.data.formats", "remote.data.check", "remote.stream"])
def test_a_program_that_any_python_may_run_needs_the_standard_library_only(module: str) -> None:
    loaded = packages_loaded(f"import {module}", "-S")
    assert loaded - sys.stdlib_module_names - {"remote", "__main__"} == set()


def test_the_coordinator_never_imports_what_only_workers_have() -> None:
    only_workers = ("torch", "numpy", "transformers", "peft", "accelerate", "pyarrow", "torchft")
    assert imports_of(COORDINATOR, *only_workers) == []


def test_the_two_programs_import_nothing_from_each_other() -> None:
    assert imports_of(COORDINATOR, "remote") == []
    assert imports_of(WORKER, "sollol_tui") == []


def test_ssh_stands_in_hosts_only() -> None:
    assert outside(imports_of(COORDINATOR, "asyncssh"), "sollol_tui/hosts/") == []
    assert imports_of(WORKER, "asyncssh") == []


def test_textual_stands_in_ui_only() -> None:
    assert outside(imports_of(COORDINATOR, "textual"), "sollol_tui/ui/") == []


def test_quoting_stands_in_one_module() -> None:
    assert outside(imports_of(COORDINATOR, "shlex"), "sollol_tui/hosts/shell.py") == []


def test_only_the_command_line_prints() -> None:
    prints = [place for place, name, _ in calls_in(COORDINATOR) if name == "print"]
    assert outside(prints, "sollol_tui/cli/") == []


def test_host_keys_are_always_verified() -> None:
    unverified = [
        place
        for place, node in nodes(COORDINATOR)
        if isinstance(node, ast.keyword)
        and node.arg == "known_hosts"
        and isinstance(node.value, ast.Constant)
        and node.value.value is None
    ]
    assert unverified == []


def test_nothing_unpickles() -> None:
    assert imports_of(WORKER, "pickle", "cloudpickle", "dill", "joblib") == []
    assert imports_of(COORDINATOR, "pickle", "cloudpickle", "dill", "joblib") == []
    unsafe = []
    for place, name, call in calls_in(WORKER):
        last = name.rpartition(".")[2]
        if "_object" in last and last.startswith(("all_", "broadcast_", "gather_", "scatter_")):
            unsafe.append(place)
        if last in ("send_object_list", "recv_object_list"):
            unsafe.append(place)
        if name == "torch.load" and "weights_only=True" not in map(ast.unparse, call.keywords):
            unsafe.append(place)
    assert unsafe == []
