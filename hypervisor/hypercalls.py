"""What each hypercall does once policy has allowed it. Arguments are hostile: validated here, then used.

Every handler answers the waiting vCPU exactly once, now or by callback; only `ready` waits for no answer.
`Refused` is an answer that is an error. An argument that no correct program sends is a `BadArgument`, and a
fault of the caller. `wait` is not here: the tender's C loop serves it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor import wire
from hypervisor.abi import generated as abi
from hypervisor.channels import Connection
from hypervisor.component import LiveComponent
from hypervisor.grants import Grant
from hypervisor.instances import Instance, Step
from hypervisor.memory import MemoryObject
from hypervisor.placement import GRANT_SLOT, GRANT_SLOTS, End

if TYPE_CHECKING:
    from hypervisor.process import Hypervisor

REVOKE_DEADLINE_S = 0.1
_RIGHTS = abi.GrantRights.READ | abi.GrantRights.WRITE | abi.GrantRights.COPY


class Refused(Exception):
    """The answer is this error, of `abi.Error`."""


class BadArgument(Exception):
    """The caller is at fault; the text says how."""


class Call:
    """One hypercall of one instance, waiting for its answer."""

    def __init__(
        self, system: Hypervisor, component: LiveComponent, instance: Instance, message: wire.Message
    ) -> None:
        self.system, self.component, self.instance = system, component, instance
        self.number, *arguments = message.args
        self.args = arguments
        self.body = message.body

    def end(self, index: int) -> tuple[End, Connection]:
        """The caller's channel `index`."""
        ends = self.component.connections
        if index >= len(ends):
            raise BadArgument(f"hypercall {self.number}: no channel {index}")
        return ends[index]

    def grant(self, rights: int = 0) -> Grant:
        """The grant args[0], lent over channel args[1] by the peer with `rights`."""
        grant = self.system.grants.offered(self.args[0], self.end(self.args[1])[1], rights)
        if grant is None:
            raise Refused(abi.Error.NOENT)
        return grant

    def blame(self, kind: int, message: str = "", address: int = 0) -> None:
        """End the caller."""
        self.system.blame(self.component, kind, message, address)


def dispatch(call: Call) -> None:
    """Run one hypercall; unknown and denied ones are faults, whatever the tender let through."""
    handler = _HANDLERS.get(call.number)
    if handler is None or call.number not in call.component.policy.hypercalls:
        kind = abi.Fault.DENIED_HYPERCALL if handler else abi.Fault.UNKNOWN_HYPERCALL
        call.blame(kind, address=call.number)
        return
    try:
        handler(call)
    except Refused as refusal:
        call.instance.result(refusal.args[0])
    except BadArgument as error:
        call.blame(abi.Fault.BAD_ARGUMENT, str(error))


def _ready(call: Call) -> None:
    if call.instance.ready_ns:  # it waits for no answer, so that it could send any number of these
        raise BadArgument("ready, for the second time")
    call.instance.calling = False
    call.system.component_ready(call.component, call.instance)


def _quiesce(call: Call) -> None:
    update = call.system.update
    if not (update and update.quiesced(call.component)):
        call.instance.result(0)


def _answer_unhurried(call: Call) -> None:
    """Answer a call that costs its caller nothing; one that makes it all the time has to wait."""
    call.system.loop.call_later(call.component.chatter.pause(), lambda: call.instance.result(0))


def _log(call: Call) -> None:
    level = min(call.args[0], abi.LogLevel.DEBUG)
    text = call.body[: abi.LOG_MAX].decode("utf-8", "replace")
    call.system.log.add(call.component.name, call.component.epoch, text, level)
    _answer_unhurried(call)


def _panic(call: Call) -> None:
    text = call.body[: abi.LOG_MAX].decode("utf-8", "replace")
    kind = abi.Fault.MEMORY if text.startswith("out of memory") else abi.Fault.PANIC
    call.blame(kind, text)


def _exit(call: Call) -> None:
    if call.component.policy.is_program:
        call.system.program_exited(call.component, call.args[0] & 0xFF)
    else:
        call.blame(abi.Fault.EXITED, f"status {call.args[0]}")


def _reconnect(call: Call) -> None:
    end, connection = call.end(call.args[0])
    if call.component.state_of(end) != abi.ChannelState.REOPEN:
        raise Refused(abi.Error.AGAIN)
    call.component.set_state(end, abi.ChannelState.OPEN, connection.epoch)
    call.instance.result(0, connection.epoch, call.component.reconnect(call.instance, end, connection))


def _output(call: Call) -> None:
    stream, writer = call.args[0] & 0xFF, call.args[0] >> 8 & 0xFFFF
    position = call.args[3]
    call.system.output.write(stream, writer, position, call.body[: abi.OUTPUT_MAX], call.instance.result)


def _complain(call: Call) -> None:
    end, connection = call.end(call.args[0])
    # Where it is not open (any more), what the caller wants has happened or is under way.
    if call.component.state_of(end) == abi.ChannelState.OPEN:
        text = f"complaint about {end.channel.server if end.role == abi.Role.CLIENT else end.channel.client}"
        reason = abi.names(abi.Complaint).get(call.args[1], f"reason {call.args[1]}")
        who = call.component
        call.system.log.add(who.name, who.epoch, f"{text}: {reason}", abi.LogLevel.WARNING)
        call.system.close_connection(connection)
    _answer_unhurried(call)


