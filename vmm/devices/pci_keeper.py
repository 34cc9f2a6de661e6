"""The keeper of a real PCI device: the one process that says what the device may reach.

To the hypervisor it is a device like any other, behind a vhost-user socket. Memory regions become mappings in
the device's IOMMU; a queue is an interrupt of the device and a part of the driver's ring object, of which
nothing is read here. Beside it the keeper listens to the kernel for what the IOMMU has refused to the device.

The peer is trusted (it is the hypervisor itself), so a message that makes no sense is just the end: whatever
is raised ends the process, then the front-end silences the device.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
import select
import socket
import struct
from typing import Any, NamedTuple, NoReturn

from hypervisor import wire
from hypervisor.abi import generated as abi
from vmm import vhost_user_messages as messages
from vmm.devices import pci
from vmm.tender import jail, seccomp
from vmm.tender._vcpu import ffi, lib
from vmm.tender.seccomp import Rule
from vmm.vhost_user_messages import Feature, Request

WINDOWS_MAX = 256
_BOTH_WAYS = 3  # a mapping to be read and written by the device
_MAPPING = struct.Struct("<IIQQQ")  # size of this, flags, address here, I/O address, bytes
_UNMAPPING = struct.Struct("<IIQQ")  # size of this, flags, I/O address, bytes
_EVERYTHING = 2  # its flag
_INTERRUPTS = struct.Struct("<IIIII")  # size of all, flags, kind, first, number; descriptors follow
_NONE, _EVENTFDS, _TRIGGER = 1, 4, 32  # its flags
_COUNT = struct.Struct("<IIII")  # IRQ_INFO: size of this, flags, kind, number; DEVICE_INFO begins like it
_MSI, _MSIX = 1, 2
_CAN_RESET = 1
# Lines of /dev/kmsg by the kernel itself (facility 0): linux/drivers/iommu/intel/dmar.c, amd/iommu.c.
_INTEL = re.compile(
    r"[0-7],\d+,\d+,[^;]*;DMAR: \[DMA (Read|Write)[^\]]*\] Request device \[([0-9a-f:.]+)\] "
    r"fault addr 0x([0-9a-f]{1,16}) "
)
_AMD = re.compile(
    r"[0-7],\d+,\d+,[^;]*;\S+ ([0-9a-f:.]+): AMD-Vi: Event logged \[IO_PAGE_FAULT domain=0x[0-9a-f]+ "
    r"address=0x([0-9a-f]{1,16}) flags=0x([0-9a-f]{1,4})\]"
)
_READ, _WRITE = 1, 2  # what the front-end is told, beside the page

seccomp.PROFILES["keeper"] = lambda _files: {
    **dict.fromkeys(("pread64", "pwrite64"), ()),
    "newfstatat": (Rule(3, (0x1000,)),),  # AT_EMPTY_PATH: an fstat
    "ioctl": (Rule(1, (pci.SET_IRQS, pci.RESET, pci.REGION_INFO, pci.MAP_DMA, pci.UNMAP_DMA)),),
}


def refused(line: str, address: str) -> int:
    """The page, plus 1 for a read or 2 for a write, of an access by the device at `address` that the IOMMU
    has refused, if that is what the kernel's line says; else 0."""
    if (found := _INTEL.match(line)) and f"0000:{found[2]}" == address:
        page, write = found[3], found[1] == "Write"
    elif (found := _AMD.match(line)) and found[1] == address:
        page, write = found[2], bool(int(found[3], 16) & 0x20)  # the flag of a write
    else:
        return 0
    return int(page, 16) & -abi.PAGE_SIZE | (_WRITE if write else _READ)


class Window(NamedTuple):
    """Memory the device can reach; the descriptor is kept so that it can be recognised."""

    size: int
    offset: int
    fd: int


