"""Worker patterns: who is meant by `3`, `all`, a name, a group, a tag, and by what is left out."""

import pytest

from sollol_tui.model.errors import NotFoundError
from sollol_tui.model.inventory_file import parse_inventory
from sollol_tui.model.patterns import select

INVENTORY = parse_inventory(
    b"hosts:\n"
    b"  hydra: {tags: [cuda]}\n"
    b"  desktop: {tags: [cuda]}\n"
    b"  attic:\n"
    b"  asleep: {enabled: false, tags: [cuda]}\n"
    b"  laptop: {connection: local}\n"
    b"groups:\n"
    b"  up: {match: 'attic,hydra'}\n",
    "inventory.yaml",
)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("all", "hydra desktop attic"),
        ("2", "hydra desktop attic"),
        ("attic,hydra", "hydra attic"),
        ("up", "hydra attic"),
        ("tag:cuda", "hydra desktop"),
        ("!desktop", "hydra attic"),
        ("all,!tag:cuda", "attic"),
        ("tag:cuda,asleep", "hydra desktop asleep"),
        ("laptop,attic", "attic laptop"),
        ("coordinator", "coordinator"),
        ("hydra,coordinator", "hydra coordinator"),
        (" hydra , attic ", "hydra attic"),
    ],
)
def test_a_pattern_means_these_hosts_in_the_inventorys_order(pattern: str, names: str) -> None:
    assert [host.name for host in select(INVENTORY, pattern).hosts] == names.split()


def test_a_number_is_exactly_that_many() -> None:
    assert (select(INVENTORY, "2").at_most, select(INVENTORY, "2").at_least) == (2, 2)
    assert (select(INVENTORY, "all").at_most, select(INVENTORY, "all").at_least) == (None, 1)


UNKNOWN = ["nobody", "tag:rocm", "hydra,nobody", "!nobody", "0", "-1", "²"]


@pytest.mark.parametrize("pattern", UNKNOWN)
def test_a_part_that_fits_nobody_is_refused_with_what_there_is(pattern: str) -> None:
    with pytest.raises(NotFoundError, match="it has: hydra, desktop, attic"):
        select(INVENTORY, pattern)


@pytest.mark.parametrize("pattern", ["hydro", "hydra,hydro", "!hydro"])
def test_a_part_that_nearly_fits_is_met_with_the_nearest(pattern: str) -> None:
    with pytest.raises(NotFoundError, match=r"'hydro' in .* - did you mean 'hydra'"):
        select(INVENTORY, pattern)


def test_local_hosts_are_all_there_is_where_there_are_no_others() -> None:
    local = parse_inventory(b"hosts: {a: {connection: local}, b: {connection: local}}", "i.yaml")
    assert [host.name for host in select(local, "all").hosts] == ["a", "b"]
