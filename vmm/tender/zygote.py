"""The zygote: a warm process that forks tenders and devices, so that each starts in a few milliseconds.

`main(sock)` is called in a child of the hypervisor's launcher, with the socket that brings SPAWN_TENDER and
SPAWN_DEVICE. It answers SPAWNED (pid, pidfd), or with pid 0 and the reason as body; the pidfd tells when a
child has ended, which is reaped at the next spawn. When the socket closes, it kills its children and ends.
If it dies itself its children live on: each ends with its own socket.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from typing import Any, NoReturn

from hypervisor import wire
from vmm.tender import jail, plan
from vmm.tender._vcpu import lib
from vmm.tender.kvm import Kvm, KvmError

_DEVICE_FDS = 2


class Zygote:
    """The loop of the zygote; single-threaded, as forking into namespaces demands."""

    def __init__(self, sock: socket.socket, kvm: Kvm) -> None:
        self.sock, self.kvm = sock, kvm
        self.as_root = jail.share()
        self.children: set[int] = set()  # their pids stay theirs until they are reaped here

    def serve(self) -> None:
        """Serve until the socket closes."""
        while (message := wire.receive(self.sock)) is not None:
            while self.children and (ended := os.waitpid(-1, os.WNOHANG)[0]):
                self.children.remove(ended)
            self._spawn(message)

    def _spawn(self, message: wire.Message) -> None:
        pid, pidfd, reason = 0, [], ""
        lib.host_gate = gate = os.pipe()  # one each: nobody may go through in a slower one's place
        try:
            pid = self._fork(message)
            self.children.add(pid)
            pidfd = [os.pidfd_open(pid)]
        except (wire.WireError, OSError, ValueError, KeyError, OverflowError) as error:
            reason = str(error)
        wire.send(self.sock, wire.Kind.SPAWNED, message.sequence, (pid,), reason.encode(), pidfd)
        os.write(gate[1], b"1")
        message.fds.extend([*pidfd, *gate])
        message.close()

    def _fork(self, message: wire.Message) -> int:
        """The pid of the child, which never returns. Everything that can be is done before the fork."""
        fds = message.fds
        if message.kind == wire.Kind.SPAWN_TENDER and len(fds) == lib.FDS:
            parsed = plan.parse(message.body, self.as_root)
            keep = sorted([*fds, self.kvm.host.fd])
            spawned = lib.tender_spawn(parsed.plan, self.kvm.host, parsed.jail, fds, keep, len(keep))
            return jail.check(spawned)
        if message.kind == wire.Kind.SPAWN_DEVICE and len(fds) == _DEVICE_FDS:
            config = json.loads(message.body)
            pid = jail.fork(as_root=self.as_root)
            if pid == 0:
                _run_device(fds[0], fds[1], config)
            return pid
        raise wire.WireError(f"record of kind {message.kind} with {len(fds)} descriptors")


def _run_device(sock: int, file: int, config: dict[str, Any]) -> NoReturn:
    """Devices are no part of what tenders and their zygote have to trust, so only a device loads them."""
    try:
        from vmm.devices import process as device

        device.run(sock, file, config)
    finally:
        os._exit(2)


def main(sock: socket.socket) -> NoReturn:
    """The zygote's life. Must be called before the hypervisor opens anything a child should not inherit."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the hypervisor decides about the end
        zygote = Zygote(sock, Kvm())
        gc.collect()
        gc.freeze()  # what is here now stays; children never look through it again
        try:
            zygote.serve()
        finally:
            for pid in zygote.children:  # a stopped one would not see that its socket has closed
                os.kill(pid, signal.SIGKILL)
    except (KvmError, OSError, wire.WireError) as error:
        wire.send(sock, wire.Kind.SPAWNED, 0, (0,), str(error).encode())  # in vain if the hypervisor has gone
    finally:
        os._exit(0)


if __name__ == "__main__":  # a restarted zygote: argument 1 is the descriptor of its socket
    main(socket.socket(fileno=int(sys.argv[1])))
