"""The zygote: a warm process that forks tenders and devices, so that each starts in a few milliseconds.

`main(sock)` is called in a child of the hypervisor's launcher, with the socket that brings SPAWN_TENDER and
SPAWN_DEVICE. It answers SPAWNED (pid, pidfd) and reports CHILD_EXIT (pid, wait status) later; a spawn that
fails is answered SPAWNED with pid 0 and the reason as body. When the socket closes, it kills its
children and ends. If it dies itself its children live on: each ends with its own socket.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from hypervisor import wire
from vmm.tender import host, jail, plan, process, seccomp
from vmm.tender._vcpu import lib
from vmm.tender.kvm import Kvm, KvmError

_TENDER_FDS = 5
_DEVICE_FDS = 2
_PRCTL, _PR_SET_PDEATHSIG = 157, 1


class Zygote:
    """The loop of the zygote; single-threaded, as forking into namespaces demands."""

    def __init__(self, sock: socket.socket, kvm: Kvm) -> None:
        self.sock = sock
        self.kvm = kvm
        self.as_root = jail.privileged()
        self.children: dict[int, int] = {}  # pidfd -> pid
        self.poll = select.epoll()
        self.poll.register(sock.fileno(), select.EPOLLIN)

    def serve(self) -> None:
        """Serve until the socket closes."""
        while True:
            for fd, _ in self.poll.poll():
                if fd != self.sock.fileno():
                    self._reap(fd)
                    continue
                message = wire.receive(self.sock)
                if message is None:
                    return
                self._spawn(message)

    def _spawn(self, message: wire.Message) -> None:
        pid, pidfd = 0, []
        try:
            start = self._prepare(message)
            pid = jail.fork(as_root=self.as_root)
            if pid == 0:
                start()
            fd = os.pidfd_open(pid)
            self.children[fd] = pid
            self.poll.register(fd, select.EPOLLIN)
            pidfd = [fd]
            reason = b""
        except (plan.PlanError, wire.WireError, jail.JailError, ValueError, KeyError) as error:
            reason = str(error).encode()
        message.close()
        wire.send(self.sock, wire.Kind.SPAWNED, message.sequence, (pid,), reason, pidfd)

    def _prepare(self, message: wire.Message) -> Callable[[], NoReturn]:
        """Everything that can be done before the fork; returns what the child does."""
        fds = message.fds
        if message.kind == wire.Kind.SPAWN_TENDER and len(fds) == _TENDER_FDS:
            parsed = plan.parse(message.body)
            return lambda: process.run(self.kvm, parsed, fds)
        if message.kind == wire.Kind.SPAWN_DEVICE and len(fds) == _DEVICE_FDS:
            config = json.loads(message.body)
            return lambda: _run_device(fds[0], fds[1], config)
        raise wire.WireError(f"record of kind {message.kind} with {len(fds)} descriptors")

    def _reap(self, fd: int) -> None:
        pid = self.children.pop(fd)
        self.poll.unregister(fd)
        os.close(fd)
        _, status = os.waitpid(pid, 0)
        wire.send(self.sock, wire.Kind.CHILD_EXIT, 0, (pid, status))

    def kill_children(self) -> None:
        """End everything that was forked here; a stopped one, too."""
        for fd in self.children:
            signal.pidfd_send_signal(fd, signal.SIGKILL)


def _run_device(sock: int, file: int, config: dict[str, Any]) -> NoReturn:
    """Devices are no part of what tenders and their zygote have to trust, so only a device loads them."""
    try:
        from vmm.devices import process as device

        device.run(sock, file, config)
    finally:
        os._exit(2)


def main(sock: socket.socket) -> NoReturn:
    """The zygote's life. Must be called before the hypervisor opens anything a child should not inherit."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the hypervisor decides about the end
        host.call(_PRCTL, _PR_SET_PDEATHSIG, signal.SIGKILL)
        zygote = Zygote(sock, Kvm())
        seccomp.program("tender", 1)
        for name in dir(lib):
            getattr(lib, name)  # cffi makes each when it is first wanted: here, not in every child
        gc.collect()
        gc.freeze()  # what is here now stays; children never look through it again
        try:
            zygote.serve()
            status = 0
        finally:
            zygote.kill_children()
    except KvmError as error:
        wire.send(sock, wire.Kind.SPAWNED, 0, (0,), str(error).encode())
    except (OSError, wire.WireError):
        pass  # the hypervisor has gone, or talks nonsense
    finally:
        os._exit(status)


if __name__ == "__main__":  # a restarted zygote: argument 1 is the descriptor of its socket
    main(socket.socket(fileno=int(sys.argv[1])))
