"""The commands as a shell sees them: exit codes, what goes where, and that they stay quiet."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import sollol_tui.client
from sollol_tui.cli.main import main
from sollol_tui.jobs.home import Home, open_home
from sollol_tui.jobs.store import Store
from sollol_tui.model.states import JobState
from tests.jobs.samples import add_job

HEAVY = {"textual", "torch", "numpy", "pyarrow", "transformers"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with an inventory of one embedded host; no job here needs a supervisor."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    hosts = {"one": {"connection": "local", "workdir": str(tmp_path / "workdir")}}
    (tmp_path / "inventory.yaml").write_text(json.dumps({"hosts": hosts}))
    monkeypatch.setattr(sollol_tui.client, "revive", lambda store: [])
    return tmp_path


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with Store(open_home()) as opened:
        yield opened


def sollol(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command, in this process."""
    result = CliRunner().invoke(_command, [*arguments])
    return result.exit_code, result.stdout, result.stderr


class _Command:
    """What CliRunner takes for a command: our `main`, which sets the exit code."""

    name = "sollol"

    def main(self, args: list[str], prog_name: str, **_extra: object) -> None:
        main(list(args))


_command = _Command()


def test_an_unknown_command_is_met_with_the_nearest(folder: Path) -> None:
    code, out, err = sollol("statsu")
    assert (code, out) == (2, "")
    assert "No such command 'statsu' - did you mean 'status'?" in err


def test_an_unknown_option_is_a_usage_error(folder: Path) -> None:
    code, out, err = sollol("status", "--jsno")
    assert (code, out) == (2, "")
    assert "--json" in err


def test_an_unknown_key_is_told_with_place_and_nearest_key(folder: Path) -> None:
    (folder / "t.yml").write_text("model: m\ndataset: d\n\nbatchsize: 4\n")
    code, out, err = sollol("train", "t.yml")
    assert (code, out) == (2, "")
    assert err == "t.yml:4:1  unknown key 'batchsize' - did you mean 'batch_size'?\n"
    (folder / "inventory.yaml").write_text("hosts:\n  a:\n    adress: x\n")
    code, out, err = sollol("status")
    assert (code, out) == (2, "")
    assert "inventory.yaml:3:5  unknown key 'adress' - did you mean 'address'?" in err


@pytest.mark.parametrize(
    "arguments",
    [["train"], ["train", "--model", "m"], ["train", "--epochs", "x"], ["train", "--set", "x"],
     ["train", "--model", "m", "--dataset", "d", "--set", "epoch=3"], ["hosts", "trust"], ["show"]],
)  # fmt: skip
def test_wrong_usage_exits_with_2(folder: Path, arguments: list[str]) -> None:
    code, out, err = sollol(*arguments)
    assert (code, out) == (2, ""), err
    assert err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [["-i", "absent.yaml", "status"], ["show", "j-none"], ["logs", "j-none"], ["cancel", "j-none"],
     ["attach", "j-none"], ["hosts", "trust", "nobody"], ["provision", "nobody"],
     ["train", "absent.yml"], ["train", "--model", "./no", "--dataset", "no.jsonl"]],
)  # fmt: skip
def test_what_is_not_there_exits_with_5(folder: Path, arguments: list[str]) -> None:
    code, _, err = sollol(*arguments)
    assert code == 5, err
    assert err.startswith("sollol: no ")


@pytest.mark.parametrize(
    ("command", "meant"),
    [("jobs --state runing", "running"), ("schema inventroy", "inventory"),
     ("completion bahs", "bash"), ("--color neve status", "never")],
)  # fmt: skip
def test_one_word_of_a_few_is_met_with_the_nearest(command: str, meant: str) -> None:
    code, _, err = sollol(*command.split())
    assert code == 2
    assert f"did you mean '{meant}'?" in err


def test_a_job_file_that_is_not_there_is_met_with_the_nearest(folder: Path) -> None:
    (folder / "train.yaml").write_text("model: m")
    assert "did you mean 'train.yaml'?" in sollol("train", "trian.yaml")[2]
    assert "sollol init writes one" in sollol("train", "absent/quite-another.yaml")[2]


def test_no_inventory_at_all_says_what_to_do(folder: Path) -> None:
    (folder / "inventory.yaml").unlink()
    code, _, err = sollol("status")
    assert code == 5
    assert "no inventory.yaml here, above, or in " in err
    assert "sollol demo" in err


