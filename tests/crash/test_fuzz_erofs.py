"""200 mutated images, the same in every run."""

from __future__ import annotations

from pathlib import Path

from tests.crash.fuzz_erofs import campaign


def test_200_mutated_images(tmp_path: Path) -> None:
    assert campaign(200, 1, tmp_path).startswith("200 images")
