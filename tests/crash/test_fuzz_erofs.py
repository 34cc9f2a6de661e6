"""Mutated images, the same in every run: 200 each time, 10,000 in a campaign."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.fuzz_erofs import campaign
from tests.system.plan import seeds


def test_200_mutated_images(tmp_path: Path) -> None:
    assert campaign(200, 1, tmp_path).startswith("200 images")


@pytest.mark.campaign
@pytest.mark.parametrize("seed", seeds(1))
def test_10_000_mutated_images(tmp_path: Path, seed: int) -> None:
    assert campaign(10_000, seed, tmp_path).startswith("10000 images")
