"""The process of one virtual device, a disk or a sound device: set up, jail, serve, end with its socket."""

from __future__ import annotations

import os
import resource
import socket
from typing import Any, NoReturn

from vmm.devices.back_end import BackEnd, FrontEndError
from vmm.devices.device import Device, DeviceError
from vmm.devices.disk import Disk
from vmm.devices.sound import Sound
from vmm.tender import jail, seccomp
from vmm.tender._vcpu import lib
from vmm.tender.seccomp import Allowed, Rule

_FALLOCATE = (0x3, 0x11)  # PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE | KEEP_SIZE


def system_calls(files: tuple[int, ...]) -> Allowed:
    """Those of the jail profile `device` beside what all have; blocks of `files` may be freed."""
    plain = "pread64 pwrite64 preadv pwritev preadv2 pwritev2 fdatasync fsync lseek fstat eventfd2"
    allowed: Allowed = dict.fromkeys(plain.split(), ())
    allowed["clone"] = (Rule(0, (seccomp.CLONE_PTHREAD,)),)
    allowed["fallocate"] = (Rule(0, files), Rule(1, _FALLOCATE))
    return allowed


seccomp.SYSTEM_CALLS |= {
    "fstat": 5, "lseek": 8, "pread64": 17, "pwrite64": 18, "fsync": 74, "fdatasync": 75, "fallocate": 285,
    "eventfd2": 290, "preadv": 295, "pwritev": 296, "preadv2": 327, "pwritev2": 328,
}  # fmt: skip
seccomp.PROFILES["device"] = system_calls


def run(socket_fd: int, file_fd: int, config: dict[str, Any]) -> NoReturn:
    """Serves one virtual device until the front-end closes the socket; called in a freshly forked child.

    `config`: `kind` ("virtio-snd", else a disk), `name`; of a disk `read_only` (default false) and `queues`
    (default 1); optionally `status_fd` (memory object for the counters, see vmm.devices.device.STATUS_BYTES).
    Exit status: 0 the front-end closed, 1 the front-end broke the protocol, 2 the device can not be made; a
    line on standard error says why.
    """
    kind: type[Device] = Sound if config.get("kind") == "virtio-snd" else Disk
    name = str(config.get("name", "disk"))
    status_fd = int(config.get("status_fd", -1))
    status = 1
    try:
        kind.check(file_fd, name, config)  # now, as the jail has no standard error
        kept = [fd for fd in (socket_fd, file_fd, status_fd) if fd >= 0]
        lib.host_set_slice(lib.CONTROL_SLICE_NS)
        if config.get("jail", True):
            jail.confine(kept)
        # Between the halves: it opens descriptors of its own, and handles a signal.
        device = kind.from_config(file_fd, name, config)
        if status_fd >= 0:
            os.close(status_fd)  # the mapping stays
        if config.get("jail", True):
            if kind is Disk:
                _keep_size(file_fd)
            jail.seal("device", [file_fd])
        # Said in full, lest Python asks the kernel, which the jail refuses.
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=socket_fd)
        BackEnd(sock, device, lambda text: _say(f"{name}: {text}")).serve()
        status = 0
    except DeviceError as error:
        _say(str(error))
        status = 2
    except FrontEndError as error:
        _say(f"{name}: {error}")
    except BaseException as error:  # a bug of ours, in a child that must not run its parent's code
        _say(f"{name}: {type(error).__name__}: {error}")
    finally:
        os._exit(status)


def _keep_size(file_fd: int) -> None:
    """A captured disk cannot write behind its end, which would fill the host's."""
    size, most = os.lseek(file_fd, 0, os.SEEK_END), resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    limit = size if most == resource.RLIM_INFINITY else min(size, most)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def _say(text: str) -> None:
    try:
        os.write(2, f"{text}\n".encode())
    except OSError:
        pass  # nobody listens
