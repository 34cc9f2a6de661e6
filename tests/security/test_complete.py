"""No crime is forgotten: each is committed in a test, and described."""

from __future__ import annotations

import inspect

from tests.security import test_alone, test_peers
from tests.security.conftest import ROOT

MISBEHAVING = ROOT / "guests/misbehaving"


def test_every_crime_is_committed_and_described() -> None:
    crimes = {file.parent.name for file in MISBEHAVING.glob("*/manifest.toml")}
    assert len(crimes) > 40
    tests = "".join(inspect.getsource(each) for each in (test_alone, test_peers))
    assert not {crime for crime in crimes if f'"{crime}"' not in tests}
    manual = (MISBEHAVING / "README.md").read_text()
    assert not {crime for crime in crimes if f"`{crime}`" not in manual}
