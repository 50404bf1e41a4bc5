"""inventory.yaml: what may stand in it, and how each mistake is told with its place."""

import time
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sollol_tui.jobs.records import dump, load
from sollol_tui.model.errors import InputError, NotFoundError
from sollol_tui.model.inventory import ConnectionKind, Inventory, TorchBackend
from sollol_tui.model.inventory_file import parse_inventory

WHOLE = """\
version: 1
defaults:                        # weaker than a group, which is weaker than the host itself
  workdir: ~/.sollol
  connect_timeout: 10s
hosts:
  hydra:                         # nothing else needed
  desktop:
    address: 192.168.1.40
    port: 2222
    user: ml
    identity_file: ~/.ssh/lab_ed25519
    tags: [cuda, rtx3060]
    limits: {gpu_ids: [0], cpu_cores: 8, ram_gb: 24}
  attic: {address: 10.8.0.7, proxy_jump: bastion, internal_ip: 10.20.0.7, env: {OFFLINE: "1"}}
  old-xeon: {tags: [cpu], nice: 10}
  "pi[01:03]": {enabled: false}
  laptop: {connection: local, limits: {cpu_cores: 4}}
groups:
  gpu: {match: "tag:cuda"}
network: {cidr: 192.168.1.0/24, ports: 29500-29549}
packages: {index_url: null, find_links: null, torch_backend: auto}
"""


def parsed(text: str) -> Inventory:
    return parse_inventory(text.encode(), "inventory.yaml")


def complaint(text: str) -> str:
    with pytest.raises(InputError) as refusal:
        parsed(text)
    return str(refusal.value)


def test_everything_that_may_stand_in_the_file_is_read() -> None:
    inventory = parsed(WHOLE)
    names = ["hydra", "desktop", "attic", "old-xeon", "pi01", "pi02", "pi03", "laptop"]
    assert [host.name for host in inventory.hosts] == names
    hydra, desktop, attic = (inventory.host(name) for name in names[:3])
    assert (hydra.address, hydra.port, hydra.user) == (None, None, None)
    assert (desktop.address, desktop.port, desktop.user) == ("192.168.1.40", 2222, "ml")
    assert (desktop.tags, desktop.groups) == (("cuda", "rtx3060"), ("gpu",))
    limits = desktop.limits
    assert (limits.gpu_ids, limits.cpu_cores, limits.ram_gb) == ((0,), 8, 24)
    assert (attic.proxy_jump, attic.internal_ip) == ("bastion", "10.20.0.7")
    assert attic.env == {"OFFLINE": "1"}
    assert inventory.host("old-xeon").nice == 10
    assert not inventory.host("pi02").enabled
    assert inventory.host("laptop").connection is ConnectionKind.LOCAL
    assert (inventory.network.cidr, inventory.network.ports) == ("192.168.1.0/24", (29500, 29549))
    assert inventory.packages.torch_backend is TorchBackend.AUTO


def test_the_shortest_inventory_is_a_list_of_hosts() -> None:
    inventory = parsed("hosts: [hydra, 10.0.0.12]")
    assert [host.name for host in inventory.hosts] == ["hydra", "10.0.0.12"]


def test_a_host_is_stronger_than_its_group_and_that_than_the_defaults() -> None:
    inventory = parsed(
        "defaults: {user: d, nice: 1, env: {A: d, B: d}, limits: {cpu_cores: 2}}\n"
        "groups: {g: {match: [one, two], user: g, env: {B: g}}}\n"
        "hosts: {one: {user: h, limits: {ram_gb: 4}}, two: , three: }\n"
    )
    one, two, three = inventory.hosts
    assert [host.user for host in (one, two, three)] == ["h", "g", "d"]
    assert one.env == {"A": "d", "B": "g"}
    assert (one.limits.cpu_cores, one.limits.ram_gb) == (2, 4)
    assert three.nice == 1


