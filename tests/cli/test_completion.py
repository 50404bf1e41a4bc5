"""Tab in real shells: commands, options, jobs and hosts."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.furnished import furnish
from tests.cli.shell import sollol

DEADLINE_S = 60.0


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A furnished state, and `sollol` on the PATH."""
    (folder := tmp_path / "lab").mkdir()
    (tools := tmp_path / "tools").mkdir()
    (tools / "sollol").write_text(f'#!/bin/sh\nexec {sys.executable} -m sollol_tui "$@"\n')
    (tools / "sollol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    monkeypatch.chdir(folder)
    return furnish(folder)


def shell_or_skip(name: str) -> str:
    """Where this shell is; a machine that must show everything may not lack it."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("SOLLOL_REQUIRE_CLUSTER") == "1":
            pytest.fail(f"{name} is not here, and SOLLOL_REQUIRE_CLUSTER is set")
        pytest.skip(f"{name} is not here")
    return found


def offered(shell: str, words: list[str]) -> set[str]:
    """What the shell offers for the last of the words."""
    if shell == "bash":
        listed = " ".join(f"'{word}'" for word in words)
        code = (
            'eval "$(sollol completion bash)"\n'
            f"COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; _sollol_completion sollol\n"
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
    else:
        code = f"sollol completion fish | source; complete -C '{' '.join(words)}'"
    done = subprocess.run(
        [shell_or_skip(shell), "-c", code],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {line.split("\t")[0] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_shell_offers_commands_options_jobs_and_hosts(job: str, shell: str) -> None:
    assert {"show", "schema", "status"} <= offered(shell, ["sollol", "s"])
    assert "--cached" in offered(shell, ["sollol", "status", "--c"])
    assert job in offered(shell, ["sollol", "show", "j-"])
    assert offered(shell, ["sollol", "show", job[:6]]) == {job}
    assert offered(shell, ["sollol", "provision", "pi"]) == {"pi-behind"}
    assert offered(shell, ["sollol", "resume", job, "--workers", "!pi"]) == {"!pi-behind"}
    if shell == "bash":  # what click writes for fish ends a word at a comma
        patterns = ["sollol", "resume", job, "--workers", "w1,w2,pi"]
        assert offered(shell, patterns) == {"w1,w2,pi-behind"}


def test_zsh_completes_a_job_on_tab(job: str, tmp_path: Path) -> None:
    """Zsh completes only where it reads from a terminal."""
    zsh = shell_or_skip("zsh")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(zsh, [zsh, "-f"], os.environ | {"PS1": "> ", "TERM": "dumb"})
    try:
        start = f"autoload -U compinit; compinit -u -d {tmp_path}/dump; "
        typed(terminal, start + 'eval "$(sollol completion zsh)"; echo rea""dy\n', "ready")
        typed(terminal, f"echo told sollol; sollol show {job[:6]}\t", job)
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def typed(terminal: int, keys: str, expected: str) -> None:
    """Types, and waits until the terminal shows what is expected."""
    os.write(terminal, keys.encode())
    shown, deadline = "", time.monotonic() + DEADLINE_S
    while expected not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 1.0)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")


def test_nothing_is_offered_where_nothing_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    for words in ("sollol show ", "sollol provision "):
        monkeypatch.setenv("_SOLLOL_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", "2")
        code, out, err = sollol()
        assert (code, out.strip(), err) == (0, "", "")


def test_an_unknown_shell_is_refused() -> None:
    assert sollol("completion", "tcsh")[0] == 2
