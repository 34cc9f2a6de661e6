"""The command line `r3s3` with all its commands: those of `vmm.cli`, and those that build images."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command that the process was started with."""
    try:
        from vmm.cli.command import Command
        from vmm.cli.main import main as run_command
    except KeyboardInterrupt:  # before anything could be told that it ends
        return 130
    build = Command("images.image_command", "build a disk image from a directory")
    verify = Command("images.verify_command", "read every file of a directory through a system and compare")
    bed = Command(
        "images.bed.command", "run a command on a stock KVM, in an emulated machine", takes_program=True
    )
    more = {"image": build, "verify": verify, "bed": bed}
    return run_command(more=more, elsewhere="images.bed.system")


if __name__ == "__main__":
    sys.exit(main())