class Keeper:
    """One session with the front-end."""

    def __init__(
        self, sock: socket.socket, device: int, container: int, kmsg: int, config: dict[str, Any]
    ) -> None:
        self._sock, self._device, self._container, self._kmsg = sock, device, container, kmsg
        self._address = str(config["address"])
        self._interrupts = [-1] * int(config["queues"])
        read_only = Feature.BLK_RO if config["read_only"] else 0  # nothing keeps a driver to it
        self._numbers: dict[int, int] = {
            Request.GET_FEATURES: Feature.VERSION_1 | Feature.PROTOCOL_FEATURES | read_only,
            Request.GET_PROTOCOL_FEATURES: messages.PROTOCOL_NEEDED,
            Request.GET_MAX_MEM_SLOTS: WINDOWS_MAX,
            Request.GET_QUEUE_NUM: len(self._interrupts),
        }
        self._error = -1
        self._running = False
        self._windows: dict[int, Window] = {}
        data = bytearray(_COUNT.pack(20, 0, 0, 0) + bytes(4))
        fcntl.ioctl(device, pci.DEVICE_INFO, data)
        self._resets = bool(_COUNT.unpack_from(data)[1] & _CAN_RESET)
        kinds = [kind for kind in (_MSIX, _MSI) if self._count(kind) >= len(self._interrupts)]
        if not kinds:
            raise ValueError(f"it has fewer than {len(self._interrupts)} message-signalled interrupts")
        self._kind = kinds[0]
        pci.set_command(device, 0)
        # What a keeper before this one has left.
        fcntl.ioctl(container, pci.UNMAP_DMA, _UNMAPPING.pack(_UNMAPPING.size, _EVERYTHING, 0, 0))

    def _count(self, kind: int) -> int:
        data = bytearray(_COUNT.pack(_COUNT.size, 0, kind, 0))
        fcntl.ioctl(self._device, pci.IRQ_INFO, data)
        return int(_COUNT.unpack(data)[3])

    # -- messages

    def serve(self) -> None:
        """Until the front-end closes the socket."""
        poll = select.poll()
        for fd in (self._sock.fileno(), self._kmsg):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self._kmsg in ready:
                self._listen()
            if self._sock.fileno() in ready and not self._take():
                return

    def _take(self) -> bool:
        """Carry out one message; False at the end of the stream."""
        most, whole = messages.TABLE_REGIONS_MAX, socket.MSG_WAITALL | socket.MSG_CMSG_CLOEXEC
        head, fds, _, _ = socket.recv_fds(self._sock, messages.HEADER.size, most, whole)
        if not head:
            return False
        request, flags, size = messages.HEADER.unpack(head)
        payload = self._sock.recvmsg(size, 0, socket.MSG_WAITALL)[0] if size else b""
        reply = self._carry_out(request, payload, fds)
        if reply is None and flags & messages.NEED_REPLY:
            reply = messages.U64.pack(0)
        if reply is not None:
            head = messages.HEADER.pack(request, messages.VERSION | messages.REPLY, len(reply))
            self._sock.sendmsg([head, reply])
        return True

    def _carry_out(self, request: int, payload: bytes, fds: list[int]) -> bytes | None:
        if number := self._numbers.get(request):
            return messages.U64.pack(number)
        if request == Request.SET_MEM_TABLE:
            self._exchange(payload, fds)
        elif request == Request.ADD_MEM_REG:
            self._map(*_window(messages.SINGLE_REGION.unpack(payload)[1], fds[0]))
        elif request == Request.REM_MEM_REG:
            self._unmap(_window(messages.SINGLE_REGION.unpack(payload)[1], -1)[0])
        elif request == Request.SET_VRING_ERR:
            self._error = fds[0]
        elif request == Request.SET_VRING_CALL:
            index = messages.U64.unpack(payload)[0]
            if self._interrupts[index] >= 0:
                os.close(self._interrupts[index])
            self._interrupts[index] = fds[0]
        elif request == Request.SET_VRING_KICK:
            os.close(fds[0])  # drivers ring their device themselves
            if messages.U64.unpack(payload)[0] == len(self._interrupts) - 1:
                self._start()
        elif request == Request.GET_VRING_BASE:
            self._stop()
        # There is no configuration to tell a driver of; of the other requests the device needs nothing.
        return payload if request in (Request.GET_VRING_BASE, Request.GET_CONFIG) else None

    # -- memory

    def _exchange(self, payload: bytes, fds: list[int]) -> None:
        """Other windows in place of those there are; what is the same stays as it is."""
        size, head = messages.REGION.size, messages.TABLE_HEAD.size
        wanted = dict(_window(payload[head + size * i :][:size], fd) for i, fd in enumerate(fds))
        for iova, window in list(self._windows.items()):
            new = wanted.get(iova)
            if new and new[:2] == window[:2] and os.path.sameopenfile(new.fd, window.fd):
                os.close(wanted.pop(iova).fd)
            else:
                self._unmap(iova)
        for iova, window in wanted.items():
            self._map(iova, window)

    def _map(self, iova: int, window: Window) -> None:
        size, offset, fd = window
        here = lib.mmap(ffi.NULL, size, lib.PROT_READ | lib.PROT_WRITE, lib.MAP_SHARED, fd, offset)
        jail.check(-1 if here == lib.MAP_FAILED else 0)
        try:  # this pins the memory, which need not stay mapped here
            address = int(ffi.cast("uintptr_t", here))
            data = _MAPPING.pack(_MAPPING.size, _BOTH_WAYS, address, iova, size)
            fcntl.ioctl(self._container, pci.MAP_DMA, data)
        finally:
            lib.munmap(here, size)
        self._windows[iova] = window

    def _unmap(self, iova: int) -> None:
        """When this returns the device cannot reach it: the IOMMU has no entry for it, nor a cached one."""
        window = self._windows[iova]
        data = bytearray(_UNMAPPING.pack(_UNMAPPING.size, 0, iova, window.size))
        fcntl.ioctl(self._container, pci.UNMAP_DMA, data)
        if _UNMAPPING.unpack(data)[3] != window.size:
            raise ValueError(f"the mapping at {iova:#x} did not go away")
        del self._windows[iova]
        os.close(window.fd)

    # -- the device

    def _start(self) -> None:
        if self._resets:
            fcntl.ioctl(self._device, pci.RESET)
        number = len(self._interrupts)
        size = _INTERRUPTS.size + 4 * number
        head = _INTERRUPTS.pack(size, _EVENTFDS | _TRIGGER, self._kind, 0, number)
        fcntl.ioctl(self._device, pci.SET_IRQS, head + struct.pack(f"<{number}i", *self._interrupts))
        self._listen()  # what is there now is about the driver before this one
        pci.set_command(self._device, pci.MEMORY | pci.MASTER)
        self._running = True
        os.pwrite(self._windows[abi.VRING_IOVA].fd, struct.pack("<Q", 1), abi.VRING_STARTED)
        os.eventfd_write(self._interrupts[0], 1)  # it may be waiting for that

    def _stop(self) -> None:
        """When this returns the device makes no access, and its registers are gone, until it is started."""
        if self._running:
            self._running = False
            pci.set_command(self._device, 0)
            none = _INTERRUPTS.pack(_INTERRUPTS.size, _NONE | _TRIGGER, self._kind, 0, 0)
            fcntl.ioctl(self._device, pci.SET_IRQS, none)

    def _listen(self) -> None:
        """Read what the kernel has said, and report what it refused. Of many refusals one is enough: the next
        is reported once the front-end has taken notice."""
        while self._kmsg >= 0:
            try:
                line = os.read(self._kmsg, 8192).decode("utf-8", "replace")
            except BlockingIOError:
                return
            except BrokenPipeError:
                continue  # lines were lost before they were read; go on with the oldest there is
            seen = refused(line, self._address) if self._running else 0
            if seen and self._error >= 0 and not _is_signalled(self._error):
                os.eventfd_write(self._error, seen)