def test_a_failed_job_exits_with_6_and_shows_its_traceback(folder: Path, store: Store) -> None:
    job = add_job(store)
    store.note_traceback(job, "Traceback:\n  here\nImportError: \x1b[31mlibstub")
    store.move_job(job, JobState.FAILED, "w2: rank 1: ImportError")
    code, _, err = sollol("attach", job)
    assert code == 6
    assert "ImportError: libstub" in err
    assert f"{job} failed: w2: rank 1: ImportError" in err
    assert "\x1b" not in err
    assert sollol("cancel", job)[0] == 1


def test_no_worker_exits_with_7_and_a_reason_for_each(folder: Path) -> None:
    hosts = {
        "up": {"connection": "local", "workdir": str(folder / "w"), "limits": {"gpu_ids": [7]}},
        "off": {"address": "127.0.0.1", "port": 1},
    }
    (folder / "inventory.yaml").write_text(json.dumps({"hosts": hosts}))
    model = folder / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer.json", "x.safetensors"):
        (model / name).write_text("{}")
    (folder / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    code, out, err = sollol(
        "train", "--model", "model", "--dataset", "rows.jsonl", "--workers", "up,off"
    )
    assert (code, out) == (7, "")
    assert "  up: has no GPU 7 (limits.gpu_ids)" in err
    assert "  off: " in err
    assert "1 worker wanted, 0 suitable now" in err


def test_readonly_refuses_what_acts_and_nothing_else(folder: Path, store: Store) -> None:
    job = add_job(store)
    for arguments in (["cancel", job], ["provision"], ["hosts", "trust", "one"]):
        code, _, err = sollol("--readonly", *arguments)
        assert (code, "--readonly is on" in err) == (1, True)
    assert store.open_requests(job) == []
    assert sollol("--readonly", "jobs")[0] == 0


def test_status_as_json_has_its_schema(folder: Path, store: Store) -> None:
    job = add_job(store, name="tiny")
    code, out, err = sollol("status", "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert data["schema"] == "sollol.status/1"
    assert set(data) == {
        "schema", "at", "inventory", "inventory_problem", "coordinator", "hosts", "jobs",
    }  # fmt: skip
    [host] = data["hosts"]
    assert {"name", "state", "reason", "gpus", "cpu_percent", "ram_used_bytes"} <= set(host)
    assert (host["name"], host["state"]) == ("one", "up")
    promised = (
        "id name state reason step max_steps samples_done samples_total loss samples_per_s eta_s "
        "workers output_dir"
    )
    assert set(promised.split()) <= set(data["jobs"][0])
    jobs = json.loads(sollol("jobs", "--json")[1])
    assert (jobs["schema"], jobs["jobs"][0]["id"]) == ("sollol.jobs/1", job)


def test_status_check_tells_by_its_exit_code(folder: Path) -> None:
    assert sollol("status", "--check")[0] == 0
    hosts = {"off": {"address": "127.0.0.1", "port": 1}}
    (folder / "inventory.yaml").write_text(json.dumps({"hosts": hosts}))
    code, out, _ = sollol("status", "--check")
    assert code == 3
    assert "down" in out


def test_hostile_text_reaches_no_terminal(folder: Path, store: Store) -> None:
    evil = "\x1b]52;c;ZQ==\x07\x1b[2J\u202ex[/b]"
    job = add_job(store, name=evil)
    store.move_job(job, JobState.FAILED, evil)
    store.note_traceback(job, evil)
    store.note_reading(
        str(folder / "inventory.yaml"), "one", state="down", reason=evil,
        data={"gpus": [{"index": 0, "name": evil}]},
    )  # fmt: skip
    for arguments in (["status", "--cached"], ["jobs"], ["show", job], ["attach", job]):
        code, out, err = sollol(*arguments)
        assert code in (0, 6)
        assert not {"\x1b", "\x07", "\u202e"} & set(out + err), arguments
    for arguments in (["status", "--json", "--cached"], ["jobs", "--json"]):
        out = sollol(*arguments)[1]
        assert out.isascii()
        assert json.loads(out)["jobs"][0]["name"] == evil


def test_the_supervisors_log_is_clean_too(folder: Path, store: Store) -> None:
    job = add_job(store)
    log = Home(store.home.root).job(job) / "supervisor.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"one\n\x1b]0;t\x07two\n")
    assert sollol("logs", job, "--supervisor")[1] == "one\ntwo\n"
    assert sollol("logs", job, "--supervisor", "-n", "1")[1] == "two\n"


def test_logs_show_host_and_rank_and_only_the_last_when_asked(folder: Path, store: Store) -> None:
    job = add_job(store, "host w1")
    for host, slot in (("w1", 0), ("w2", 1)):
        copies = store.home.copies(job, host)
        copies.mkdir(parents=True)
        text = "".join(f"line {n}\n" for n in range(5000))
        (copies / f"log.{slot}.1").write_text(text)
    lines = sollol("logs", job)[1].splitlines()
    assert (len(lines), lines[0], lines[-1]) == (10_000, "w1/0  line 0", "w2/1  line 4999")
    assert sollol("logs", job, "-n", "2")[1] == "w2/1  line 4998\nw2/1  line 4999\n"
    assert sollol("logs", job, "--host", "w1", "-n", "1")[1] == "w1/0  line 4999\n"
    assert sollol("logs", job, "-n", "0")[1] == ""
    assert sollol("logs", job, "--host", "w3") == (
        *(5, "", f"sollol: no host 'w3' in {job}; it has: w1, w2\n"),
    )


def test_a_count_of_jobs_is_one_or_more(folder: Path, store: Store) -> None:
    add_job(store)
    for count in ("-1", "0"):
        code, out, err = sollol("jobs", "-n", count)
        assert (code, out) == (2, "")
        assert "x>=1" in err


def test_a_reader_that_has_seen_enough_ends_it_silently(folder: Path, store: Store) -> None:
    job = add_job(store)
    copies = store.home.copies(job, "w1")
    copies.mkdir(parents=True)
    (copies / "log.0.1").write_text("line\n" * 200_000)
    store.move_job(job, JobState.FAILED)
    with subprocess.Popen(
        [sys.executable, "-m", "sollol_tui.cli", "logs", job],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "w1/0  line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        (">/dev/full", 1, "sollol: No space left on device\n"),
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
    ],
)
def test_output_that_goes_nowhere_leaves_no_traceback(
    folder: Path, store: Store, redirection: str, code: int, said: str
) -> None:
    store.move_job(add_job(store), JobState.FAILED)
    for command in ("jobs", "status --cached", "--help"):
        done = subprocess.run(
            f"{sys.executable} -m sollol_tui.cli {command} {redirection}",
            shell=True, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (code, said), command


def test_a_job_folder_that_cannot_be_made_is_one_sentence(folder: Path, store: Store) -> None:
    add_job(store)
    (store.home.root / "jobs").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "sollol_tui.cli", "jobs"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"sollol: {store.home.root}/jobs/")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("module", ["sollol_tui.cli", "sollol_tui"])
