"""What the tests of the screens share: how rarely Python looks for garbage among their widgets."""

import gc
from collections.abc import Iterator

import pytest

THRESHOLDS = (100_000, 50, 100)  # with Python's own a fifth of the time went into looking


@pytest.fixture(autouse=True, scope="package")
def rare_collections() -> Iterator[None]:
    """Each application is thousands of objects that live as long as its test does."""
    before = gc.get_threshold()
    gc.set_threshold(*THRESHOLDS)
    yield
    gc.set_threshold(*before)
