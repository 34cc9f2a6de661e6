"""Entry of the hypervisor process of a benchmark: `vmm.start` with more in its report (`samples.py`)."""

from __future__ import annotations

import sys

from vmm.zygote import Zygote


def main() -> int:
    """As there: forks the zygote, then loads everything else."""
    zygote = Zygote(keep_out=int(sys.argv[1]))
    from tests.bench import samples

    return samples.main(zygote)


if __name__ == "__main__":
    sys.exit(main())
