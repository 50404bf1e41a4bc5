"""Edits of inventory.yaml: what was asked for changes, and not one character beside it."""

import re
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sollol_tui.model.errors import InputError, NotFoundError
from sollol_tui.model.inventory_edit import (
    add_host,
    enable_host,
    remove_host,
    set_value,
    unified_diff,
    unset_value,
)
from sollol_tui.model.inventory_file import parse_inventory

FILE = "inventory.yaml"
COMMENTED = """\
# the lab
version: 1

hosts:                 # by room
  # room 1
  hydra:               # nothing else needed

  desktop:
    # moved in May
    address: 192.0.2.40     # static
    tags: [cuda,  rtx3060]  # two blanks stay
    # port: 2222

  # room 2
  attic: {nice:   10, user: 'ml'}   # slow
  "pi[01:03]": {enabled: false}
    # all three on one switch
  # room 3 is empty

# who is fast
groups:
  gpu: {match: "tag:cuda"}
"""


def changes(old: str, new: str) -> list[str]:
    """The lines of a diff that begin with + or -, without its head."""
    return [line for line in unified_diff(old, new, FILE).splitlines()[2:] if line[0] in "+-"]


def names(text: str) -> list[str]:
    return [host.name for host in parse_inventory(text.encode(), FILE).hosts]


def test_a_new_host_is_one_new_line_behind_the_last() -> None:
    new = add_host(COMMENTED, "box", {"address": "192.0.2.9", "tags": ["a"]}, file=FILE)
    assert changes(COMMENTED, new) == ["+  box: {address: 192.0.2.9, tags: [a]}"]
    assert "on one switch\n  box: {" in new
    assert "\n  # room 3 is empty\n" in new


def test_a_removed_host_takes_its_own_comments_and_leaves_those_of_others() -> None:
    assert changes(COMMENTED, remove_host(COMMENTED, "pi[01:03]", file=FILE)) == [
        '-  "pi[01:03]": {enabled: false}',
        "-    # all three on one switch",
    ]
    ungrouped = COMMENTED.replace("tag:cuda", "all")
    assert changes(ungrouped, remove_host(ungrouped, "desktop", file=FILE)) == [
        "-  desktop:",
        "-    # moved in May",
        "-    address: 192.0.2.40     # static",
        "-    tags: [cuda,  rtx3060]  # two blanks stay",
        "-    # port: 2222",
    ]


def test_a_value_is_set_where_the_host_has_room_for_it() -> None:
    bare = set_value(COMMENTED, "hydra", "enabled", False, file=FILE)
    assert changes(COMMENTED, bare) == ["+    enabled: false"]
    block = set_value(COMMENTED, "desktop", "enabled", False, file=FILE)
    assert changes(COMMENTED, block) == ["+    enabled: false"]
    assert "# two blanks stay\n    enabled: false\n    # port: 2222\n" in block
    flow = set_value(COMMENTED, "attic", "enabled", False, file=FILE)
    assert changes(COMMENTED, flow) == [
        "-  attic: {nice:   10, user: 'ml'}   # slow",
        "+  attic: {nice:   10, user: 'ml', enabled: false}   # slow",
    ]
    known = set_value(COMMENTED, "pi[01:03]", "enabled", True, file=FILE)
    assert changes(COMMENTED, known) == [
        '-  "pi[01:03]": {enabled: false}',
        '+  "pi[01:03]": {enabled: true}',
    ]


def test_a_key_is_found_by_its_other_name() -> None:
    text = "hosts: {a: {ansible_host: 192.0.2.1}}\n"
    assert set_value(text, "a", "address", "192.0.2.2", file=FILE) == (
        "hosts: {a: {ansible_host: 192.0.2.2}}\n"
    )
    assert unset_value(text, "a", "address", file=FILE) == "hosts: {a: {}}\n"


@pytest.mark.parametrize(
    ("text", "added", "plainly"),
    [
        ("hosts: [a, b]", "hosts: {a: {}, b: {}, c: {port: 22}}", "hosts: [a, b, c]"),
        (
            "hosts:\n- a   # first\n- 'b'\n",
            "hosts:\n  a: {}   # first\n  'b': {}\n  c: {port: 22}\n",
            "hosts:\n- a   # first\n- 'b'\n- c\n",
        ),
        (
            "hosts:\n  - a\n  # last\n  - b  # c",
            "hosts:\n  a: {}\n  # last\n  b: {}  # c\n  c: {port: 22}",
            "hosts:\n  - a\n  # last\n  - b  # c\n  - c",
        ),
        (
            "hosts: [\n  a,  # 1, or 2\n  b   # two\n]\n",
            "hosts: {\n  a: {},  # 1, or 2\n  b: {},   # two\n  c: {port: 22}\n}\n",
            "hosts: [\n  a,  # 1, or 2\n  b,   # two\n  c\n]\n",
        ),
    ],
)
def test_a_list_becomes_a_mapping_only_when_it_must(text: str, added: str, plainly: str) -> None:
    assert add_host(text, "c", {"port": 22}, file=FILE) == added
    assert add_host(text, "c", {}, file=FILE) == plainly
    assert remove_host(plainly, "c", file=FILE) == text