def test_what_other_tools_call_an_address_is_understood() -> None:
    inventory = parsed("hosts: {a: {hostname: 10.0.0.1}, b: {ansible_host: b.lan}}")
    assert [host.address for host in inventory.hosts] == ["10.0.0.1", "b.lan"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hosts:\n  a:\n    adress: x\n", "3:5  unknown key 'adress' - did you mean 'address'?"),
        ("host: [a]\n", "1:1  unknown key 'host' - did you mean 'hosts'?"),
        ("hosts: [a]\nnetwork: {port: 1}\n", "2:11  unknown key 'port' - did you mean 'ports'?"),
        (
            "hosts: [a]\npackages:\n  index: x\n",
            "3:3  unknown key 'index' - did you mean 'index_url'?",
        ),
        ("hosts: [a]\nnetwork: {ports: 10}\n", "2:11  ports: write a range of ports like 29500-"),
        ("hosts:\n  a: {port: 99999}\n", "2:7  port: "),
        ("hosts:\n  a: {port: 22:22}\n", "2:7  port: "),
        ("hosts:\n  a: {nice: soon}\n", "2:7  nice: "),
        ("hosts:\n  a: {limits: {gpus: [0]}}\n", "2:16  unknown key 'gpus' - did you mean 'gpu_"),
        ("hosts:\n  a: {workdir: rel/ative}\n", "2:7  workdir: write an absolute path"),
        ("hosts:\n  a: {connect_timeout: soon}\n", "2:7  connect_timeout: 'soon' is not a durat"),
        ("hosts:\n  a: {address: -oProxyCommand=sh}\n", "2:7  address: '-oProxyCommand=sh' is not"),
        ("hosts:\n  a: {user: 'x; reboot'}\n", "2:7  user: 'x; reboot' is not a host name"),
        ("hosts:\n  a: {password: x}\n", "2:7  'password': secrets do not belong in this file"),
        ("hosts:\n  a: {env: {HF_TOKEN: x}}\n", "2:7  env: HF_TOKEN is a secret"),
        ("hosts:\n  a: {env: {'A B': x}}\n", "2:7  env: 'A B' is not the name of an environment"),
        ("hosts:\n  - a\n  - a\n", "3:5  host 'a' is there twice"),
        ("hosts:\n  a: {port: 1}\n  a: {port: 2}\n", "3:3  found duplicate key"),
        (
            "hosts:\n  01: {}\n",
            "2:3  a key is text; put it into quotes: without them it reads as 1",
        ),
        ("hosts: {a: , null: }\n", "1:14  a key is text; put it into quotes: without them it r"),
        ("hosts: [a, 01]\n", "1:12  a name is text; put it into quotes: without them it is 1"),
        ("hosts: [a, '3']\n", "1:12  '3' means that many workers; give it a name with a letter"),
        ("hosts:\n  ../a: {}\n", "2:3  '../a' is not a name"),
        ("hosts:\n  coordinator: {}\n", "2:3  'coordinator' is a reserved name"),
        ("hosts:\n  all: {}\n", "2:3  'all' is a reserved name"),
        ("hosts: []\n", "1:1  names no host"),
        ("hosts: {a: }\ngroups:\n  g: {match: b}\n", "3:3  group 'g': no host or group fits 'b'"),
        ("hosts: {a: }\ngroups:\n  g: {tags: [x]}\n", "3:3  group 'g' needs match"),
        ("version: 2\nhosts: [a]\n", "1:1  version 2 is not known"),
        ("- a\n- b\n", "1:1  holds no mapping"),
        ("# empty\n", "  holds no mapping"),
        ("hosts: [a\n", "2:1  "),
        ("hosts: &x [a]\nmore: *x\n", "1:8  anchors and aliases are not used here"),
        ("hosts: !!python/object/apply:os.system [x]\n", "1:8  tags are not used here"),
        ("hosts:\n  a: {<<: {port: 22}}\n", "2:7  merge keys (<<) are not used here"),
        (
            "hosts:\n  'a[0:999][0:999][0:999]': {}\n",
            "2:3  'a[0:999][0:999][0:999]' stands for more ",
        ),
        ("hosts:\n  'a[0:9999]': {}\n", "2:3  'a[0:9999]' stands for more than 1000 hosts; split"),
        ("hosts:\n  'pi[03:01]': {}\n", "2:3  'pi[03:01]' goes down; write the smaller number f"),
        ("hosts:\n  a: {address: node1..lan}\n", "2:7  address: 'node1..lan' is no host name: a "),
        ("hosts:\n  a: {address: .}\n", "2:7  address: '.' is no host name"),
        ("hosts:\n  a: {address: " + "a" * 64 + "}\n", "2:7  address: 'aaaa"),
        ("hosts:\n  a: {address: '[::1]'}\n", "2:7  address: write ::1, without brackets"),
        ("hosts:\n  a: {address: '1.2.3.4:22'}\n", "2:7  address: write 1.2.3.4; port is its own "),
        ("hosts:\n  a: {address: '[::1]:22'}\n", "2:7  address: write ::1; port is its own key"),
        ("hosts:\n  a: {address: ml@1.2.3.4}\n", "2:7  address: write 1.2.3.4; user is its own "),
        ("hosts:\n  a: {address: 10.0.0.0/8}\n", "2:7  address: '10.0.0.0/8' is a network, and "),
        ("hosts:\n  a: {address: 300.1.1.1}\n", "2:7  address: '300.1.1.1' is no IP address"),
        ("hosts:\n  a: {internal_ip: bananas}\n", "2:7  internal_ip: 'bananas' is no IP address"),
        ("hosts:\n  a: {proxy_jump: ',,'}\n", "2:7  proxy_jump: ',,' names no host"),
        ("hosts:\n  a: {proxy_jump: 'h:99999'}\n", "2:7  proxy_jump: 'h:99999' is not [user@]ho"),
        ("hosts:\n  a: {proxy_jump: 'a..b'}\n", "2:7  proxy_jump: 'a..b' is no host name"),
        ("hosts:\n  a: {proxy_jump: b}\n  b: {proxy_jump: a}\n", "3:7  proxy_jump: a -> b -> a g"),
        ("hosts:\n  a: {proxy_jump: ml@a}\n", "2:7  proxy_jump: a -> a goes in a circle"),
        (
            "hosts: {a: {proxy_jump: b}, b: {connection: local}}\n",
            "1:13  proxy_jump: b is this mac",
        ),
        ("hosts: [a]\nnetwork: {cidr: banana}\n", "2:11  cidr: 'banana' is no network; write one "),
        ("hosts: [a]\nnetwork: {cidr: 1.2.3.4/99}\n", "2:11  cidr: '1.2.3.4/99' is no network"),
        ("hosts: [a]\nnetwork: {cidr: 1.2.3.4}\n", "2:11  cidr: '1.2.3.4' is no network"),
        ("hosts: [a]\nnetwork: {ports: 9-10}\n", "2:11  ports: write them from 1024 to 65535"),
        ("hosts:\n  a: {tags: cuda}\n", "2:7  tags: write a list, like [a, b], not 'cuda'"),
        ("hosts:\n  a: {tags: [x, {}]}\n", "2:17  tags[1]: write a text, not {}"),
        ("hosts:\n  a: {limits: {gpu_ids: [x]}}\n", "2:26  gpu_ids[0]: write a whole number, not "),
        ("hosts:\n  a: {limits: {gpu_ids: [0, 99]}}\n", "2:29  gpu_ids[1]: input should be less "),
        ("hosts:\n  a: {limits: 3}\n", "2:7  limits: write keys and values, like {KEY: VALUE},"),
        ("hosts:\n  a: {limits: {ram_gb: much}}\n", "2:16  ram_gb: write a number, not 'much'"),
        ("hosts:\n  a: {enabled: perhaps}\n", "2:7  enabled: write true or false, not 'perhaps'"),
        ("hosts: " + "[" * 30, "1:27  nested deeper than 20"),
        ("hosts: [a]\n? {x: y}\n: c\n", "2:3  a key is one word or text"),
        ("hosts: [a]\nmore: &m {x: *m}\n", "2:7  anchors and aliases are not used here"),
        ("hosts: [a]\n---\nhosts: [b]\n", "2:1  but found another document"),
        ("hosts:\n  - a\x00b\n", "2:6  the character U+0000 is not allowed"),
        ("hosts: [a, b\x1b]\n", "1:13  the character U+001B is not allowed"),
        ("hosts:\n  - a\n  - 'b c'\n", "3:5  'b c' is not a name"),
        ("hosts:\n  - $(reboot)\n", "2:5  '$(reboot)' is not a name"),
        ("hosts:\n  - `id`\n", "2:5  "),
        ('hosts:\n  "a\\nb": {}\n', "2:3  'a\\nb' is not a name"),
        ('hosts:\n  "a\\e[2J": {}\n', "2:3  'a\\x1b[2J' is not a name"),
        ("hosts:\n  ..: {}\n", "2:3  '..' is not a name"),
        ("hosts:\n  a/b: {}\n", "2:3  'a/b' is not a name"),
        ("hosts:\n  -oProxyCommand=sh: {}\n", "2:3  '-oProxyCommand=sh' is not a name"),
        ("hosts:\n  " + "a" * 64 + ": {}\n", "2:3  'aaaa"),
        ('hosts:\n  a: {workdir: "/x\\ny"}\n', "2:7  workdir: write an absolute path"),
        ('hosts:\n  a: {env: {X: "a\\0b"}}\n', "2:7  env: 'a\\x00b' is not text"),
        ("hosts:\n  a: {connection: telnet}\n", "2:7  connection: "),
        ("hosts:\n  a: {enabled: 22:22}\n", "2:7  enabled: "),
    ],
)
def test_each_mistake_is_told_with_its_place(text: str, said: str) -> None:
    assert f"inventory.yaml{said if said.startswith(' ') else ':' + said}" in complaint(text)


