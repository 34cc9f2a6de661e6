"""All guests build with the oldest supported compiler, Debian 12's rustc 1.63."""

from __future__ import annotations

from pathlib import Path

import pytest

from images import guests, rustc

DEBIAN_RUSTC = Path("/usr/bin/rustc")


def test_guests_build_with_the_oldest_compiler() -> None:
    if not DEBIAN_RUSTC.exists():
        pytest.skip(f"{DEBIAN_RUSTC} is not installed (apt-get install rustc)")
    compiler = rustc.find(str(DEBIAN_RUSTC))
    if compiler.version != rustc.OLDEST:
        pytest.skip(f"{DEBIAN_RUSTC} is {compiler.version[0]}.{compiler.version[1]}, not 1.63")
    output = guests.REPOSITORY / "build/guests-1.63"  # kept: the next run compiles only what has changed
    built = guests.build(rustc=str(DEBIAN_RUSTC), output=output)
    assert {path.stem for path in built} == set(guests.programs())
