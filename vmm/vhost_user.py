"""The vhost-user front-end: the hypervisor's side of a virtual device.

The device can reach exactly the memory this end hands to it, so this module decides what a driver's device
sees: its virtqueues at VRING_IOVA and its buffers at POOL_IOVA, for one driver epoch; `stop` takes all of it
back. The back-end may be any (ours, qemu-storage-daemon, ...) and is not trusted: it can refuse, lie, stall
or vanish, and none of that blocks the caller or raises out of the event loop.

Commands are written at once and answered in order; each has a deadline. Everything that goes wrong (a
refusal, a reply to nothing, a deadline, the end of the stream) ends in one place: the back-end is *lost*.
Then every open command is told `False`, `on_lost` gets the reason, and the object is of no more use: the
hypervisor kills the device and makes a new one. Because commands are carried out in order, `start` may follow
`stop` without waiting for it.

VhostUserError           the back-end is lost
├── DeadlineExpired      it did not answer in time
├── BackendGone          it closed the stream
└── BackendRefused       it refused a command, lacks a feature, or answered with something else
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hypervisor.abi import generated as abi
from hypervisor.dma import Done, Queue, Window
from vmm import vhost_user_messages as messages
from vmm.vhost_user_messages import Feature, ProtocolFeature, Request

CONFIG_BYTES = 60  # struct virtio_blk_config as far as its write-zeroes fields: what every back-end has
START_DEADLINE_S = 1.0
NEEDED = Feature.VERSION_1 | Feature.PROTOCOL_FEATURES
# What the driver is able to use; the rest is declined.
WANTED = (
    NEEDED | Feature.EVENT_IDX | Feature.BLK_SIZE_MAX | Feature.BLK_SEG_MAX | Feature.BLK_RO
    | Feature.BLK_SIZE | Feature.BLK_FLUSH | Feature.BLK_MQ | Feature.BLK_DISCARD
)  # fmt: skip
PROTOCOL_NEEDED = ProtocolFeature.REPLY_ACK | ProtocolFeature.CONFIG
PROTOCOL_WANTED = PROTOCOL_NEEDED | ProtocolFeature.MQ | ProtocolFeature.CONFIGURE_MEM_SLOTS


class VhostUserError(Exception):
    pass


class DeadlineExpired(VhostUserError):
    pass


class BackendGone(VhostUserError):
    pass


class BackendRefused(VhostUserError):
    pass


class _Command(NamedTuple):
    """One command whose reply is outstanding."""

    request: Request
    reply_bytes: int
    deadline: float
    acknowledges: bool  # the reply must be a zero
    done: Done | None


class Backend:
    """One back-end behind a connected stream socket, which this object owns: a `hypervisor.dma.Backend`.

    For an event loop: call `on_readable` when `fileno()` is readable, and `on_deadline` when `clock()`
    (seconds, monotonic) has reached `next_deadline()`. Known after `negotiate`: `features` (without the bits
    of vhost-user itself), `config` (the configuration space), `queues` (the most there may be),
    `memory_slots` (windows that fit beside each other; 0: per-request windows are not possible). `lost` is
    why the back-end is of no more use, or None.
    """

    def __init__(
        self,
        sock: socket.socket,
        clock: Callable[[], float],
        on_lost: Callable[[VhostUserError], None] = lambda error: None,
        error_fd: int = -1,
        drains: bool = True,
    ) -> None:
        """`on_lost` is called at most once, never after `close`. `error_fd` (the caller's, an eventfd) is
        signalled when the device finds its driver at fault: a broken chain, an address outside the windows.
        `drains`: this back-end answers GET_VRING_BASE when its last request has ended, as ours does. One that
        does not (qemu-storage-daemon: it answers at once, and breaks when a request ends later) is asked only
        after its used rings say that nothing is left to do."""
        self.features = 0
        self.config = b""
        self.queues = 0
        self.memory_slots = 0
        self.lost: VhostUserError | None = None
        self._sock = sock
        self._clock = clock
        self._on_lost = on_lost
        self._error_fd = error_fd
        self._received = b""
        self._last_reply = b""
        self._open: deque[_Command] = deque()
        self._windows: list[Window] = []
        self._queues: list[Queue] = []
        self._drains = drains
        self._vrings = -1  # where it does not drain: an own descriptor of the rings
        self._stopping: list[Done] = []  # `stop` waits for the rings to become idle
        self._next_epoch: tuple[Sequence[Queue], Sequence[Window]] | None = None  # then `start` does, too
        sock.setblocking(False)

    # -- the event loop's side

    def fileno(self) -> int:
        return self._sock.fileno()

    def next_deadline(self) -> float | None:
        return min((command.deadline for command in self._open), default=None)

    def on_deadline(self) -> None:
        for command in self._open:
            if command.deadline <= self._clock():
                self._lose(DeadlineExpired(f"the back-end did not answer {command.request.name} in time"))
                return

    def on_readable(self) -> None:
        while self.lost is None:
            try:
                data = self._sock.recv(
                    65536
                )  # descriptors in replies are dropped by the kernel: none are wanted
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(BackendGone(f"the back-end's socket failed: {error.strerror}"))
                return
            if not data:
                self._lose(BackendGone("the back-end closed the connection"))
                return
            self._received += data
            self._take_replies()

    def close(self) -> None:
        """Ends the session without telling anybody; callbacks of open commands are not called."""
        self.lost = self.lost or BackendGone("closed")
        self._open.clear()
        self._stopping.clear()
        self._close_vrings()
        self._sock.close()

    # -- commands

    def negotiate(self, timeout_s: float = 2.0) -> None:
        """Agrees on features; once, before anything else. The only call that waits: `timeout_s` at most.
        Raises VhostUserError if the back-end is not usable here, or not there."""
        deadline = self._clock() + timeout_s
        offered = self._ask(Request.GET_FEATURES, deadline)
        protocol = self._ask(Request.GET_PROTOCOL_FEATURES, deadline) if not NEEDED & ~offered else 0
        if NEEDED & ~offered or PROTOCOL_NEEDED & ~protocol:
            self._refuse(
                f"it offers features {offered:#x} and protocol features {protocol:#x}, but needs to have "
                f"{NEEDED:#x} and {PROTOCOL_NEEDED:#x}"
            )
        protocol &= PROTOCOL_WANTED
        self._send(
            _message(Request.SET_PROTOCOL_FEATURES, messages.U64.pack(protocol))
            + _message(Request.SET_OWNER)
            + _message(Request.SET_FEATURES, messages.U64.pack(offered & WANTED))
        )
        self.queues = self._ask(Request.GET_QUEUE_NUM, deadline) if protocol & ProtocolFeature.MQ else 1
        if protocol & ProtocolFeature.CONFIGURE_MEM_SLOTS:
            self.memory_slots = self._ask(Request.GET_MAX_MEM_SLOTS, deadline)
        request = messages.CONFIG_HEAD.pack(0, CONFIG_BYTES, 0) + bytes(CONFIG_BYTES)
        reply = self._wait(Request.GET_CONFIG, request, len(request), deadline)
        self.config = reply[messages.CONFIG_HEAD.size :]
        self.features = offered & WANTED & ~Feature.PROTOCOL_FEATURES

    def start(self, queues: Sequence[Queue], windows: Sequence[Window]) -> None:
        """Gives the device the memory and the virtqueues of one driver epoch and starts it; does not wait.
        Queue i lies at VRING_IOVA + i * VRING_STRIDE, all zero. The descriptors stay the caller's. A refusal
        loses the back-end."""
        running = 0 if self._stopping else len(self._queues)
        fits = 0 < len(queues) <= self.queues and 0 < len(windows) <= messages.TABLE_REGIONS_MAX
        if running or not fits:
            raise ValueError(
                f"cannot start {len(queues)} queues with {len(windows)} windows: {running} of "
                f"{self.queues} queues are running, {messages.TABLE_REGIONS_MAX} windows fit a memory table"
            )
        if self._stopping:
            self._next_epoch = queues, windows
            return
        deadline = self._clock() + START_DEADLINE_S
        table = messages.TABLE_HEAD.pack(len(windows), 0) + b"".join(_region(window) for window in windows)
        self._command(Request.SET_MEM_TABLE, table, deadline, fds=[window.fd for window in windows])
        for index, queue in enumerate(queues):
            base = abi.VRING_IOVA + index * abi.VRING_STRIDE
            address = messages.VRING_ADDR.pack(
                index, 0, base + abi.VRING_DESCRIPTORS, base + abi.VRING_USED, base + abi.VRING_AVAILABLE, 0
            )
            self._send(
                _message(Request.SET_VRING_NUM, _state(index, queue.size))
                + _message(Request.SET_VRING_BASE, _state(index, 0))
                + _message(Request.SET_VRING_ADDR, address)
            )
            if self._error_fd >= 0:
                self._send(_message(Request.SET_VRING_ERR, messages.U64.pack(index)), [self._error_fd])
            self._send(_message(Request.SET_VRING_CALL, messages.U64.pack(index)), [queue.call])
            self._send(_message(Request.SET_VRING_KICK, messages.U64.pack(index)), [queue.kick])
            self._command(Request.SET_VRING_ENABLE, _state(index, 1), deadline)
        self._queues = list(queues)
        if not self._drains:
            self._close_vrings()
            self._vrings = os.dup(next(window.fd for window in windows if window.iova == abi.VRING_IOVA))
        self._windows = list(windows)

    def stop(self, deadline_s: float, done: Done) -> None:
        """Drains and stops all queues and takes the memory back. At `done(True)` the device has made its last
        access (as far as the back-end keeps its word; ours does) and, where it has memory slots, has nothing
        mapped. The driver must be at rest."""
        deadline = self._clock() + deadline_s
        self._next_epoch = None
        if self._drains or not self._queues:
            self._withdraw(deadline, done)
            return
        self._stopping.append(done)
        if len(self._stopping) == 1:
            for queue in self._queues:  # the driver may have died just before it did so
                with contextlib.suppress(BlockingIOError):  # full: kicked enough
                    os.eventfd_write(queue.kick, 1)
            self._look(True, deadline)

    def _look(self, answered: bool, deadline: float) -> None:
        """Ask (anything) and look again until each used ring says that all there was to do is done."""
        idle = answered and all(_is_idle(self._vrings, index) for index in range(len(self._queues)))
        if answered and not idle and self._clock() < deadline:
            self._then(deadline, lambda ok: self._look(ok, deadline))
            return
        stopping, self._stopping = self._stopping, []
        if not idle:
            for done in stopping:
                done(False)
            self._lose(DeadlineExpired("the back-end did not finish its requests in time"))
            return
        for done in stopping[:-1]:
            done(True)
        self._withdraw(deadline, stopping[-1])
        if self._next_epoch:
            self.start(*self._next_epoch)

    def _withdraw(self, deadline: float, done: Done) -> None:
        for index in range(len(self._queues)):
            command = _Command(Request.GET_VRING_BASE, messages.VRING_STATE.size, deadline, False, None)
            self._expect(command, _state(index, 0))
        windows, self._windows, self._queues = self._windows, [], []
        if self.memory_slots:
            for window in windows:
                self._command(Request.REM_MEM_REG, _single(window), deadline)
        self._then(deadline, done)

    def _then(self, deadline: float, done: Done) -> None:
        """Commands are carried out in order: an answer to anything means that all before it is over."""
        self._expect(_Command(Request.GET_FEATURES, messages.U64.size, deadline, False, done))

    def open_window(self, window: Window, deadline_s: float, done: Done) -> None:
        """Adds memory; `done(True)` when the device can reach it. `done(False)` at once where no slot is
        left."""
        if self._stopping or len(self._windows) >= self.memory_slots:
            done(False)
            return
        self._windows.append(window)
        self._command(Request.ADD_MEM_REG, _single(window), self._clock() + deadline_s, done, [window.fd])

    def close_window(self, window: Window, deadline_s: float, done: Done) -> None:
        """Takes memory back; `done(True)` when the device can not reach it any more."""
        if window not in self._windows:  # taken back with its epoch
            done(True)
            return
        self._windows.remove(window)
        self._command(Request.REM_MEM_REG, _single(window), self._clock() + deadline_s, done)

    def _close_vrings(self) -> None:
        if self._vrings >= 0:
            os.close(self._vrings)
        self._vrings = -1

    # -- replies

    def _take_replies(self) -> None:
        while len(self._received) >= messages.HEADER.size and self.lost is None:
            request, flags, size = messages.HEADER.unpack_from(self._received)
            command = self._open[0] if self._open else None
            if (
                command is None
                or request != command.request
                or flags & ~messages.NEED_REPLY != messages.VERSION | messages.REPLY
                or size != command.reply_bytes
            ):
                expected = f"{command.reply_bytes} for {command.request.name}" if command else "nothing"
                self._lose(
                    BackendRefused(
                        f"the back-end answered message {request} with {size} bytes where {expected} was due"
                    )
                )
                return
            end = messages.HEADER.size + size
            if len(self._received) < end:
                return
            reply, self._received = self._received[messages.HEADER.size : end], self._received[end:]
            if command.acknowledges and reply != bytes(messages.U64.size):
                self._lose(BackendRefused(f"the back-end refused {command.request.name}"))
                return
            self._open.popleft()
            self._last_reply = reply
            if command.done:
                command.done(True)

    def _lose(self, error: VhostUserError) -> None:
        if self.lost is not None:
            return
        self.lost = error
        commands, self._open = self._open, deque()
        for command in commands:
            if command.done:
                command.done(False)
        self._on_lost(error)

    # -- sending

    def _send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        if self.lost is not None:
            return
        try:
            sent = socket.send_fds(self._sock, [data], fds)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lose(BackendGone(f"the back-end's socket failed: {error.strerror}"))
            return
        if sent != len(data):  # the messages of a whole epoch fit the socket buffer many times
            self._lose(BackendRefused("the back-end does not read its socket"))

    def _expect(
        self, command: _Command, payload: bytes = b"", fds: Sequence[int] = (), flags: int = 0
    ) -> None:
        if self.lost is None:
            self._open.append(command)
            self._send(_message(command.request, payload, flags), fds)
        elif command.done:
            command.done(False)

    def _command(
        self,
        request: Request,
        payload: bytes,
        deadline: float,
        done: Done | None = None,
        fds: Sequence[int] = (),
    ) -> None:
        """Sends a message that must be acknowledged."""
        self._expect(
            _Command(request, messages.U64.size, deadline, True, done), payload, fds, messages.NEED_REPLY
        )

    # -- waiting, in negotiate only

    def _ask(self, request: Request, deadline: float) -> int:
        return int(messages.U64.unpack(self._wait(request, b"", messages.U64.size, deadline))[0])

    def _wait(self, request: Request, payload: bytes, reply_bytes: int, deadline: float) -> bytes:
        self._expect(_Command(request, reply_bytes, deadline, False, None), payload)
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        while self._open and self.lost is None:
            if poll.poll(max(0.0, deadline - self._clock()) * 1000):
                self.on_readable()
            self.on_deadline()
        if self.lost is not None:
            raise self.lost
        return self._last_reply

    def _refuse(self, reason: str) -> None:
        self._lose(BackendRefused(f"the back-end is not usable: {reason}"))
        raise self.lost or AssertionError


def _message(request: Request, payload: bytes = b"", flags: int = 0) -> bytes:
    return messages.HEADER.pack(request, messages.VERSION | flags, len(payload)) + payload


def _state(queue: int, number: int) -> bytes:
    return messages.VRING_STATE.pack(queue, number)


def _single(window: Window) -> bytes:
    return messages.SINGLE_REGION.pack(0, _region(window))


def _region(window: Window) -> bytes:
    return messages.REGION.pack(window.iova, window.size, window.iova, 0)


def _is_idle(vrings: int, queue: int) -> bool:
    """Whether everything made available has been used. Read, not mapped: the object stays its owner's."""
    base = queue * abi.VRING_STRIDE + 2  # the index follows the flags
    available = os.pread(vrings, 2, base + abi.VRING_AVAILABLE)
    return available == os.pread(vrings, 2, base + abi.VRING_USED)
