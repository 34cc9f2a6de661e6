"""Entry of the hypervisor process, `python -m vmm.start FD`: forks the zygote, then loads everything else."""

from __future__ import annotations

import sys

from vmm.zygote import Zygote


def main() -> int:
    """The process's life; its exit status as `r3s3 run` documents it."""
    zygote = Zygote(keep_out=int(sys.argv[1]))
    from vmm import system_process

    return system_process.main(zygote)


if __name__ == "__main__":
    sys.exit(main())
