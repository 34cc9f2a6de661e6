"""`python -m tests.cli.with_fake ARGUMENT ...`: r3s3 with the fake hypervisor process."""

from __future__ import annotations

import sys

from hypervisor.policy import Policy
from images import cli
from vmm.cli import launch

launch.MODULE = "tests.cli.fake_hypervisor"
setattr(launch, "compile_policy", lambda *_: Policy("fake", (), (), ()))  # noqa: B010 (not exported)
launch.machine = lambda: {"cpus": 2, "tsc_khz": 1000, "exit_ns": 1000, "spin_ns": 10_000}

if __name__ == "__main__":
    sys.exit(cli.main())