def test_status_runs_as_a_module_and_loads_neither_screen_nor_torch(
    folder: Path, module: str
) -> None:
    code = (
        "import runpy, sys\nsys.argv = ['sollol', 'status', '--cached']\n"
        f"try: runpy.run_module({module!r}, run_name='__main__')\n"
        "finally: print(sorted({n.partition('.')[0] for n in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "HOST" in done.stdout
    assert not HEAVY & set(done.stderr.strip("[]\n").replace("'", "").split(", "))


def test_a_job_without_a_result_is_not_found_by_fetch(store: Store) -> None:
    job = add_job(store)
    store.move_job(job, JobState.FAILED)
    code, out, err = sollol("fetch", job)
    assert (code, out) == (5, "")
    assert err.startswith(f"sollol: {job} has no result: ")
    assert sollol("fetch", "j-nope")[0] == 5
    assert sollol("--readonly", "fetch", job)[0] == 1


def test_every_command_has_help_with_an_example(folder: Path) -> None:
    from sollol_tui.cli.main import root

    names = root.list_commands(None)  # type: ignore[arg-type]
    assert {"attach", "cancel", "demo", "hosts", "jobs", "logs", "status", "train"} <= set(names)
    for name in names:
        code, out, _ = sollol(name, "--help")
        assert code == 0
        assert "Usage: sollol" in out


def test_a_broken_state_is_one_sentence(folder: Path, isolated_home: Path) -> None:
    home = Path(os.environ["SOLLOL_HOME"])
    home.mkdir(parents=True)
    (home / "state.db").write_bytes(b"rubbish" * 1000)
    code, out, err = sollol("status")
    assert (code, out) == (1, "")
    assert err.startswith("sollol: the state in ")
    assert len(err.splitlines()) == 1
