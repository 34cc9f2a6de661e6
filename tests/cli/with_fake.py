"""`python -m tests.cli.with_fake ARGUMENT ...`: r3s3 with the fake hypervisor process."""

from __future__ import annotations

import sys

from images import cli
from vmm.cli import launch

launch.MODULE = "tests.cli.fake_hypervisor"

if __name__ == "__main__":
    sys.exit(cli.main())
