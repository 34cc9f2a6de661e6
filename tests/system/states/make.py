"""`python -m tests.system.states.make SCHEMA`: saves what the counter of this schema leaves.

To be run once, with the first version of that schema; from then on every later one has to understand it.
"""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
from pathlib import Path

from tests.stateful.conductor import state_of
from tests.system.stage import Stage, build_images
from tests.system.test_conversion import REGION, SAVED, STATES, data_of, started
from tests.system.test_update import renew


def save(schema: int, folder: Path) -> None:
    """Has a counter count, and takes its state."""
    with started(Stage(folder, folder / "no disk")) as chain:
        if schema > 1:
            renew("counter", "--manifest", chain.manifest(schema))
        chain.load(SAVED[schema])
        region = state_of(chain.scene, "ledger", REGION[schema])[:]
    (STATES / f"ledger-{schema}.region.gz").write_bytes(gzip.compress(region, mtime=0))
    (STATES / f"ledger-{schema}.data").write_bytes(data_of(region))


if __name__ == "__main__":
    build_images()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["R3S3_RUNTIME_DIR"] = scratch
        save(int(sys.argv[1]), Path(scratch))
