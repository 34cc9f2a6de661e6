"""What each hypercall does once policy has allowed it. Arguments are hostile: validated here, then used.

Every handler answers the waiting vCPU exactly once, now or by callback; an argument that no correct program
sends is a fault of the caller. `wait` is not here: the tender's C loop serves it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor import wire
from hypervisor.abi import generated as abi
from hypervisor.channels import Connection
from hypervisor.component import LiveComponent
from hypervisor.grants import Grant, GrantState
from hypervisor.instances import Instance, Step
from hypervisor.memory import MemoryObject
from hypervisor.placement import GRANT_SLOT, GRANT_SLOTS, End

if TYPE_CHECKING:
    from hypervisor.process import Hypervisor

REVOKE_DEADLINE_S = 0.1
_RIGHTS = abi.GRANT_RIGHTS_READ | abi.GRANT_RIGHTS_WRITE | abi.GRANT_RIGHTS_COPY


class Call:
    """One hypercall of one instance, waiting for its answer."""

    def __init__(
        self, system: Hypervisor, component: LiveComponent, instance: Instance, message: wire.Message
    ) -> None:
        self.system, self.component, self.instance = system, component, instance
        self.number, *arguments = message.args
        self.args = arguments
        self.body = message.body

    def end(self, index: int) -> tuple[End, Connection] | None:
        """The caller's channel `index`."""
        ends = self.component.connections
        return ends[index] if index < len(ends) else None

    def grant(self, rights: int = 0) -> Grant | None:
        """The grant args[0], lent over channel args[1] by the peer with `rights`."""
        found = self.end(self.args[1])
        return self.system.grants.offered(self.args[0], found[1], rights) if found else None

    def bad(self, what: str) -> None:
        """The caller is at fault."""
        self.blame(abi.FAULT_BAD_ARGUMENT, what)

    def blame(self, kind: int, message: str = "", address: int = 0) -> None:
        """End the caller."""
        self.system.blame(self.component, kind, message, address)


def dispatch(call: Call) -> None:
    """Run one hypercall; unknown and denied ones are faults, whatever the tender let through."""
    handler = _HANDLERS.get(call.number)
    if handler is None or call.number not in call.component.policy.hypercalls:
        kind = abi.FAULT_DENIED_HYPERCALL if handler else abi.FAULT_UNKNOWN_HYPERCALL
        call.blame(kind, address=call.number)
        return
    handler(call)


def _ready(call: Call) -> None:
    if call.instance.ready_ns:  # it does not wait for the answer, so that it could send any number of these
        call.bad("ready, for the second time")
        return
    call.system.component_ready(call.component, call.instance)
    call.instance.result(0)


def _answer_unhurried(call: Call) -> None:
    """Answer a call that costs its caller nothing; one that makes it all the time has to wait."""
    pause = call.component.chatter.pause()
    if pause > 0:
        call.system.loop.call_later(pause, lambda: call.instance.result(0))
    else:
        call.instance.result(0)


def _log(call: Call) -> None:
    level = min(call.args[0], abi.LOG_LEVEL_DEBUG)
    text = call.body[: abi.LOG_MAX].decode("utf-8", "replace")
    call.system.log.add(call.component.name, call.component.epoch, text, level)
    _answer_unhurried(call)


def _panic(call: Call) -> None:
    text = call.body[: abi.LOG_MAX].decode("utf-8", "replace")
    kind = abi.FAULT_MEMORY if text.startswith("out of memory") else abi.FAULT_PANIC
    call.blame(kind, text)


def _exit(call: Call) -> None:
    if call.component.policy.is_program:
        call.system.program_exited(call.component, call.args[0] & 0xFF)
    else:
        call.blame(abi.FAULT_EXITED, f"status {call.args[0]}")


def _reconnect(call: Call) -> None:
    found = call.end(call.args[0])
    if found is None:
        call.bad(f"reconnect: no channel {call.args[0]}")
        return
    end, connection = found
    if call.component.state_of(end) != abi.CHANNEL_STATE_REOPEN:
        call.instance.result(abi.ERROR_AGAIN)
        return
    call.component.set_state(end, abi.CHANNEL_STATE_OPEN, connection.epoch)
    call.instance.result(0, connection.epoch, call.component.ring_steps(end, connection))


def _output(call: Call) -> None:
    stream, writer = call.args[0] & 0xFF, call.args[0] >> 8 & 0xFFFF
    position = call.args[3]
    call.system.output.write(stream, writer, position, call.body[: abi.OUTPUT_MAX], call.instance.result)


def _complain(call: Call) -> None:
    found = call.end(call.args[0])
    if found is None:
        call.bad(f"complain: no channel {call.args[0]}")
        return
    end, connection = found
    # Where it is not open (any more), what the caller wants has happened or is under way.
    if call.component.state_of(end) == abi.CHANNEL_STATE_OPEN:
        text = f"complaint about {end.channel.server if end.role == abi.ROLE_CLIENT else end.channel.client}"
        reason = abi.COMPLAINT_NAMES.get(call.args[1], f"reason {call.args[1]}")
        call.system.log.add(
            call.component.name, call.component.epoch, f"{text}: {reason}", abi.LOG_LEVEL_WARNING
        )
        call.system.close_connection(connection)
    _answer_unhurried(call)


def _grant(call: Call) -> None:
    index, channel, rights = call.args[0], call.args[1], call.args[2]
    found = call.end(channel)
    offer = found[0].channel.grants if found else None
    objects = [r for r in call.component.placement.regions if r.kind == abi.REGION_KIND_GRANT_OBJECT]
    if found is None or offer is None or index >= len(objects) or not rights or rights & ~_RIGHTS:
        call.bad(f"grant: object {index}, channel {channel}, rights {rights:#x}")
        return
    if objects[index].channel != found[0].channel.index or rights & ~offer.rights:
        call.instance.result(abi.ERROR_PERM)
        return
    memory = call.component.grant_objects[index]
    grant = call.system.grants.add(call.instance, index, memory, found[1], rights)
    call.instance.result(0 if grant else abi.ERROR_BUSY, grant.number if grant else 0)


