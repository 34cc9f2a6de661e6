"""The bed: a stock kernel with its own KVM, in an emulated machine, in which this host's files are seen.

Exceptions: BedError, a CommandError (its message says what, where, what to do; `status` the exit status), and
of it BedStalled.
"""

from __future__ import annotations

from vmm.cli.command import FAILED, CommandError


class BedError(CommandError):
    """There is no bed to be had, or it has failed. Last lines of its console follow where they may help."""

    def __init__(self, message: str, status: int = FAILED, console: str = "") -> None:
        lines = f"\nlast lines of its console:\n{console}" if console else ""
        super().__init__(message + lines, status)


class BedStalled(BedError):
    """The machine stands still: not what runs in it, but QEMU has hung. It may be tried again."""