@pytest.mark.parametrize(
    "address", ["node1", "node_1.lan", "node1.lan.", "192.0.2.7", "::1", "fe80::1%eth0", "a" * 63]
)
def test_names_and_addresses_that_can_work_are_taken(address: str) -> None:
    assert parsed(f"hosts:\n  a: {{address: '{address}'}}\n").hosts[0].address == address


def test_a_jump_is_a_host_of_the_inventory_where_it_has_one_of_that_name() -> None:
    inventory = parsed(
        "defaults: {proxy_jump: outer}\n"
        "hosts: {outer: {address: 192.0.2.1}, inner: , a: {proxy_jump: 'ml@inner:22,other'}}\n"
    )
    outer, inner, a = inventory.hosts
    assert (outer.proxy_jump, outer.jump_hosts) == (None, ())  # it is no jump of its own
    assert (inner.proxy_jump, inner.jump_hosts) == ("outer", (outer,))
    assert a.jump_hosts == (inner,)
    assert load(Inventory, dump(inventory)) == inventory


def test_a_long_chain_of_jumps_is_refused() -> None:
    hosts = ", ".join(f"h{n}: {{proxy_jump: h{n + 1}}}" for n in range(2000))
    assert "through more than 8 hosts" in complaint(f"hosts: {{{hosts}, h2000: }}")


