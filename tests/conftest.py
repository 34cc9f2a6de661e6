"""Options of all tests."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shard", metavar="I/N", default="0/1", help="of N runs side by side this is number I, from 0"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the tests out, so that long ones, which stand together, are shared."""
    number, of = (int(each) for each in config.getoption("--shard").split("/"))
    config.hook.pytest_deselected(items=[each for index, each in enumerate(items) if index % of != number])
    items[:] = items[number::of]
