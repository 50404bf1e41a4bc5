"""`sollol hosts add`, `rm`, `import`, `cordon`, `uncordon`: a diff, a question, a file."""

from pathlib import Path

import pytest

import sollol_tui.client
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.store import Store
from sollol_tui.model.inventory_file import parse_inventory
from tests.cli.shell import sollol
from tests.jobs.samples import add_job

INVENTORY = "hosts:\n  hydra: {}   # fast\n  one: {connection: local}\n"
SSH_CONFIG = """\
Host github.com
  User git
Host hydra attic
  User ml
  HostName 192.0.2.9
Host desk
  User me
  Port 2222
  ProxyJump attic
Host *
  User nobody
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sollol_tui.client, "revive", lambda store: [])
    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY)
    return path


@pytest.fixture
def ssh_config(isolated_home: Path) -> Path:
    path = isolated_home / ".ssh" / "config"
    path.parent.mkdir(mode=0o700)
    path.write_text(SSH_CONFIG)
    return path


def names(file: Path) -> list[str]:
    return [host.name for host in parse_inventory(file.read_bytes(), str(file)).hosts]


def test_a_host_is_added_with_all_it_was_given(file: Path) -> None:
    code, out, err = sollol(
        "hosts", "add", "desktop", "--address", "192.0.2.40", "--port", "2222", "--user", "ml",
        "--identity-file", "~/.ssh/lab", "--proxy-jump", "hydra", "--tag", "cuda", "--tag", "fast",
        "--set", "limits.gpu_ids=[0]", "--set", "env.OFFLINE=yes", "--set", "nice=5",
    )  # fmt: skip
    assert code == 0
    assert out.splitlines()[:2] == ["--- inventory.yaml", "+++ inventory.yaml"]
    assert [line for line in out.splitlines()[3:] if line[0] == "+"] == [
        "+  desktop: {address: 192.0.2.40, port: 2222, user: ml, identity_file: ~/.ssh/lab, "
        "proxy_jump: hydra, tags: [cuda, fast], limits: {gpu_ids: [0]}, env: {OFFLINE: yes}, "
        "nice: 5}"
    ]
    assert err.splitlines() == ["inventory.yaml is written", "next: sollol hosts trust desktop"]
    host = parse_inventory(file.read_bytes(), "inventory.yaml").host("desktop")
    assert (host.address, host.port, host.tags) == ("192.0.2.40", 2222, ("cuda", "fast"))
    assert (host.limits.gpu_ids, host.env, host.nice) == ((0,), {"OFFLINE": "yes"}, 5)


def test_a_terminal_is_asked_and_no_means_no(file: Path) -> None:
    code, out, err = sollol("hosts", "cordon", "hydra", typed="n\n")
    assert (code, "+  hydra: {enabled: false}   # fast" in out) == (130, True)
    assert "write inventory.yaml?" in err
    assert file.read_text() == INVENTORY
    assert sollol("hosts", "cordon", "hydra", typed="\n")[0] == 0
    assert "hydra: {enabled: false}   # fast" in file.read_text()
    code, _, err = sollol("-y", "hosts", "uncordon", "hydra", typed="")
    assert (code, "write" in err.partition("is written")[0]) == (0, False)
    assert file.read_text() == INVENTORY


def test_what_is_so_already_is_said_and_not_written(file: Path) -> None:
    before = file.stat().st_mtime_ns
    code, out, err = sollol("hosts", "uncordon", "hydra")
    assert (code, out, err) == (0, "", "inventory.yaml says so already, nothing to change\n")
    assert file.stat().st_mtime_ns == before


def test_several_hosts_change_together_or_not_at_all(file: Path) -> None:
    assert sollol("hosts", "cordon", "hydra", "nobody")[0] == 5
    assert file.read_text() == INVENTORY
    assert sollol("hosts", "cordon", "hydra", "one")[0] == 0
    assert file.read_text().count("enabled: false") == 2


def test_a_host_at_work_is_not_removed(file: Path) -> None:
    file.write_text("hosts: [w1, w3]\n")
    with Store(open_home()) as store:
        job = add_job(store, "host w1", "host w2")
    code, out, err = sollol("hosts", "rm", "w1")
    assert (code, out) == (1, "")
    assert f"w1 works for {job}; first: sollol cancel {job}" in err
    assert sollol("hosts", "rm", "w3")[0] == 0
    assert names(file) == ["w1"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("add", "hydra"), 2, "host 'hydra' is there already"),
        (("add", "a b"), 2, "'a b' is not a name"),
        (("add", "b", "--set", "nicee=1"), 2, "b  unknown key 'nicee' - did you mean 'nice'?"),
        (("add", "b", "--set", "nice"), 2, "--set  'nice' is not KEY=VALUE"),
        (("add", "b", "--set", "nice=[1"), 2, "--set:"),
        (("add", "b", "--port", "70000"), 2, "b  port: "),
        (
            ("rm", "nobody"),
            5,
            "no host or group fits 'nobody' in inventory.yaml; it has: hydra, one",
        ),
        (("rm", "hydra", "one"), 2, "'one' is its only host"),
        (("cordon",), 2, "Missing argument"),
    ],
)
def test_what_does_not_fit_is_refused(
    file: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    found, out, err = sollol("hosts", *arguments)
    assert (found, out) == (code, "")
    assert said in err
    assert file.read_text() == INVENTORY


TAGGED = """\
hosts:
  hydra:                # fast
  desktop:
    tags: [cuda]
  attic: {tags: [cuda]}
  "pi[1:2]":
