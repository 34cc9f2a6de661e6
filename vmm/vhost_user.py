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
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hypervisor.abi import generated as abi
from hypervisor.dma import Done, Queue, Window
from vmm import vhost_user_messages as messages
from vmm.vhost_user_messages import Feature, Request

CONFIG_BYTES = 60  # struct virtio_blk_config as far as its write-zeroes fields: what every back-end has
START_DEADLINE_S = 1.0
LOOK_S = 0.0005  # between looks at used rings: without it qemu-storage-daemon has no time for its requests
NEEDED = Feature.VERSION_1 | Feature.PROTOCOL_FEATURES
# What the driver is able to use; the rest is declined.
WANTED = (
    NEEDED | Feature.EVENT_IDX | Feature.BLK_SIZE_MAX | Feature.BLK_SEG_MAX | Feature.BLK_RO
    | Feature.BLK_SIZE | Feature.BLK_FLUSH | Feature.BLK_MQ | Feature.BLK_DISCARD
)  # fmt: skip

Later = Callable[[float, Callable[[], None]], object]


class VhostUserError(Exception):
    """The back-end is lost: it did not answer in time, closed the stream, refused a command, lacks a feature,
    or answered with something else. The text says which."""


class _Command(NamedTuple):
    """One command whose reply is outstanding."""

    request: Request
    reply_bytes: int  # 0: an acknowledgement, which must be a zero
    deadline: float
    done: Done | None


