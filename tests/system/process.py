"""Entry of the hypervisor process of a system under test: `vmm.start` with a plan (`planned.py`)."""

from __future__ import annotations

import sys

from vmm.zygote import Zygote


def main() -> int:
    """As there: forks the zygote, then loads everything else."""
    zygote = Zygote(keep_out=int(sys.argv[1]))
    from tests.system import planned

    return planned.main(zygote)


if __name__ == "__main__":
    sys.exit(main())