groups:
  gpu: {match: "tag:cuda"}
  pair: {match: "desktop,pi1"}
"""


def test_patterns_choose_hosts_to_change_also_those_kept_out(file: Path) -> None:
    file.write_text(TAGGED)
    assert sollol("hosts", "cordon", "tag:cuda", "hydra", "pi1,pi2")[0] == 0
    inventory = parse_inventory(file.read_bytes(), "inventory.yaml")
    assert not any(host.enabled for host in inventory.hosts)
    assert sollol("hosts", "uncordon", "gpu")[0] == 0
    inventory = parse_inventory(file.read_bytes(), "inventory.yaml")
    assert [host.name for host in inventory.hosts if host.enabled] == ["desktop", "attic"]
    assert sollol("hosts", "uncordon", "all")[0] == 0
    assert file.read_text() == TAGGED
    code, _, err = sollol("hosts", "cordon", "pair")
    assert (code, "'pi1' is one of 'pi[1:2]'; name that whole entry" in err) == (2, True)
    assert file.read_text() == TAGGED


def test_a_group_that_would_be_left_without_hosts_is_named(file: Path) -> None:
    file.write_text("hosts: {a: {tags: [x]}, b: }\ngroups: {g: {match: 'tag:x'}}\n")
    code, _, err = sollol("hosts", "rm", "a")
    assert code == 2
    assert "'a' is the only host of group 'g'; change the group in the file first" in err


def test_readonly_changes_nothing_and_a_missing_inventory_is_said(file: Path) -> None:
    for command in (("add", "b"), ("rm", "one"), ("cordon", "one"), ("uncordon", "one")):
        assert sollol("--readonly", "hosts", *command)[0] == 1
    assert file.read_text() == INVENTORY
    file.unlink()
    code, _, err = sollol("hosts", "add", "b")
    assert (code, "sollol init writes one" in err) == (5, True)


def test_hosts_of_the_ssh_config_are_listed_with_where_they_lead(
    file: Path, ssh_config: Path
) -> None:
    code, out, err = sollol("hosts", "import")
    assert (code, out.splitlines()) == (
        0,
        [
            "github.com  git@github.com",
            "attic       ml@192.0.2.9",
            "desk        me@desk:2222 via attic",
        ],
    )
    assert "sollol hosts import NAME..., or --all" in err
    assert file.read_text() == INVENTORY


def test_all_leaves_out_what_is_there_and_code_forges(file: Path, ssh_config: Path) -> None:
    code, _, err = sollol("hosts", "import", "--all")
    assert code == 0
    assert "github.com logs in as git, left out" in err
    assert "hydra is there already, skipped" in err
    assert names(file) == ["hydra", "one", "attic", "desk"]


def test_hosts_are_imported_by_name(file: Path, ssh_config: Path) -> None:
    assert sollol("hosts", "import", "attic", "github.com")[0] == 0
    assert names(file) == ["hydra", "one", "attic", "github.com"]
    code, _, err = sollol("hosts", "import", "nobody")
    assert (code, "no Host nobody in" in err) == (5, True)