def test_the_shared_network_is_known_to_every_host() -> None:
    inventory = parsed("hosts: [a]\nnetwork: {cidr: 192.0.2.9/24}\n").with_coordinator()
    assert [host.cidr for host in inventory.hosts] == ["192.0.2.0/24"] * 2


def test_a_secret_that_is_there_twice_is_not_shown() -> None:
    raw = b"hosts:\n  a: {env: {HF_TOKEN: hf_one, HF_TOKEN: hf_two}}\n"
    with pytest.raises(InputError) as failure:
        parse_inventory(raw, "inventory.yaml")
    said = str(failure.value)
    assert said.startswith("inventory.yaml:2:")
    assert said.endswith('found duplicate key "HF_TOKEN"')


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    lines = complaint(
        "verson: 1\nhosts:\n  a: {prot: 22}\n  b: {tag: [x]}\nnetwork: {ports: x}\n"
    ).splitlines()
    assert [line.split(":")[1] for line in lines] == ["1", "3", "4", "5"]


def test_bytes_that_are_no_text_are_named_with_their_line() -> None:
    with pytest.raises(InputError, match=r"inventory\.yaml:2:1  is not UTF-8 text"):
        parse_inventory(b"hosts:\n  \xff: {}\n", "inventory.yaml")


def test_another_encoding_is_named() -> None:
    with pytest.raises(InputError, match=r"inventory\.yaml:1:1  is not UTF-8 text"):
        parse_inventory("hosts: [a]".encode("utf-16"), "inventory.yaml")


def test_a_huge_file_is_refused_without_reading_it() -> None:
    huge = b"a: b\n" * 2_000_000
    began = time.thread_time()
    with pytest.raises(InputError, match="at most 1,000,000 are read"):
        parse_inventory(huge, "inventory.yaml")
    assert time.thread_time() - began < 0.2


def test_a_yaml_bomb_does_not_go_off() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "anchors and aliases" in complaint(bomb)


def test_a_missing_host_is_told_with_those_there_are() -> None:
    with pytest.raises(NotFoundError, match=r"no host 'c' in inventory\.yaml; it has: a, b"):
        parsed("hosts: [a, b]").host("c")


PIECES = st.sampled_from(
    [*"{}[]:,-?!&*#|>'\"%@` \n\t", "\n  ", "hosts:", "a: ", "port: ", "22", "groups: ", "match: ",
     "env: ", "<<: ", "limits: ", "1e400", ".nan", "~", "2001-01-01", "0o17", "? ", "- ", "---\n",
     "[0:9]", "tags: ", "\u2028", "\x00", "é", "%YAML 9.9\n", "!!set ", "workdir: ", "/x"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=25).map("".join))
@example("? [a, b]\n: c\nhosts: [x]\n")
@example("? :\u2028? ")
@example("hosts:\n  <<: {a: }\n")
@example("hosts: {2001-01-01: {port: 2001-01-01}}\n")
@example("hosts: {a: {limits: 2001-01-01T00:00:00Z}}\n")
@example("%YAML 9.9\n---\nhosts: [a]\n")
@example("hosts: {null: , 1.5: , true: }\n")
@example("hosts: [[a], {b: c}, null]\n")
def test_no_text_crashes_the_reader(text: str) -> None:
    with suppress(InputError):
        parsed(text)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
@example(b"+_")
def test_no_bytes_crash_the_reader(raw: bytes) -> None:
    with suppress(InputError):
        parse_inventory(raw, "inventory.yaml")


def test_a_password_in_a_mirrors_address_is_refused() -> None:
    text = b"hosts: [a]\npackages: {index_url: 'https://me:hunter2@mirror.example/simple'}\n"
    with pytest.raises(InputError) as caught:
        parse_inventory(text, "inventory.yaml")
    said = str(caught.value)
    assert said.startswith("inventory.yaml:2:12")
    assert "netrc" in said
    assert "hunter2" not in said