class Backend:
    """One back-end behind a connected stream socket, which this object owns: a `hypervisor.dma.Backend`.

    For an event loop: call `on_readable` when `fileno()` is readable, and `on_deadline` every now and then:
    it looks for deadlines that `clock()` (seconds, monotonic) has reached. Known after `negotiate`:
    `features` (without the bits of vhost-user itself), `config` (the configuration space), `queues` (the most
    there may be) and `memory_slots` (windows that fit beside each other). `lost` is why the back-end is of no
    more use, or None.
    """

    def __init__(
        self, sock: socket.socket, clock: Callable[[], float],
        on_lost: Callable[[VhostUserError], None] = lambda error: None,
        error_fd: int = -1, later: Later | None = None,
    ) -> None:  # fmt: skip
        """`on_lost` is called at most once, never after `close`. `error_fd` (the caller's, an eventfd) is
        signalled when the device finds its driver at fault: a broken chain, an address outside the windows.
        `later` calls a function after so many seconds; it is for a back-end that does not, as ours, answer
        GET_VRING_BASE when its last request has ended (qemu-storage-daemon answers at once, and breaks when
        one ends later): it is asked only after its used rings say that nothing is left to do."""
        self.features = 0
        self.config = b""
        self.queues = 0
        self.memory_slots = 0
        self.lost: VhostUserError | None = None
        self._sock = sock
        self._clock = clock
        self._on_lost = on_lost
        self._error_fd = error_fd
        self._batch, self._batch_fds = b"", list[int]()
        self._received = b""
        self._last_reply = b""
        self._open: deque[_Command] = deque()
        self._windows: list[Window] = []
        self._lasting = 0  # how many of them came with `start`
        self._queues: list[Queue] = []
        self._later = later
        self._rings: mmap.mmap | None = None  # for reading, where it does not drain
        self._stopping: list[Done] = []  # `stop` waits for the rings to become idle
        self._opening: list[tuple[Window, float, Done]] = []  # and so does `open_window`
        self._next_epoch: tuple[Sequence[Queue], Sequence[Window]] | None = None  # then `start` does, too
        sock.setblocking(False)

    # -- the event loop's side

    def fileno(self) -> int:
        return self._sock.fileno()

    def on_deadline(self) -> None:
        late = [command for command in self._open if command.deadline <= self._clock()]
        if late:
            self._lose(f"the back-end did not answer {late[0].request.name} in time")

    def on_readable(self) -> None:
        while self.lost is None:
            try:
                data = self._sock.recv(65536)  # the kernel drops descriptors that come along: none are wanted
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(f"the back-end's socket failed: {error.strerror}")
                return
            if not data:
                self._lose("the back-end closed the connection")
                return
            self._received += data
            self._take_replies()

    def close(self) -> None:
        """Ends the session without telling anybody; callbacks of open commands are not called."""
        self.lost = self.lost or VhostUserError("closed")
        self._open.clear()
        self._stopping.clear()
        self._opening.clear()
        self._next_epoch = None
        self._sock.close()

    # -- commands

    def negotiate(self, timeout_s: float = 2.0) -> None:
        """Agrees on features; once, before anything else. The only call that waits: `timeout_s` at most.
        Raises VhostUserError if the back-end is not usable here, or not there."""
        deadline = self._clock() + timeout_s
        offered = self._number(Request.GET_FEATURES, deadline)
        protocol = self._number(Request.GET_PROTOCOL_FEATURES, deadline) if not NEEDED & ~offered else 0
        if NEEDED & ~offered or messages.PROTOCOL_NEEDED & ~protocol:
            needs = f"it offers features {offered:#x} and protocol features {protocol:#x}, but needs to have"
            what = f"{needs} {NEEDED:#x} and {messages.PROTOCOL_NEEDED:#x}"
            self._lose(f"the back-end is not usable: {what}")
            raise self.lost or AssertionError
        self._send(
            _message(Request.SET_PROTOCOL_FEATURES, messages.U64.pack(messages.PROTOCOL_NEEDED))
            + _message(Request.SET_OWNER)
            + _message(Request.SET_FEATURES, messages.U64.pack(offered & WANTED))
        )
        self.queues = self._number(Request.GET_QUEUE_NUM, deadline)
        self.memory_slots = self._number(Request.GET_MAX_MEM_SLOTS, deadline)
        request = messages.CONFIG_HEAD.pack(0, CONFIG_BYTES, 0) + bytes(CONFIG_BYTES)
        reply = self._wait(Request.GET_CONFIG, request, len(request), deadline)
        self.config = reply[messages.CONFIG_HEAD.size :]
        self.features = offered & WANTED & ~Feature.PROTOCOL_FEATURES

    def start(self, queues: Sequence[Queue], windows: Sequence[Window]) -> None:
        """Gives the device the memory and the virtqueues of one driver epoch and starts it; does not wait.
        Queue i lies at VRING_IOVA + i * VRING_STRIDE, all zero. The descriptors stay the caller's. A refusal
        loses the back-end."""
        running, room = 0 if self._stopping else len(self._queues), messages.TABLE_REGIONS_MAX
        if running or not 0 < len(queues) <= self.queues or not 0 < len(windows) <= room:
            why = f"{running} of {self.queues} queues are running, {room} windows fit a memory table"
            raise ValueError(f"cannot start {len(queues)} queues with {len(windows)} windows: {why}")
        if self._stopping:
            self._next_epoch = queues, windows
            return
        deadline, first = self._clock() + START_DEADLINE_S, not self._lasting
        table = messages.TABLE_HEAD.pack(len(windows), 0) + b"".join(_region(window) for window in windows)
        self._ask(Request.SET_MEM_TABLE, table, deadline, fds=[window.fd for window in windows], more=True)
        for index, queue in enumerate(queues):
            if first:  # what outlives GET_VRING_BASE
                self._send(_message(Request.SET_VRING_NUM, _state(index, queue.size)), more=True)
                self._ask(Request.SET_VRING_ENABLE, _state(index, 1), deadline, more=True)
                if self._error_fd >= 0:
                    self._give(Request.SET_VRING_ERR, index, self._error_fd)
            base = abi.VRING_IOVA + index * abi.VRING_STRIDE
            parts = base + abi.VRING_DESCRIPTORS, base + abi.VRING_USED, base + abi.VRING_AVAILABLE
            place = _message(Request.SET_VRING_ADDR, messages.VRING_ADDR.pack(index, 0, *parts, 0))
            self._send(_message(Request.SET_VRING_BASE, _state(index, 0)) + place, more=True)
            self._give(Request.SET_VRING_CALL, index, queue.call)
            self._give(Request.SET_VRING_KICK, index, queue.kick)
        self._send(b"")
        self._queues, self._windows, self._lasting = list(queues), list(windows), len(windows)
        if self._later:
            rings = next(window for window in windows if window.iova == abi.VRING_IOVA)
            self._rings = mmap.mmap(rings.fd, rings.size, prot=mmap.PROT_READ)

    def stop(self, deadline_s: float, done: Done) -> None:
        """Drains and stops all queues and closes the windows of requests. At `done(True)` the device has made
        its last access (as far as the back-end keeps its word; ours does); what `start` gave it stays mapped
        until the next `start` or `close`. The driver must be at rest."""
        deadline = self._clock() + deadline_s
        self._next_epoch = None
        if not self._later or not self._queues:
            self._withdraw(deadline, done)
            return
        self._stopping.append(done)
        if len(self._stopping) == 1:
            self._kick()  # the driver may have died just before it did so
            self._look(self._later, deadline)

    def _look(self, later: Later, deadline: float) -> None:
        """Look again and again until each used ring says that all there was to do is done."""
        idle = all(self._is_idle(index) for index in range(len(self._queues)))
        if not idle and self.lost is None and self._clock() < deadline:
            later(LOOK_S, lambda: self._look(later, deadline))
            return
        stopping, self._stopping = self._stopping, []
        opening, self._opening = self._opening, []
        if not idle:
            for done in stopping:
                done(False)
            self._lose("the back-end did not finish its requests in time")
        elif stopping:
            for done in stopping[:-1]:
                done(True)
            self._withdraw(deadline, stopping[-1])
        if idle and self._next_epoch:
            self.start(*self._next_epoch)
            self._kick()  # the back-end may have taken the successor's kick for the old epoch's
        for window, deadline_s, done in opening:
            self.open_window(window, deadline_s, done)

    def _kick(self) -> None:
        for queue in self._queues:
            with contextlib.suppress(BlockingIOError):  # full: kicked enough
                os.eventfd_write(queue.kick, 1)

    def _is_idle(self, queue: int) -> bool:
        """Whether everything made available has been used."""
        base = queue * abi.VRING_STRIDE + 2  # the index follows the flags
        available, used = base + abi.VRING_AVAILABLE, base + abi.VRING_USED
        rings = self._rings
        return rings is not None and rings[available : available + 2] == rings[used : used + 2]

    def _withdraw(self, deadline: float, done: Done) -> None:
        state = messages.VRING_STATE.size
        commands = [(Request.GET_VRING_BASE, _state(i, 0), state) for i in range(len(self._queues))]
        commands += [(Request.REM_MEM_REG, _single(each), 0) for each in self._windows[self._lasting :]]
        self._queues, self._windows = [], self._windows[: self._lasting]
        for request, payload, reply_bytes in commands[:-1]:
            self._ask(request, payload, deadline, reply_bytes=reply_bytes, more=True)
        # Commands are carried out in order: an answer to the last means that all are over.
        anything = Request.GET_FEATURES, b"", messages.U64.size
        request, payload, reply_bytes = commands[-1] if commands else anything
        self._ask(request, payload, deadline, done, reply_bytes=reply_bytes)

    def open_window(self, window: Window, deadline_s: float, done: Done) -> None:
        """Adds memory; `done(True)` when the device can reach it. `done(False)` at once where no slot is
        left."""
        if self._stopping:  # of the epoch that begins afterwards
            self._opening.append((window, deadline_s, done))
            return
        if len(self._windows) >= self.memory_slots:
            done(False)
            return
        self._windows.append(window)
        self._ask(Request.ADD_MEM_REG, _single(window), self._clock() + deadline_s, done, [window.fd])

    def close_window(self, window: Window, deadline_s: float, done: Done) -> None:
        """Takes memory back; `done(True)` when the device can not reach it any more."""
        if window not in self._windows:  # taken back with its epoch
            done(True)
            return
        self._windows.remove(window)
        self._ask(Request.REM_MEM_REG, _single(window), self._clock() + deadline_s, done)

    # -- replies

    def _take_replies(self) -> None:
        while len(self._received) >= messages.HEADER.size and self.lost is None:
            request, flags, size = messages.HEADER.unpack_from(self._received)
            expected, due = "nothing", False
            if self._open:
                command = self._open[0]
                reply_bytes = command.reply_bytes or messages.U64.size
                expected = f"{reply_bytes} for {command.request.name}"
                is_reply = flags & ~messages.NEED_REPLY == messages.VERSION | messages.REPLY
                due = is_reply and (request, size) == (command.request, reply_bytes)
            if not due:
                what = f"answered message {request} with {size} bytes where {expected} was due"
                self._lose(f"the back-end {what}")
                return
            end = messages.HEADER.size + size
            if len(self._received) < end:
                return
            reply, self._received = self._received[messages.HEADER.size : end], self._received[end:]
            if not command.reply_bytes and any(reply):
                self._lose(f"the back-end refused {command.request.name}")
                return
            self._open.popleft()
            self._last_reply = reply
            if command.done:
                command.done(True)

    def _lose(self, why: str) -> None:
        if self.lost is not None:
            return
        self.lost = VhostUserError(why)
        commands, self._open = self._open, deque()
        for command in commands:
            if command.done:
                command.done(False)
        self._on_lost(self.lost)

    # -- sending

    def _send(self, data: bytes, fds: Sequence[int] = (), more: bool = False) -> None:
        """Sends a message, or with `more` keeps it until the next that may go: each wakes the back-end up.
        Descriptors arrive with the first byte they are sent with, so such a message begins a new batch."""
        if fds:
            self._flush()
        self._batch += data
        self._batch_fds += fds
        if not more:
            self._flush()

    def _give(self, request: Request, queue: int, fd: int) -> None:
        self._send(_message(request, messages.U64.pack(queue)), [fd], more=True)

    def _flush(self) -> None:
        data, fds, self._batch, self._batch_fds = self._batch, self._batch_fds, b"", []
        if self.lost is not None or not data:
            return
        try:
            sent = socket.send_fds(self._sock, [data], fds)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lose(f"the back-end's socket failed: {error.strerror}")
            return
        if sent != len(data):  # the messages of a whole epoch fit the socket buffer many times
            self._lose("the back-end does not read its socket")

    def _ask(
        self, request: Request, payload: bytes, deadline: float, done: Done | None = None,
        fds: Sequence[int] = (), reply_bytes: int = 0, more: bool = False,
    ) -> None:  # fmt: skip
        """Sends a message that is answered: with so many bytes, or (0) with an acknowledgement."""
        if self.lost is None:
            self._open.append(_Command(request, reply_bytes, deadline, done))
            self._send(_message(request, payload, 0 if reply_bytes else messages.NEED_REPLY), fds, more)
        elif done:
            done(False)

    # -- waiting, in negotiate only

    def _number(self, request: Request, deadline: float) -> int:
        return int(messages.U64.unpack(self._wait(request, b"", messages.U64.size, deadline))[0])

    def _wait(self, request: Request, payload: bytes, reply_bytes: int, deadline: float) -> bytes:
        self._ask(request, payload, deadline, reply_bytes=reply_bytes)
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        while self._open and self.lost is None:
            if poll.poll(max(0.0, deadline - self._clock()) * 1000):
                self.on_readable()
            self.on_deadline()
        if self.lost is not None:
            raise self.lost
        return self._last_reply


def _message(request: Request, payload: bytes = b"", flags: int = 0) -> bytes:
    return messages.HEADER.pack(request, messages.VERSION | flags, len(payload)) + payload


def _state(queue: int, number: int) -> bytes:
    return messages.VRING_STATE.pack(queue, number)


def _single(window: Window) -> bytes:
    return messages.SINGLE_REGION.pack(0, _region(window))


def _region(window: Window) -> bytes:
    return messages.REGION.pack(window.iova, window.size, window.iova, 0)