def _is_signalled(eventfd: int) -> bool:
    poll = select.poll()
    poll.register(eventfd, select.POLLIN)
    return bool(poll.poll(0))


def _window(region: bytes, fd: int) -> tuple[int, Window]:
    iova, size, _, offset = messages.REGION.unpack(region)
    return iova, Window(size, offset, fd)


def run(socket_fd: int, device: int, config: dict[str, Any]) -> NoReturn:
    """Keeps one device until the front-end closes the socket; called in a freshly forked child.

    The descriptors of container and (where it may be read) kernel messages come with a byte on the socket,
    before anything else. `config`: `name`, `address`, `queues`, `read_only`. Exit status 0, or 1 after a line
    on standard error.
    """
    status = 1
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=socket_fd)
        _, (container, *kmsg), _ = wire.receive_bytes(sock, 1, 2)
        with contextlib.suppress(ValueError, OSError):  # else as much as this user may
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        lib.host_set_slice(lib.CONTROL_SLICE_NS)
        keeper = Keeper(sock, device, container, kmsg[0] if kmsg else -1, config)
        jail.confine([socket_fd, device, container, *kmsg])
        jail.seal("keeper")
        keeper.serve()
        status = 0
    except BaseException as error:  # in a child that must not run its parent's code
        with contextlib.suppress(OSError):
            os.write(2, f"{config.get('name')}: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)