def _revoke(call: Call) -> None:
    grant = call.system.grants.owned(call.args[0], call.instance)
    if grant is None:
        call.instance.result(abi.ERROR_NOENT)
        return
    call.system.take_back(grant, lambda: call.instance.result(0))


def _map_grant(call: Call) -> None:
    grant = call.grant()
    if grant is None or grant.rights & abi.GRANT_RIGHTS_COPY or grant.owner is call.instance:
        call.instance.result(abi.ERROR_NOENT if grant is None else abi.ERROR_PERM)
        return
    writable = bool(grant.rights & abi.GRANT_RIGHTS_WRITE)
    slots = GRANT_SLOTS if writable else GRANT_SLOTS // 2
    used = call.system.grants.slot_in_use(call.instance, writable)
    slot = next((each for each in range(slots) if each not in used), None)
    if grant.mapped or slot is None:
        call.instance.result(abi.ERROR_BUSY)
        return
    placement = call.component.placement
    base = placement.grants_writable if writable else placement.grants_read_only
    address = base + slot * GRANT_SLOT
    fd = grant.memory.fd if writable else grant.memory.read_only_fd
    grant.mapped = (call.instance, address, slot)
    flags = wire.MAP_WRITABLE if writable else 0
    call.instance.result(0, address, [Step(wire.Operation.MAP, address, grant.memory.size, flags, fd)])


def _unmap_grant(call: Call) -> None:
    grant = call.grant()
    if grant is None or not grant.mapped or grant.mapped[0] is not call.instance:
        call.instance.result(abi.ERROR_NOENT)
        return
    _, address, _ = grant.mapped
    step = Step(wire.Operation.UNMAP, address, grant.memory.size)

    def unmapped() -> None:
        grant.mapped = None
        grant.settle()
        call.instance.result(0)

    call.instance.apply([step], unmapped)


def _copy_from_grant(call: Call) -> None:
    offset, _, length = call.args[2:5]
    memory = _copied(call, abi.GRANT_RIGHTS_READ, offset, length)
    if memory is not None:  # the tender knows what is writable in its VM, and copies there
        call.instance.result(0, data=memory.map[offset : offset + length])


def _copy_to_grant(call: Call) -> None:
    offset, _, length = call.args[2:5]
    memory = _copied(call, abi.GRANT_RIGHTS_WRITE, offset, length)
    if memory is None:
        return
    if len(call.body) != length:
        call.bad(f"copy_to_grant: {length} bytes, of which {len(call.body)} came")
        return
    memory.map[offset : offset + length] = call.body
    call.instance.result(0)


def _copied(call: Call, rights: int, offset: int, length: int) -> MemoryObject | None:
    """The object to copy from or to, the range checked; answers the call itself where there is none."""
    grant = call.grant(rights)
    if grant is None:
        call.instance.result(abi.ERROR_NOENT)
        return None
    if offset > grant.memory.size or length > grant.memory.size - offset or length > abi.OUTPUT_MAX:
        call.instance.result(abi.ERROR_RANGE)
        return None
    return grant.memory


def _dma_open(call: Call) -> None:
    grant = call.grant()
    device = call.component.device
    if grant is None or device is None:
        call.instance.result(abi.ERROR_NOENT if grant is None else abi.ERROR_PERM)
        return
    policy = grant.connection.policy
    # A device may write all it can reach, so what is lent for reading only is not for it.
    writable = grant.rights & (abi.GRANT_RIGHTS_WRITE | abi.GRANT_RIGHTS_COPY) == abi.GRANT_RIGHTS_WRITE
    if policy.dma != "per_request" or policy.server != call.component.name or not writable:
        call.instance.result(abi.ERROR_PERM)
        return
    if grant.iova:
        call.instance.result(abi.ERROR_BUSY)
        return
    grant.busy += 1

    def opened(iova: int) -> None:
        grant.busy -= 1
        grant.iova = iova
        if iova and grant.state is not GrantState.ACTIVE:  # revoked meanwhile
            call.system.close_window(grant, lambda: None)
        grant.settle()
        call.instance.result(0 if iova else abi.ERROR_IO, iova)

    device.open(grant.memory, opened)


def _dma_close(call: Call) -> None:
    grant = call.grant()
    if grant is None or not grant.iova:
        call.instance.result(abi.ERROR_NOENT)
        return
    call.system.close_window(grant, lambda: call.instance.result(0))


_HANDLERS: dict[int, Callable[[Call], None]] = {
    abi.HYPERCALL_READY: _ready,
    abi.HYPERCALL_LOG: _log,
    abi.HYPERCALL_PANIC: _panic,
    abi.HYPERCALL_EXIT: _exit,
    abi.HYPERCALL_RECONNECT: _reconnect,
    abi.HYPERCALL_OUTPUT: _output,
    abi.HYPERCALL_GRANT: _grant,
    abi.HYPERCALL_REVOKE: _revoke,
    abi.HYPERCALL_MAP_GRANT: _map_grant,
    abi.HYPERCALL_UNMAP_GRANT: _unmap_grant,
    abi.HYPERCALL_COPY_FROM_GRANT: _copy_from_grant,
    abi.HYPERCALL_COPY_TO_GRANT: _copy_to_grant,
    abi.HYPERCALL_DMA_OPEN: _dma_open,
    abi.HYPERCALL_DMA_CLOSE: _dma_close,
    abi.HYPERCALL_COMPLAIN: _complain,
}
