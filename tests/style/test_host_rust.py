"""The tests of guest code that need no VM: every src/host_tests.rs, compiled for the host and run."""

from __future__ import annotations

import pytest

from images import guests


@pytest.mark.parametrize("name", sorted(guests.host_tests()))
def test_guest_code_on_the_host(name: str) -> None:
    guests.run_host_tests([name])