def _grant(call: Call) -> None:
    index, channel, rights = call.args[0], call.args[1], call.args[2]
    end, connection = call.end(channel)
    offer = end.channel.grants
    objects = [r for r in call.component.placement.regions if r.kind == abi.RegionKind.GRANT_OBJECT]
    if offer is None or index >= len(objects) or not rights or rights & ~_RIGHTS:
        raise BadArgument(f"grant: object {index}, channel {channel}, rights {rights:#x}")
    if objects[index].channel != end.channel.index or rights & ~offer.rights:
        raise Refused(abi.Error.PERM)
    memory = call.component.grant_objects[index]
    grant = call.system.grants.add(call.instance, index, memory, connection, rights)
    if grant is None:
        raise Refused(abi.Error.BUSY)
    call.instance.result(0, grant.number)


def _revoke(call: Call) -> None:
    grant = call.system.grants.owned(call.args[0], call.instance)
    if grant is None:
        raise Refused(abi.Error.NOENT)
    call.system.take_back(grant, lambda: call.instance.result(0))


def _map_grant(call: Call) -> None:
    grant = call.grant()
    if grant.rights & abi.GrantRights.COPY or grant.owner is call.instance:
        raise Refused(abi.Error.PERM)
    placement, memory = call.component.placement, grant.memory
    if grant.rights & abi.GrantRights.WRITE:
        base, slots, flags, fd = placement.grants_writable, GRANT_SLOTS, wire.MAP_WRITABLE, memory.fd
    else:
        base, slots, flags, fd = placement.grants_read_only, GRANT_SLOTS // 2, 0, memory.read_only_fd
    used = call.system.grants.addresses_in_use(call.instance)
    free = [each for each in range(base, base + slots * GRANT_SLOT, GRANT_SLOT) if each not in used]
    if grant.mapped or not free:
        raise Refused(abi.Error.BUSY)
    grant.mapped = (call.instance, free[0])
    call.instance.result(0, free[0], [Step(wire.Operation.MAP, free[0], memory.size, flags, fd)])


def _unmap_grant(call: Call) -> None:
    grant = call.grant()
    if not grant.mapped or grant.mapped[0] is not call.instance:
        raise Refused(abi.Error.NOENT)
    step = Step(wire.Operation.UNMAP, grant.mapped[1], grant.memory.size)

    def unmapped() -> None:
        grant.mapped = None
        grant.settle()
        call.instance.result(0)

    call.instance.apply([step], unmapped)


def _copy_from_grant(call: Call) -> None:
    offset, _, length = call.args[2:5]
    memory = _copied(call, abi.GrantRights.READ, offset, length)
    # The tender knows what is writable in its VM, and copies there.
    call.instance.result(0, data=memory.map[offset : offset + length])


def _copy_to_grant(call: Call) -> None:
    offset, _, length = call.args[2:5]
    memory = _copied(call, abi.GrantRights.WRITE, offset, length)
    if len(call.body) != length:
        raise BadArgument(f"copy_to_grant: {length} bytes, of which {len(call.body)} came")
    memory.map[offset : offset + length] = call.body
    call.instance.result(0)


def _copied(call: Call, rights: int, offset: int, length: int) -> MemoryObject:
    """The object to copy from or to, the range checked."""
    memory = call.grant(rights).memory
    if offset > memory.size or length > memory.size - offset or length > abi.OUTPUT_MAX:
        raise Refused(abi.Error.RANGE)
    return memory


def _dma_open(call: Call) -> None:
    grant = call.grant()
    device = call.component.device
    policy = grant.connection.policy
    # A device may write all it can reach, so what is lent for reading only is not for it.
    writable = grant.rights & (abi.GrantRights.WRITE | abi.GrantRights.COPY) == abi.GrantRights.WRITE
    server = policy.server, policy.server_interface
    its = device and server == (call.component.name, device.policy.channel_interface)
    if not device or not its or policy.dma != "per_request" or not writable:
        raise Refused(abi.Error.PERM)
    if grant.iova:
        raise Refused(abi.Error.BUSY)
    grant.busy += 1

    def opened(iova: int) -> None:
        grant.busy -= 1
        grant.iova = iova
        if iova and not grant.active:  # revoked meanwhile: the driver never learns the address
            call.system.close_window(grant, lambda: call.instance.result(abi.Error.NOENT))
            return
        grant.settle()
        call.instance.result(0 if iova else abi.Error.IO, iova)

    device.open(grant.memory, opened)


def _dma_close(call: Call) -> None:
    grant = call.grant()
    if not grant.iova:
        raise Refused(abi.Error.NOENT)
    call.system.close_window(grant, lambda: call.instance.result(0))


_HANDLERS: dict[int, Callable[[Call], None]] = {
    abi.Hypercall.READY: _ready, abi.Hypercall.QUIESCE: _quiesce,
    abi.Hypercall.LOG: _log, abi.Hypercall.PANIC: _panic,
    abi.Hypercall.EXIT: _exit, abi.Hypercall.RECONNECT: _reconnect, abi.Hypercall.OUTPUT: _output,
    abi.Hypercall.COMPLAIN: _complain, abi.Hypercall.GRANT: _grant, abi.Hypercall.REVOKE: _revoke,
    abi.Hypercall.MAP_GRANT: _map_grant, abi.Hypercall.UNMAP_GRANT: _unmap_grant,
    abi.Hypercall.COPY_FROM_GRANT: _copy_from_grant, abi.Hypercall.COPY_TO_GRANT: _copy_to_grant,
    abi.Hypercall.DMA_OPEN: _dma_open, abi.Hypercall.DMA_CLOSE: _dma_close,
}  # fmt: skip