def test_line_ends_and_a_byte_order_mark_stay() -> None:
    text = "\ufeffhosts:\r\n  a:   # one\r\n  b: {}\r\n"
    new = add_host(text, "c", {}, file=FILE)
    assert new == text + "  c: {}\r\n"
    assert set_value(text, "a", "nice", 5, file=FILE) == text.replace(
        "# one\r\n", "# one\r\n    nice: 5\r\n"
    )


def test_values_are_quoted_where_yaml_would_read_them_otherwise() -> None:
    new = add_host("hosts: [a]", "b", {"env": {"X": "1", "Y": "a: b", "Z": "null"}}, file=FILE)
    env = parse_inventory(new.encode(), FILE).host("b").env
    assert env == {"X": "1", "Y": "a: b", "Z": "null"}


def test_a_host_is_let_in_again_by_taking_back_what_kept_it_out() -> None:
    cordoned = set_value(COMMENTED, "desktop", "enabled", False, file=FILE)
    assert enable_host(cordoned, "desktop", file=FILE) == COMMENTED
    text = "defaults: {enabled: false}\nhosts: {a: {enabled: false}}\n"
    assert enable_host(text, "a", file=FILE).endswith("hosts: {a: {enabled: true}}\n")
    assert enable_host(COMMENTED, "hydra", file=FILE) == COMMENTED


@pytest.mark.parametrize(
    ("name", "settings_", "said"),
    [
        ("hydra", {}, "inventory.yaml  host 'hydra' is there already"),
        ("pi02", {}, "pi02  host 'pi02' is there twice"),
        ("box", {"nicee": 1}, "box  unknown key 'nicee' - did you mean 'nice'?"),
        ("box", {"password": "x"}, "box  'password': secrets do not belong in this file"),
        ("../box", {}, "../box  '../box' is not a name"),
        ("a b", {}, "a b  'a b' is not a name"),
        ("$(reboot)", {}, "$(reboot)  '$(reboot)' is not a name"),
        ("box\n  evil", {}, "is not a name"),
        ("coordinator", {}, "coordinator  'coordinator' is a reserved name"),
    ],
)
def test_a_host_that_does_not_fit_is_refused(
    name: str, settings_: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError) as refusal:
        add_host(COMMENTED, name, settings_, file=FILE)
    assert said in str(refusal.value)


def test_what_cannot_be_edited_is_said() -> None:
    with pytest.raises(InputError, match=r"'pi02' is one of 'pi\[01:03\]'; name that whole entry"):
        set_value(COMMENTED, "pi02", "enabled", False, file=FILE)
    with pytest.raises(NotFoundError, match="no host 'nobody' in inventory"):
        remove_host(COMMENTED, "nobody", file=FILE)
    with pytest.raises(InputError, match="is its only host"):
        remove_host("hosts: [a]", "a", file=FILE)
    with pytest.raises(InputError, match="'b' is the only host of group 'g'"):
        remove_host("hosts: [a, b]\ngroups: {g: {match: b}}", "b", file=FILE)
    with pytest.raises(InputError, match=r"inventory\.yaml:2:1  unknown key 'host'"):
        add_host("hosts: [a]\nhost: x\n", "b", {}, file=FILE)


@pytest.mark.parametrize(
    "text",
    [
        "hosts:\n  ? a\n  : {port: 22}\n  ? b\n  : {}\n",
        "hosts: {a: { # why\n }, b: {}}\n",
        "hosts:\n  a: {limits:\n    {cpu_cores: 2}}\n  b: {}\n",
    ],
)
def test_an_odd_notation_is_left_alone_or_changed_rightly(text: str) -> None:
    with suppress(InputError):
        assert names(remove_host(text, "a", file=FILE)) == ["b"]
    with suppress(InputError):
        assert names(add_host(text, "c", {}, file=FILE)) == ["a", "b", "c"]
    with suppress(InputError):
        new = set_value(text, "a", "enabled", False, file=FILE)
        assert not parse_inventory(new.encode(), FILE).host("a").enabled


