"""The zygote as the hypervisor process holds it. Imports next to nothing: it is forked before all else.

The first is forked, so that both processes import what they need at the same time; later ones are started
afresh, for by then the hypervisor process has opened too much.
"""

from __future__ import annotations

import os
import signal
import socket
import sys


class Zygote:
    """The warm process all others are forked from; `sock` is our end of its socket."""

    def __init__(self, keep_out: int) -> None:
        """Fork it, without the descriptor `keep_out`."""
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            self.sock.close()
            os.close(keep_out)
            from vmm.tender import zygote

            zygote.main(theirs)
        theirs.close()

    def restart(self) -> None:
        """Replace one that has died."""
        self.close()
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            theirs.set_inheritable(True)
            words = [sys.executable, "-P", "-m", "vmm.tender.zygote", str(theirs.fileno())]
            self.pid = os.posix_spawn(sys.executable, words, os.environ)

    def close(self) -> None:
        """End it; what it has started ends with the hypervisor's sockets."""
        self.sock.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
