"""Options of all tests; how several runs side by side share them."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import groupby, islice
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.bed import IN_BED

LOCKS = Path(__file__).parents[1] / "build/tests/locks"
TAKEN_AT_ONCE = 8  # tests: few enough that all runs end together, enough to share what a module sets up


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--take-from", metavar="FOLDER", type=Path, help="run only what no run with the same folder has taken"
    )
    parser.addoption(
        "--taker", metavar="NAME", default="", help="this run's name; what it took before is its own"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Where runs share the tests: a few at a time, whoever is free takes the next."""
    folder, taker = (session.config.getoption(name) for name in ("--take-from", "--taker"))
    if folder is None or session.testsfailed or session.config.option.collectonly:
        return None
    items = taken(session.items, folder, taker)
    item = next(items, None)
    while item is not None:
        following = next(items, None)
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldstop or session.shouldfail:
            raise session.Interrupted(session.shouldstop or session.shouldfail)
        item = following
    return True


def taken(items: list[pytest.Item], folder: Path, taker: str) -> Iterator[pytest.Item]:
    """Those of `items` that are for `taker`. A link in `folder` for each few says whose they are."""
    portions = []
    for _, group in groupby(items, key=lambda item: item.path):
        while portion := list(islice(group, TAKEN_AT_ONCE)):
            portions.append(portion)
    for number, portion in enumerate(portions):
        link = folder / str(number)
        try:
            link.symlink_to(taker)  # made and written at once, whoever else tries
        except FileExistsError:
            if link.readlink().name != taker:
                continue
        yield from portion


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Of several processes of one `make test` (pytest-xdist), one alone runs where the marker asks for it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    alone = item.get_closest_marker("alone") is not None
    # Whoever waits to be alone holds up newcomers at the gate; who is in has only to finish one test.
    with ExitStack() as stack:
        with locked("gate", fcntl.LOCK_EX):
            stack.enter_context(locked("machine", fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield


@contextmanager
def locked(name: str, how: int) -> Iterator[None]:
    """Hold a lock that the processes share."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    lock = os.open(LOCKS / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, how)
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)  # a child that was forked meanwhile may have it open, too
        os.close(lock)


@pytest.fixture(scope="session", autouse=IN_BED)
def forked_systems() -> Iterator[None]:
    """In the bed, systems of tests need not wait for Python to start, and what is the same for all of them is
    found out once."""
    from tests.bed import kept
    from tests.bed.forked import ForkedProcess
    from vmm.cli.launch import machine

    substitute = SimpleNamespace(
        Popen=ForkedProcess, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vmm.cli.launch.subprocess", substitute)
        patch.setattr("vmm.cli.launch.machine", cache(machine))
        patch.setattr("vmm.document.tomllib", kept)
        patch.setattr("vmm.loader.load", kept.load)
        yield