WORDS = st.sampled_from(["# note", "# a, b: {c}", "#", "# [x] 'y'"])
VALUES = st.sampled_from(
    ["{}", "{port: 22}", "{tags: [a,  b], user: 'ml'}", '{ nice: 1 , env: {X: "1"} }']
)


@st.composite
def inventories(draw: st.DrawFn) -> str:
    """Inventories as people write them: every notation, comments and blank lines anywhere."""
    hosts = [f"h{number}" for number in range(draw(st.integers(1, 4)))]
    if draw(st.booleans()):
        hosts[-1] = f"'{hosts[-1]}'"
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    comment = st.one_of(st.just(""), WORDS.map(lambda text: f"  {text}"))
    above = st.lists(st.one_of(st.just(""), WORDS, WORDS.map(lambda t: f"  {t}")), max_size=2)
    lines = [*draw(above), *draw(st.sampled_from([[], ["version: 1"]]))]
    match draw(st.sampled_from(["list", "indented", "mapping", "blocks", "line", "lines"])):
        case "list" | "indented" as style:
            dash = "- " if style == "list" else "   -  "
            lines.append(f"hosts:{draw(comment)}")
            for host in hosts:
                lines += [*draw(above), f"{dash}{host}{draw(comment)}"]
        case "mapping":
            lines.append(f"hosts:{draw(comment)}")
            for host in hosts:
                value = draw(st.one_of(st.just(""), VALUES.map(lambda v: f" {v}")))
                lines += [*draw(above), f"    {host}:{value}{draw(comment)}"]
        case "blocks":
            lines.append(f"hosts:{draw(comment)}")
            for host in hosts:
                lines += [*draw(above), f"  {host}:{draw(comment)}", *draw(above)]
                lines += [f"    port: 22{draw(comment)}", f"    tags:{draw(comment)}", "    - a"]
        case "line":
            entries = [f"{host}: {draw(VALUES)}" for host in hosts] if draw(st.booleans()) else None
            opening, closing = ("{", "}") if entries else ("[", "]")
            ending = draw(st.sampled_from(["", " ", ",", " ,"]))
            lines.append(f"hosts: {opening}{', '.join(entries or hosts)}{ending}{closing}")
        case "lines":
            lines.append("hosts: {" + draw(comment))
            for number, host in enumerate(hosts):
                comma = "," if number < len(hosts) - 1 or draw(st.booleans()) else ""
                lines += [*draw(above), f"  {host}: {draw(VALUES)}{comma}{draw(comment)}"]
            lines.append("  }")
    lines += draw(above)
    if draw(st.booleans()):
        lines += ["groups: {g: {match: all}}", *draw(above)]
    return newline.join(lines) + draw(st.sampled_from(["", newline]))


def comments(text: str) -> list[str]:
    return re.findall(r"(?:^|(?<=\s))#[^\r\n]*", text, re.MULTILINE)


@settings(max_examples=40, deadline=None)
@given(inventories())
def test_adding_and_removing_a_host_gives_the_same_text(text: str) -> None:
    added = add_host(text, "new", {}, file=FILE)
    assert names(added) == [*names(text), "new"]
    assert comments(added) == comments(text)
    assert remove_host(added, "new", file=FILE) == text


@settings(max_examples=25, deadline=None)
@given(inventories(), st.data())
def test_a_value_comes_and_goes_and_every_comment_stays(text: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(names(text)))
    cordoned = set_value(text, name, "enabled", False, file=FILE)
    assert not parse_inventory(cordoned.encode(), FILE).host(name).enabled
    assert comments(cordoned) == comments(text)
    freed = enable_host(cordoned, name, file=FILE)
    assert parse_inventory(freed.encode(), FILE) == parse_inventory(text.encode(), FILE)
    assert comments(freed) == comments(text)


@settings(max_examples=25, deadline=None)
@given(inventories(), st.data())
def test_removing_any_host_leaves_the_others_as_they_were(text: str, data: st.DataObject) -> None:
    before = names(text)
    if len(before) == 1:
        return
    name = data.draw(st.sampled_from(before))
    after = remove_host(text, name, file=FILE)
    assert names(after) == [host for host in before if host != name]


@settings(max_examples=25, deadline=None)
@given(inventories(), st.text(max_size=12))
def test_no_name_breaks_the_file(text: str, name: str) -> None:
    try:
        added = add_host(text, name, {}, file=FILE)
    except InputError:
        return
    assert names(added) == [*names(text), name] or "[" in name
