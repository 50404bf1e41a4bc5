"""All workers get one revision of a model: by themselves, or from this machine's cache."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from sollol_tui.hosts.environment import Environment
from sollol_tui.hosts.hub import cached_snapshot, lacks
from sollol_tui.hosts.ssh import connect
from sollol_tui.hosts.tree import read_tree
from sollol_tui.jobs.delivery import Delivery, pace
from sollol_tui.jobs.hashes import Hashes
from sollol_tui.model.errors import CommandError, HostError, UnsuitableError
from sollol_tui.model.inventory import ConnectionKind, Host

NAME = "lab/tiny"
REVISION, OLDER = "1" * 40, "2" * 40
# The program of the workers' payload stands in the way of its libraries: this one says what a
# host's `env` tells it to.
STUB = """
import json, os, sys
json.loads(sys.stdin.readline())
answers = json.loads(os.environ["ANSWERS"])
with open(os.environ["HF_HOME"] + ".asked", "a") as file:
    file.write(" ".join(sys.argv[1:]) + chr(10))
for answer in answers.get(sys.argv[1], []):
    print(answer if isinstance(answer, str) else json.dumps({"v": 1, **answer}), flush=True)
"""


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    package = tmp_path / "payload" / "remote"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "pull.py").write_text(STUB)
    return Environment(
        python=sys.executable, payload=str(package.parent), env_id="e", payload_hash="p"
    )


@pytest.fixture
def delivery(tmp_path: Path) -> Delivery:
    return Delivery(hashes=Hashes(tmp_path / "hashes.db"))


def put_into_cache(cache: Path, revision: str = REVISION) -> Path:
    """A model as the Hub's own library leaves it."""
    repository = cache / "models--lab--tiny"
    folder = repository / "snapshots" / revision
    folder.mkdir(parents=True)
    (repository / "blobs").mkdir(exist_ok=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        blob = repository / "blobs" / f"{revision}-{name}"
        blob.write_text(f"{revision} {name}")
        (folder / name).symlink_to(f"../../blobs/{blob.name}")
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(revision)
    return folder


async def bring(
    delivery: Delivery, environment: Environment, workdir: Path, answers: Mapping[str, object]
) -> tuple[str, list[str]]:
    """Where the model is on a host that answers so, and what was said meanwhile."""
    workdir.mkdir(parents=True, exist_ok=True)
    host = Host(
        name=workdir.name, connection=ConnectionKind.LOCAL, env={"ANSWERS": json.dumps(answers)}
    )
    said: list[str] = []
    async with connect(host, []) as connection:
        place = await delivery.bring_model(connection, str(workdir), environment, NAME, said.append)
    return place, said


def asked(workdir: Path) -> list[str]:
    return (workdir / "huggingface.asked").read_text().splitlines()


UNREACHABLE = {"kind": "no_way", "reason": "no route to the Hub"}


async def test_a_worker_fetches_the_revision_that_the_first_one_found(
    delivery: Delivery, environment: Environment, tmp_path: Path
) -> None:
    answers = {
        "revision": [{"kind": "revision", "revision": REVISION}],
        "model": [
            "noise",
            {"kind": "progress", "done": 1, "total": 4},
            {"kind": "model", "path": "/x"},
        ],
    }
    place, said = await bring(delivery, environment, tmp_path / "w1", answers)
    assert place == "/x"
    assert said[-1] == "lab/tiny from the Hub: 25% 1 B of 4 B"
    await bring(delivery, environment, tmp_path / "w2", {**answers, "revision": []})
    assert asked(tmp_path / "w1") == [f"revision {NAME}", f"model {NAME} {REVISION}"]
    assert asked(tmp_path / "w2") == [f"model {NAME} {REVISION}"]


async def test_a_worker_without_a_way_out_gets_this_machines_copy_of_the_same_revision(
    delivery: Delivery, environment: Environment, tmp_path: Path, isolated_home: Path
) -> None:
    folder = put_into_cache(isolated_home / ".cache/huggingface/hub")
    place, _ = await bring(delivery, environment, tmp_path / "w1", {"model": [UNREACHABLE]})
    assert place == f"{tmp_path}/w1/models/{read_tree(folder).sha256}"
    assert (Path(place) / "model.safetensors").read_text() == f"{REVISION} model.safetensors"
    assert not (Path(place) / "model.safetensors").is_symlink()
    assert asked(tmp_path / "w1") == [f"model {NAME} {REVISION}"]  # pinned by the copy here


async def test_without_any_way_one_sentence_names_host_model_and_both_remedies(
    delivery: Delivery, environment: Environment, tmp_path: Path
) -> None:
    for answers in (
        {"revision": [UNREACHABLE]},
        {"revision": [{"kind": "revision", "revision": REVISION}], "model": [UNREACHABLE]},
    ):
        with pytest.raises(HostError) as refusal:
            await bring(delivery, environment, tmp_path / "w1", answers)
        assert str(refusal.value) == (
            "w1: cannot fetch lab/tiny from the Hub: no route to the Hub, and this machine's Hub "
            "cache does not hold it; fetch it here with `hf download lab/tiny`, or give the host a "
            "way out (env of the host: HF_ENDPOINT, HTTPS_PROXY)"
        )


@pytest.mark.parametrize(
    "answers",
    [
        {"revision": []},
        {"revision": [{"kind": "revision", "revision": "../../x"}]},
        {"revision": [{"kind": "revision", "revision": REVISION}], "model": []},
        {
            "revision": [{"kind": "revision", "revision": REVISION}],
            "model": [{"kind": "model", "path": "not/absolute"}],
        },
    ],
)
async def test_nonsense_from_a_host_is_told(
    delivery: Delivery, environment: Environment, tmp_path: Path, answers: Mapping[str, object]
) -> None:
    with pytest.raises(CommandError, match="gave no answer about lab/tiny"):
        await bring(delivery, environment, tmp_path / "w1", answers)


async def test_what_the_hub_refuses_is_told_with_its_remedy(
    delivery: Delivery, environment: Environment, tmp_path: Path
) -> None:
    refusal = {"kind": "refused", "reason": "it needs an HF_TOKEN\x1b[2J"}
    with pytest.raises(UnsuitableError, match="cannot fetch lab/tiny: it needs an HF_TOKEN;"):
        await bring(delivery, environment, tmp_path / "w1", {"revision": [refusal]})


def test_the_cache_is_where_the_hubs_own_library_has_it(
    tmp_path: Path, isolated_home: Path
) -> None:
    places: dict[Path, dict[str, str]] = {
        isolated_home / ".cache/huggingface/hub": {},
        tmp_path / "xdg/huggingface/hub": {"XDG_CACHE_HOME": f"{tmp_path}/xdg"},
        tmp_path / "home/hub": {"HF_HOME": f"{tmp_path}/home"},
        tmp_path / "own": {"HF_HUB_CACHE": f"{tmp_path}/own", "HF_HOME": "/nowhere"},
    }
    for cache, environ in places.items():
        assert cached_snapshot(NAME, environ=environ) is None
        folder = put_into_cache(cache)
        found = cached_snapshot(NAME, environ=environ)
        assert found is not None
        assert (found.folder, found.revision) == (folder, REVISION)


def test_only_a_whole_snapshot_counts(tmp_path: Path) -> None:
    environ = {"HF_HUB_CACHE": str(tmp_path)}
    put_into_cache(tmp_path, OLDER)
    folder = put_into_cache(tmp_path)
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert lacks(folder) == ["model-2.safetensors"]
    assert cached_snapshot(NAME, environ=environ) is None
    assert cached_snapshot(NAME, OLDER, environ=environ) is not None
    (folder / "model.safetensors.index.json").write_text("[]")
    assert cached_snapshot(NAME, environ=environ) is None


def test_a_transfer_is_told_with_speed_and_end_once_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, said = 100.0, []
    monkeypatch.setattr("time.monotonic", lambda: now)
    report = pace("model", said.append)
    for done in range(8):
        report((4 + done) * 2**20, 20 * 2**20)
        now += 0.5
    assert said == [
        "model: 20% 4.0 MiB of 20.0 MiB",
        "model: 30% 6.0 MiB of 20.0 MiB",
        "model: 40% 8.0 MiB of 20.0 MiB, 2.0 MiB/s, 6s left",
        "model: 50% 10.0 MiB of 20.0 MiB, 2.0 MiB/s, 5s left",
    ]
