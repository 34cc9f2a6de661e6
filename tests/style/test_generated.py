"""Generated files are what their generators make of their sources."""

from __future__ import annotations

import importlib

import pytest

from ci.build import GENERATORS


@pytest.mark.parametrize("generator", GENERATORS)
def test_generated_files_are_up_to_date(generator: str) -> None:
    assert importlib.import_module(generator).main(["--check"]) == 0
