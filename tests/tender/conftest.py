"""A zygote for each test module, and tenders that end with their test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tender.system import System, close_all


@pytest.fixture(scope="module")
def zygote() -> Iterator[System]:
    """One zygote for all tests of a module."""
    system = System()
    yield system
    system.close()


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """What a test has made and not closed ends with it, after its tenders."""
    yield
    close_all()


@pytest.fixture
def system(zygote: System) -> Iterator[System]:
    """The module's zygote; guests made through it end with the test."""
    yield zygote
    for guest in zygote.guests:
        guest.close()
    zygote.guests.clear()
