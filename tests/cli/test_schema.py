"""`sollol schema`: an editor accepts what sollol accepts and marks what it refuses."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sollol_tui.model.document import read_document
from sollol_tui.model.errors import InputError
from sollol_tui.model.inventory_file import parse_inventory
from sollol_tui.model.job_file import parse_job_file
from sollol_tui.model.other_trainers import ALIASES, FOREIGN
from sollol_tui.model.spec import PARTS, job_keys
from tests.cli.shell import sollol

CHECKOUT = Path(__file__).resolve().parents[2]
STARTER = CHECKOUT / "sollol_tui" / "starter"


def validator(kind: str) -> jsonschema.Draft202012Validator:
    code, out, err = sollol("schema", kind)
    assert (code, err) == (0, "")
    schema = json.loads(out)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def data(text: str) -> Any:
    return read_document(text.encode(), "file").data


@pytest.mark.parametrize("file", [CHECKOUT / "inventory.yaml", STARTER / "inventory.yaml"])
def test_the_example_inventories_fit_their_schema(file: Path) -> None:
    validator("inventory").validate(data(file.read_text()))


def test_the_example_job_fits_its_schema() -> None:
    validator("job").validate(data((STARTER / "train.yaml").read_text()))


INVENTORIES = [
    "hosts: [hydra, 10.0.0.12]",
    "hosts:\n  hydra:\n  'pi[01:03]': {enabled: false}\n",
    "version: 1\nhosts: {a: {hostname: b.lan, ansible_port: 22, tags: [x]}}\n",
    "hosts: {a: {connect_timeout: 10s}, b: {connect_timeout: 1.5}, c: {connect_timeout: 500ms}}",
    "hosts: {a: {env: {A: '1', B: 2, C: true}, limits: {gpu_ids: [], cpu_cores: 1, ram_gb: 0.5}}}",
    "hosts: {a: {connection: local, workdir: ~/x, address: null}}\ndefaults:\ngroups:\nnetwork:\n",
    "hosts: [a]\ngroups: {g: {match: [a], nice: 5}, h: {match: all}}\npackages: {index_url: null}",
    "hosts: [a]\nnetwork: {cidr: 192.0.2.0/24, ports: 29500-29549}\n",
]
WRONG_INVENTORIES = [
    "host: [a]",
    "hosts: []",
    "hosts: {}",
    "hosts: [-a]",
    "hosts: ['a b']",
    "hosts: {../a: {}}",
    "hosts: {a: {adress: b}}",
    "hosts: {a: {port: 70000}}",
    "hosts: {a: {port: soon}}",
    "hosts: {a: {address: '-oProxyCommand=sh'}}",
    "hosts: {a: {connect_timeout: soon}}",
    "hosts: {a: {connect_timeout: 0}}",
    "hosts: {a: {workdir: rel/ative}}",
    "hosts: {a: {nice: 20}}",
    "hosts: {a: {tags: x y}}",
    "hosts: {a: {env: {HF_TOKEN: x}}}",
    "hosts: {a: {env: {A B: x}}}",
    "hosts: {a: {limits: {gpus: [0]}}}",
    "hosts: {a: {password: x}}",
    "hosts: [a]\nversion: 2",
    "hosts: [a]\ngroups: {g: {tags: [x]}}",
    "hosts: [a]\nnetwork: {ports: 29500}",
    "hosts: [a]\npackages: {torch_backend: rocm}",
]
JOBS = [
    "model: m\ndataset: d\n",
    "base_model: m\ndataset: d\nlora_r: 16\nlora.alpha: 32\nlr: 1e-4\nglobal_batch: auto\n",
    "model: m\ndataset: d\nlora: {r: 8, target: [q_proj]}\nformat: {text: body}\n",
    "model: m\ndataset: d\nload_in_4bit: true\nbf16: auto\nlr_scheduler: constant_with_warmup\n",
]
WRONG_JOBS = [
    "model: m\n",
    "dataset: d\n",
    "model: m\ndataset: d\nbatchsize: 4\n",
    "model: m\ndataset: d\nepochs: 0\n",
    "model: m\ndataset: d\nwire: fp8\n",
    "model: m\ndataset: d\nlora: {rank: 8}\n",
    "model: m\ndataset: d\nglobal_batch: some\n",
    "model: m\ndataset: d\nlora_r: 0\n",
    "model: m\ndataset: d\nload_in_8bit: true\n",
    "model: m\ndataset: d\nlr_scheduler_type: cosine_with_restarts\n",
]


@pytest.mark.parametrize("text", INVENTORIES)
def test_what_the_reader_takes_the_schema_takes(text: str) -> None:
    parse_inventory(text.encode(), "inventory.yaml")
    validator("inventory").validate(data(text))


@pytest.mark.parametrize("text", WRONG_INVENTORIES)
def test_what_the_reader_refuses_the_schema_refuses(text: str) -> None:
    with pytest.raises(InputError):
        parse_inventory(text.encode(), "inventory.yaml")
    assert not validator("inventory").is_valid(data(text))


@pytest.mark.parametrize("text", JOBS)
def test_jobs_that_are_taken_fit_the_schema(text: str) -> None:
    parse_job_file(text.encode(), "train.yaml")
    validator("job").validate(data(text))


@pytest.mark.parametrize("text", WRONG_JOBS)
def test_jobs_that_are_refused_do_not_fit_the_schema(text: str) -> None:
    with pytest.raises(InputError):
        parse_job_file(text.encode(), "train.yaml")
    assert not validator("job").is_valid(data(text))


def test_every_key_is_explained() -> None:
    job, inventory = validator("job").schema, validator("inventory").schema
    keys = {*job_keys(), *ALIASES, *FOREIGN, *PARTS}
    assert keys == set(job["properties"])
    unexplained = [
        f"{place}.{key}"
        for place, properties in (
            ("job", job["properties"]),
            ("lora", job["$defs"]["Lora"]["properties"]),
            ("teacher", job["$defs"]["Teacher"]["properties"]),
            ("students", job["$defs"]["Student"]["properties"]),
            ("inventory", inventory["properties"]),
            ("host", inventory["$defs"]["Host"]["properties"]),
            ("limits", inventory["$defs"]["LimitSettings"]["properties"]),
            ("network", inventory["properties"]["network"]["properties"]),
            ("packages", inventory["properties"]["packages"]["properties"]),
        )
        for key, schema in properties.items()
        if not schema.get("description")
    ]
    assert unexplained == []


def test_only_the_two_files_have_schemas() -> None:
    code, out, err = sollol("schema", "neither")
    assert (code, out) == (2, "")
    assert "'inventory', 'job'" in err
