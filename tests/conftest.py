"""Options of all tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.bed import IN_BED


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shard", metavar="I/N", default="0/1", help="of N runs side by side this is number I, from 0"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the tests out, so that long ones, which stand together, are shared."""
    number, of = (int(each) for each in config.getoption("--shard").split("/"))
    config.hook.pytest_deselected(items=[each for index, each in enumerate(items) if index % of != number])
    items[:] = items[number::of]


@pytest.fixture(scope="session", autouse=IN_BED)
def forked_systems() -> Iterator[None]:
    """In the bed, systems of tests need not wait for Python to start."""
    from tests.bed.forked import ForkedProcess

    substitute = SimpleNamespace(
        Popen=ForkedProcess, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vmm.cli.launch.subprocess", substitute)
        yield
