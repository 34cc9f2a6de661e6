"""Entry of the hypervisor process of a system under test: `vmm.start`, whose report has two things more:
`records`, every fault record in the order of the deaths, and `log`, all of it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from vmm.zygote import Zygote


def main() -> int:
    """As there: forks the zygote, then loads everything else."""
    zygote = Zygote(keep_out=int(sys.argv[1]))
    from vmm import system_process

    class TellingRun(system_process.Run):
        def report(self) -> dict[str, Any]:
            vmm = self.hypervisor
            return super().report() | {
                "records": [asdict(record) | {"registers": ""} for record in vmm.evidence.records],
                "log": [(each.component, each.epoch, each.text) for each in vmm.log.since(0)],
            }

    setattr(system_process, "Run", TellingRun)  # noqa: B010 (a type checker would refuse it)
    return system_process.main(zygote)


if __name__ == "__main__":
    sys.exit(main())
