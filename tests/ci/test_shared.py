"""Runs side by side: each test is taken by one of them."""

from __future__ import annotations

from itertools import chain, zip_longest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.conftest import TAKEN_AT_ONCE, taken

ITEMS: Any = [
    SimpleNamespace(path=name, number=number)
    for name, count in (("a", 2 * TAKEN_AT_ONCE + 3), ("b", 1), ("c", TAKEN_AT_ONCE))
    for number in range(count)
]


def test_each_is_taken_once(tmp_path: Path) -> None:
    both = [taken(ITEMS, tmp_path, name) for name in ("one", "other")]
    shares = list(zip(*zip_longest(*both), strict=True))
    found = [item for item in chain(*shares) if item]
    assert len(found) == len(ITEMS) and all(item in found for item in ITEMS)
    one, other = ([item for item in share if item] for share in shares)
    assert one[:TAKEN_AT_ONCE] == ITEMS[:TAKEN_AT_ONCE]
    assert other[:TAKEN_AT_ONCE] == ITEMS[TAKEN_AT_ONCE : 2 * TAKEN_AT_ONCE]
    assert list(taken(ITEMS, tmp_path, "one")) == one  # begun again, it has what it had
    assert list(taken(ITEMS, tmp_path, "third")) == []
