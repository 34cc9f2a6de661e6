"""The vhost-user back-end: reads messages of a front-end and drives a device with them.

The front-end is not trusted with more than the memory it hands over: each message is checked for its size,
its number of descriptors and its values. A message that makes no sense ends the session (FrontEndError); a
well-formed one that can not be carried out is refused in its acknowledgement, if the front-end asked for one.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from vmm.devices.device import QUEUE_SIZE_MAX, WINDOWS_MAX, Device, Refused, Window
from vmm.vhost_user_messages import (
    CONFIG_HEAD,
    HEADER,
    NEED_REPLY,
    REGION,
    REPLY,
    SINGLE_REGION,
    TABLE_HEAD,
    TABLE_REGIONS_MAX,
    U64,
    VERSION,
    VRING_ADDR,
    VRING_STATE,
    Feature,
    ProtocolFeature,
    Request,
)

VERSION_MASK = 3  # of the flags
CONFIG_BYTES_MAX = 256
QUEUE_MASK = 0xFF  # of the u64 of SET_VRING_{KICK,CALL,ERR}
NO_DESCRIPTOR = 1 << 8  # in the same u64
PAYLOAD_MAX = TABLE_HEAD.size + TABLE_REGIONS_MAX * REGION.size  # the longest message there is
DESCRIPTORS_MAX = TABLE_REGIONS_MAX
PROTOCOL_FEATURES = (
    ProtocolFeature.MQ
    | ProtocolFeature.REPLY_ACK
    | ProtocolFeature.CONFIG
    | ProtocolFeature.RESET_DEVICE
    | ProtocolFeature.CONFIGURE_MEM_SLOTS
)


class FrontEndError(Exception):
    """The front-end broke the protocol; the session is over."""


class Message(NamedTuple):
    request: int
    flags: int
    payload: bytes
    fds: list[int]  # owned by whoever holds the message


@dataclass
class QueueState:
    """What the front-end has said about a queue so far."""

    size: int = 0
    addresses: tuple[int, int, int] | None = None  # descriptors, available, used
    base: int = 0
    kicked: bool = False  # it has a kick descriptor: the front-end has started it
    enabled: bool = False
    running: bool = False


def receive(sock: socket.socket) -> Message | None:
    """The next message; None at the end of the stream. FrontEndError closes what came with it."""
    fds: list[int] = []
    try:
        header = _read_exactly(sock, HEADER.size, fds)
        if header is None:
            return None
        request, flags, size = HEADER.unpack(header)
        if flags & VERSION_MASK != VERSION:
            raise FrontEndError(
                f"message {request} has protocol version {flags & VERSION_MASK}; only {VERSION} exists"
            )
        if flags & REPLY:
            raise FrontEndError(f"message {request} is a reply to nothing")
        if size > PAYLOAD_MAX + CONFIG_BYTES_MAX:
            raise FrontEndError(f"message {request} announces {size} bytes; the longest has {PAYLOAD_MAX}")
        payload = _read_exactly(sock, size, fds) if size else b""
        if payload is None:
            raise FrontEndError(f"the stream ended inside message {request}")
        return Message(request, flags, payload, fds)
    except FrontEndError:
        _close(fds)
        raise


def _read_exactly(sock: socket.socket, size: int, fds: list[int]) -> bytes | None:
    data = b""
    while len(data) < size:
        try:
            part, ancillary, flags, _ = sock.recvmsg(
                size - len(data), socket.CMSG_SPACE(DESCRIPTORS_MAX * 4), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionError:
            part, ancillary, flags = b"", [], 0
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(value[: len(value) - len(value) % received.itemsize])
                fds.extend(received)
        if flags & socket.MSG_CTRUNC or len(fds) > DESCRIPTORS_MAX:
            raise FrontEndError(f"a message carries more than {DESCRIPTORS_MAX} descriptors")
        if not part:
            if data:
                raise FrontEndError("the stream ended inside a message")
            return None
        data += part
    return data


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


class BackEnd:
    """One session with one front-end."""

    def __init__(self, sock: socket.socket, device: Device, complain: Callable[[str], None]) -> None:
        """`complain` gets a line for each refused message."""
        self._sock = sock
        self._device = device
        self._complain = complain
        self._queues = [QueueState() for _ in range(device.queues)]
        self._features = 0
        self._protocol_features = 0
        self._handlers: dict[int, Callable[[Message], bytes | None]] = {
            Request.GET_FEATURES: self._get_features,
            Request.SET_FEATURES: self._set_features,
            Request.GET_PROTOCOL_FEATURES: self._get_protocol_features,
            Request.SET_PROTOCOL_FEATURES: self._set_protocol_features,
            Request.GET_QUEUE_NUM: self._get_queue_num,
            Request.GET_MAX_MEM_SLOTS: self._get_max_mem_slots,
            Request.SET_OWNER: self._set_owner,
            Request.RESET_OWNER: self._reset,
            Request.RESET_DEVICE: self._reset,
            Request.SET_MEM_TABLE: self._set_mem_table,
            Request.ADD_MEM_REG: self._add_mem_reg,
            Request.REM_MEM_REG: self._rem_mem_reg,
            Request.GET_CONFIG: self._get_config,
            Request.SET_CONFIG: self._set_config,
            Request.SET_VRING_NUM: self._set_vring_num,
            Request.SET_VRING_ADDR: self._set_vring_addr,
            Request.SET_VRING_BASE: self._set_vring_base,
            Request.GET_VRING_BASE: self._get_vring_base,
            Request.SET_VRING_KICK: self._set_vring_kick,
            Request.SET_VRING_CALL: self._set_vring_call,
            Request.SET_VRING_ERR: self._set_vring_err,
            Request.SET_VRING_ENABLE: self._set_vring_enable,
        }

    def serve(self) -> None:
        """Handles messages until the front-end closes the stream; nothing runs any more when it returns or
        raises."""
        try:
            while (message := receive(self._sock)) is not None:
                self.handle(message)
        finally:
            self.stop_all()

    def stop_all(self) -> None:
        """Drains all queues, forgets them, and lets go of the front-end's memory."""
        for index in range(len(self._queues)):
            self._stop(index)
            self._queues[index] = QueueState()
            self._device.set_kick(index, -1)
            self._device.set_call(index, -1)
            self._device.set_error(index, -1)
        self._device.set_windows([])

    def handle(self, message: Message) -> None:
        """Carries out one message and answers it if it wants an answer."""
        acknowledge = bool(message.flags & NEED_REPLY and self._protocol_features & ProtocolFeature.REPLY_ACK)
        handler = self._handlers.get(message.request)
        reply: bytes | None = None
        failed = 0
        try:
            if handler is None:
                raise Refused("no such message here")
            reply = handler(message)
        except Refused as reason:
            text = f"{_name(message.request)} refused: {reason}"
            if not acknowledge:
                raise FrontEndError(text) from None
            self._complain(text)
            failed = 1
        finally:
            _close(message.fds)
        if reply is None and acknowledge:
            reply = U64.pack(failed)
        if reply is not None:
            self._reply(message.request, reply)

    def _reply(self, request: int, payload: bytes) -> None:
        try:
            # sendmsg: the jail knows no other way to send. So small a message is sent whole.
            self._sock.sendmsg([HEADER.pack(request, VERSION | REPLY, len(payload)), payload])
        except ConnectionError:
            pass  # the next read sees the end of the stream

    # -- negotiation

    def _get_features(self, message: Message) -> bytes:
        _expect(message, 0)
        return U64.pack(self._device.features | Feature.PROTOCOL_FEATURES)

    def _set_features(self, message: Message) -> None:
        features = _u64(message)
        unknown = features & ~(self._device.features | Feature.PROTOCOL_FEATURES)
        if unknown:
            raise Refused(f"feature bits {unknown:#x} were not offered")
        if any(queue.running for queue in self._queues):
            raise Refused("queues are running")
        self._features = features
        self._device.negotiated(features)
        if not features & Feature.PROTOCOL_FEATURES:  # then queues need no SET_VRING_ENABLE
            for queue in self._queues:
                queue.enabled = True

    def _get_protocol_features(self, message: Message) -> bytes:
        _expect(message, 0)
        return U64.pack(PROTOCOL_FEATURES)

    def _set_protocol_features(self, message: Message) -> None:
        features = _u64(message)
        if features & ~PROTOCOL_FEATURES:
            raise Refused(f"protocol feature bits {features & ~PROTOCOL_FEATURES:#x} were not offered")
        self._protocol_features = features

    def _get_queue_num(self, message: Message) -> bytes:
        _expect(message, 0)
        return U64.pack(len(self._queues))

    def _get_max_mem_slots(self, message: Message) -> bytes:
        _expect(message, 0)
        return U64.pack(WINDOWS_MAX)

    def _set_owner(self, message: Message) -> None:
        _expect(message, 0)

    def _reset(self, message: Message) -> None:
        _expect(message, 0)
        for index, queue in enumerate(self._queues):
            self._stop(index)
            queue.enabled = not self._features & Feature.PROTOCOL_FEATURES
            queue.kicked = False

    # -- memory

    def _set_mem_table(self, message: Message) -> None:
        payload = message.payload
        count = TABLE_HEAD.unpack_from(payload)[0] if len(payload) >= TABLE_HEAD.size else -1
        # Some front-ends send the whole table, used or not.
        if count not in range(TABLE_REGIONS_MAX + 1) or len(payload) < TABLE_HEAD.size + count * REGION.size:
            raise FrontEndError(f"SET_MEM_TABLE of {len(payload)} bytes and {count} regions")
        if len(message.fds) != count:
            raise FrontEndError(f"SET_MEM_TABLE of {count} regions with {len(message.fds)} descriptors")
        windows = []
        for index, fd in enumerate(message.fds):
            guest, size, user, offset = REGION.unpack_from(payload, TABLE_HEAD.size + index * REGION.size)
            windows.append(Window(fd, guest, user, size, offset))
        self._device.set_windows(windows)

    def _add_mem_reg(self, message: Message) -> None:
        guest, size, user, offset = _region(message)
        if len(message.fds) != 1:
            raise FrontEndError(f"ADD_MEM_REG with {len(message.fds)} descriptors instead of one")
        self._device.add_window(Window(message.fds[0], guest, user, size, offset))

    def _rem_mem_reg(self, message: Message) -> None:
        guest, size, user, _ = _region(message)  # QEMU used to send a descriptor, too: accept it
        self._device.remove_window(guest, user, size)

    # -- configuration space

    def _get_config(self, message: Message) -> bytes:
        offset, size = self._config_range(message)
        return (
            CONFIG_HEAD.pack(offset, size, 0)
            + self._device.config().ljust(CONFIG_BYTES_MAX, b"\0")[offset : offset + size]
        )

    def _set_config(self, message: Message) -> None:
        self._config_range(message)
        raise Refused("nothing in the configuration space of this device can be written")

    def _config_range(self, message: Message) -> tuple[int, int]:
        if len(message.payload) < CONFIG_HEAD.size:
            raise FrontEndError(f"{_name(message.request)} of {len(message.payload)} bytes")
        offset, size, _ = CONFIG_HEAD.unpack_from(message.payload)
        if offset + size > CONFIG_BYTES_MAX or len(message.payload) != CONFIG_HEAD.size + size:
            raise FrontEndError(
                f"{_name(message.request)} of {size} bytes at {offset} in a message of "
                f"{len(message.payload)}; the space has {CONFIG_BYTES_MAX}"
            )
        return offset, size

    # -- queues

    def _set_vring_num(self, message: Message) -> None:
        queue, size = self._stopped_queue(message)
        if not 0 < size <= QUEUE_SIZE_MAX or size & (size - 1):
            raise Refused(f"a queue of {size}; a power of two up to {QUEUE_SIZE_MAX} is possible")
        queue.size = size

    def _set_vring_addr(self, message: Message) -> None:
        _expect(message, VRING_ADDR.size)
        index, flags, descriptors, used, available, _ = VRING_ADDR.unpack(message.payload)
        queue = self._queue(index)
        if queue.running:
            raise Refused(f"queue {index} is running")
        if flags:
            raise Refused(f"ring flags {flags:#x}; logging was not offered")
        queue.addresses = descriptors, available, used

    def _set_vring_base(self, message: Message) -> None:
        queue, base = self._stopped_queue(message)
        if base > 0xFFFF:
            raise Refused(f"index {base} has more than 16 bits")
        queue.base = base

    def _get_vring_base(self, message: Message) -> bytes:
        _expect(message, VRING_STATE.size)
        index = VRING_STATE.unpack(message.payload)[0]
        queue = self._queue(index)
        self._stop(index)
        queue.kicked = False
        return VRING_STATE.pack(index, queue.base)

    def _set_vring_kick(self, message: Message) -> None:
        index, fd = self._queue_descriptor(message)
        if fd < 0:
            raise Refused("a queue without a kick descriptor would have to be polled")
        self._stop(index)
        self._device.set_kick(index, fd)
        self._queues[index].kicked = True
        self._run(index)

    def _set_vring_call(self, message: Message) -> None:
        index, fd = self._queue_descriptor(message)
        self._device.set_call(index, fd)

    def _set_vring_err(self, message: Message) -> None:
        index, fd = self._queue_descriptor(message)
        self._device.set_error(index, fd)

    def _set_vring_enable(self, message: Message) -> None:
        _expect(message, VRING_STATE.size)
        index, enable = VRING_STATE.unpack(message.payload)
        queue = self._queue(index)
        if enable > 1:
            raise FrontEndError(f"SET_VRING_ENABLE with {enable} instead of 0 or 1")
        queue.enabled = bool(enable)
        if enable:
            self._run(index)
        else:
            self._stop(index)

    def _run(self, index: int) -> None:
        queue = self._queues[index]
        if queue.running or not (queue.kicked and queue.enabled):
            return
        if queue.addresses is None or not queue.size:
            raise Refused(f"queue {index} started before it had a size and addresses")
        self._device.start(index, queue.size, *queue.addresses, queue.base)
        queue.running = True

    def _stop(self, index: int) -> None:
        queue = self._queues[index]
        if queue.running:
            queue.base = self._device.stop(index)
            queue.running = False

    def _queue(self, index: int) -> QueueState:
        if index >= len(self._queues):
            raise Refused(f"there is no queue {index}, only {len(self._queues)}")
        return self._queues[index]

    def _stopped_queue(self, message: Message) -> tuple[QueueState, int]:
        _expect(message, VRING_STATE.size)
        index, value = VRING_STATE.unpack(message.payload)
        queue = self._queue(index)
        if queue.running:
            raise Refused(f"queue {index} is running")
        return queue, value

    def _queue_descriptor(self, message: Message) -> tuple[int, int]:
        """Queue and descriptor (-1: none, as the front-end said) of a message; the descriptor is the
        caller's."""
        if len(message.payload) != U64.size:
            raise FrontEndError(
                f"{_name(message.request)} of {len(message.payload)} bytes instead of {U64.size}"
            )
        (value,) = U64.unpack(message.payload)
        if value & ~(QUEUE_MASK | NO_DESCRIPTOR) or len(message.fds) != (0 if value & NO_DESCRIPTOR else 1):
            raise FrontEndError(f"{_name(message.request)} of {value:#x} with {len(message.fds)} descriptors")
        index = value & QUEUE_MASK
        self._queue(index)
        return index, message.fds.pop() if message.fds else -1


def _name(request: int) -> str:
    return Request(request).name if request in Request._value2member_map_ else f"message {request}"


def _expect(message: Message, size: int) -> None:
    if len(message.payload) != size or message.fds:
        raise FrontEndError(
            f"{_name(message.request)} of {len(message.payload)} bytes with {len(message.fds)} "
            f"descriptors; it has {size} and none"
        )


def _u64(message: Message) -> int:
    _expect(message, U64.size)
    return int(U64.unpack(message.payload)[0])


def _region(message: Message) -> tuple[int, int, int, int]:
    if len(message.payload) != SINGLE_REGION.size:
        raise FrontEndError(
            f"{_name(message.request)} of {len(message.payload)} bytes instead of {SINGLE_REGION.size}"
        )
    guest, size, user, offset = REGION.unpack(SINGLE_REGION.unpack(message.payload)[1])
    return guest, size, user, offset
