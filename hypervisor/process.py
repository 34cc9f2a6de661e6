"""The hypervisor: the one process of a system that holds its memory and checks every request.

It is never on the data path: components talk through rings and doorbells it has made. Here it serves what is
left: hypercalls that need authority, deaths, and questions from its control socket. Processes, images and
devices are made by a `Launcher`, which the layer above registers (mechanism never imports policy).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from hypervisor import hypercalls, wire
from hypervisor.abi import generated as abi
from hypervisor.channels import Connection
from hypervisor.component import LiveComponent
from hypervisor.dma import Backend, LiveDevice
from hypervisor.evidence import Evidence
from hypervisor.faults import FaultRecord
from hypervisor.figures import Figures
from hypervisor.grants import Grant, GrantTable
from hypervisor.instances import BURIAL_S, Instance, Lifecycle, Step
from hypervisor.log import Log
from hypervisor.loop import Loop
from hypervisor.memory import MemoryObject
from hypervisor.output import Output
from hypervisor.placement import End, InfoPages, Machine, place
from hypervisor.policy import Component, Policy
from hypervisor.recovery import Recovery, other_role
from hypervisor.supervision import Supervision
from hypervisor.update import Update
from hypervisor.watch import Watch

QUARANTINE_S = 1.0
BLAMELESS = (abi.Fault.REPLACED, abi.Fault.KILLED, abi.Fault.DEVICE_DIED)
HISTORY = 4096  # instances that have ended
SPARE_DELAY_S = 0.004  # a spare is made after the recovery, not beside it
SPARE_DELAY_MAX_S = 1.0
COMPLAINT_DELAYS_S = (0.0, 0.0, 0.01, 0.1, 1.0, 10.0)
COMPLAINT_MEMORY_NS = 60_000_000_000  # complaints further apart do not add up
DEVICE_RETRY_S = 0.25
WITHDRAWN_NS = 1_000_000_000  # for so long a device may find descriptors for a window that was taken back
TEARDOWN_S = 2.0


class Launcher(Protocol):
    """Makes processes. Results come back through the hypervisor's `tender_spawned` and `child_exited`."""

    machine: Machine

    def heap(self, component: Component) -> tuple[int, int]:
        """(address, bytes) of the heap the component's image leaves."""

    def add(self, component: Component, fd: int, template: dict[str, Any]) -> None:
        """A version to come, and its image: ValueError or TypeError if it makes no sense."""

    def forget(self, component: Component) -> None:
        """No more instances of this version will be wanted."""

    def spawn(self, instance: Instance) -> None:
        """Start a tender for `instance`; returns at once."""

    def make_backend(
        self, device: LiveDevice, lost: Callable[[str], None], misled: Callable[[int], None]
    ) -> Backend:
        """A negotiated back-end; may take a while, so it is called on a helper thread after boot."""

    def attach(self, system: Hypervisor) -> None:
        """Begin reporting to `system`, on its loop."""

    def close(self) -> None:
        """End everything that was started."""


class Hypervisor:
    """One running system."""

    def __init__(
        self, policy: Policy, launcher: Launcher, arguments: dict[str, bytes], *, stdout: int, stderr: int
    ) -> None:
        self.policy = policy
        self.launcher = launcher
        self.loop = Loop()
        self.log = Log()
        self.evidence = Evidence()
        self.grants = GrantTable()
        self.output = Output(self.loop, stdout, stderr)
        self.figures = Figures(launcher.machine.tsc_khz)
        self.watch = Watch(self)
        self.connections = {channel.index: Connection(channel) for channel in policy.channels}
        self.devices = {device.component: LiveDevice(device) for device in policy.devices}
        self.components: dict[str, LiveComponent] = {}
        self.recoveries: dict[str, Recovery] = {}
        self.supervision: Supervision | None = None
        self.update: Update | None = None
        self.updated: str | None = ""  # how the last one ended: "" well
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY)
        self.on_program_started: Callable[[LiveComponent], None] = lambda _: None
        self.on_program_ended: Callable[[LiveComponent, FaultRecord | None], None] = lambda _a, _b: None
        self._arguments = arguments
        self._instances: dict[int, Instance] = {}  # every tender that may still exist, by instance number
        self._closing = False

    # -- boot -----------------------------------------------------------------------------------------

    def boot(self, *, spares: bool = True) -> None:
        """Start every component at once; rings exist before anybody runs, so order does not matter.

        Raises PlacementError for a policy that does not fit, and what the launcher raises for an image or a
        device that cannot be used.
        """
        self.spares_wanted = spares
        self.launcher.attach(self)
        for component in self.policy.components:
            live = self.make(component, self._arguments.get(component.name, b""))
            self.components[component.name] = live
            live.spares.append(self.spawn(live))
        for device in self.devices.values():
            device.backend, _ = self._make_backend(device)
        supervisor = self.policy.supervisor
        for connection in self.connections.values():
            if supervisor and connection.policy.client == "hypervisor":
                self.supervision = Supervision(connection)
                self.loop.add_reader(connection.client_wake, self.supervision.on_wake)
        for live in self.components.values():
            self._start_fresh(live)
            if self.supervision and not live.policy.is_program:
                self.supervision.configure(live.policy)
        self.watch.start()
        self.loop.call_later(0.05, self._restock)

    def make(self, component: Component, arguments: bytes) -> LiveComponent:
        """A component without any instance yet. Raises PlacementError."""
        placement = place(self.policy, component, len(arguments))
        info = InfoPages(placement, self.launcher.heap(component), self.launcher.machine)
        device = self.devices.get(component.name)
        return LiveComponent(component, placement, info, self.connections, device, arguments)

    def _start_fresh(self, component: LiveComponent) -> None:
        for end, connection in component.connections:
            component.set_state(end, abi.ChannelState.OPEN, connection.epoch)
        if component.device:
            component.device.start(self.pools_of(component))
        instance = component.spares.pop(0)
        started = self.on_program_started if component.policy.is_program else lambda _: None
        component.begin(instance, abi.Start.FRESH, lambda: started(component))

    # -- instances ------------------------------------------------------------------------------------

    def spawn(self, component: LiveComponent, warm: bool = False) -> Instance:
        """A new instance, on its way to being a spare; a warm one is dressed for the next epoch."""
        instance = Instance(component.policy)
        self._instances[instance.number] = instance
        self.launcher.spawn(instance)
        ahead = [*component.dress(instance), Step(wire.Operation.WARM)] if warm else []
        instance.apply(component.preparation() + ahead)
        self.loop.add_reader(instance.sock.fileno(), lambda: self._on_tender(instance))
        return instance

    def take_spare(self, component: LiveComponent) -> Instance:
        """A warm instance, or a cold one where there is none."""
        instance = component.spares.pop(0) if component.spares else self.spawn(component)
        component.spare_failures = 0
        self.restock_soon()
        return instance

    def restock_soon(self) -> None:
        """Spares are missing."""
        self.loop.call_later(SPARE_DELAY_S, self._restock)

    def _restock(self) -> None:
        """Make the spares that recovery will want, and dress those that are there for what has changed."""
        if self._closing:
            return
        for component in self.components.values():
            if component.policy.is_program or component.gave_up:
                continue
            wanted = component.policy.restart.spares if self.spares_wanted else 0
            for spare in component.spares:
                if steps := component.dress(spare):
                    spare.apply(steps)
            while len(component.spares) < wanted:
                component.spares.append(self.spawn(component, warm=True))

    def tender_spawned(self, number: int, pid: int, pidfd: int) -> None:
        """The launcher made the tender of instance `number`."""
        instance = self._instances[number]
        instance.spawned(pid, pidfd)
        if instance.state is Lifecycle.SPAWNING:
            instance.move(Lifecycle.SPARE)
        self.loop.add_reader(pidfd, lambda: self._tender_gone(instance))

    def tender_failed(self, number: int, why: str) -> None:
        """The launcher could not make the tender of instance `number`."""
        instance = self._instances[number]
        self.ended(instance, abi.Fault.INTERNAL, f"no tender: {why}")
        self._forget(instance)

    def _tender_gone(self, instance: Instance) -> None:
        """The process has ended: nothing of it can touch anything any more."""
        self.loop.remove_reader(instance.pidfd)
        self.ended(instance, abi.Fault.TENDER_DIED, "its tender process ended")
        self._forget(instance)

    def _forget(self, instance: Instance) -> None:
        while instance.holds:
            instance.holds.pop()()
        recovery = self.recoveries.get(instance.component.name)
        if recovery:
            recovery.tender_gone(instance)
        self.loop.remove_reader(instance.sock.fileno())
        self._instances.pop(instance.number, None)
        self.loop.call_later(BURIAL_S, instance.close)  # its counters are read first

    def owner(self, instance: Instance) -> LiveComponent:
        """Whose instance it is, of two versions in an update."""
        part = self.update.part_of(instance) if self.update else None
        return part.new if part else self.components[instance.component.name]

    def ended(self, instance: Instance, kind: int, why: str) -> None:
        """A tender that went away by itself: a death, or a spare to replace."""
        component = self.owner(instance)
        if self.update and self.update.part_of(instance):
            self.update.cancel(f"the new version failed: {why}")
        elif instance is component.running:
            self.blame(component, kind, why)
        elif instance in component.spares:
            component.spares.remove(instance)
            self.discard(instance)
            self.log.add(component.name, component.epoch, f"lost a spare: {why}", abi.LogLevel.WARNING)
            delay = min(SPARE_DELAY_MAX_S, SPARE_DELAY_S * 2 ** min(component.spare_failures, 16))
            component.spare_failures += 1
            self.loop.call_later(delay, self._restock)

    def discard(self, instance: Instance) -> None:
        """End an instance that nobody has heard of."""
        self._silence(instance)
        instance.kill()
        instance.ram.close()
        for memory in instance.grant_objects:
            memory.close()

    def _on_tender(self, instance: Instance) -> None:
        try:
            message = wire.receive(instance.sock, descriptors=0)  # a tender has none to give
        except BlockingIOError:
            return
        except (wire.WireError, ConnectionResetError):
            message = None
        if message is None:
            self.loop.remove_reader(instance.sock.fileno())
            self.ended(instance, abi.Fault.TENDER_DIED, "its tender closed its socket")
            return
        component = self.owner(instance)
        instance.last_pong_ns = time.monotonic_ns()
        kind = message.kind
        if kind == wire.Kind.HYPERCALL and instance is component.running and not instance.calling:
            instance.calling = True
            hypercalls.dispatch(hypercalls.Call(self, component, instance, message))
        elif kind == wire.Kind.ACK and instance.acknowledged(message.sequence):
            pass
        elif kind == wire.Kind.PONG and instance.pinged:
            instance.pinged = False
        elif kind == wire.Kind.FAULT:
            self._on_fault(component, instance, message)
        else:  # so that nobody can keep the event loop busy with records that mean nothing
            self.ended(instance, abi.Fault.INTERNAL, f"its tender sent a record ({kind}) that was not due")

    def _on_fault(self, component: LiveComponent, instance: Instance, message: wire.Message) -> None:
        record = FaultRecord.reported(component.name, instance.epoch, message.args, message.body)
        if instance is component.running:
            self.fail(component, record)
        else:
            self.ended(instance, abi.Fault.INTERNAL, f"it failed: {record.describe()}")

    # -- deaths ---------------------------------------------------------------------------------------

    def fail(self, component: LiveComponent, record: FaultRecord) -> None:
        """Judge the running instance of `component` dead; nothing happens if it is dead already."""
        if component.running is None or self._closing:
            return
        if self.update and self.update.concerns(component):
            self.update.cancel(f"{component.name} died: {record.describe()}")
        if component is not self.components[component.name]:
            return
        if component.former and record.kind not in BLAMELESS:
            self._go_back(component, component.former)
        recovery = Recovery(self, component, record)
        self.recoveries[component.name] = recovery
        component.deaths += 1
        recovery.begin()

    def _go_back(self, component: LiveComponent, former: Component) -> None:
        """An update was a mistake: the version before takes over, with the present state."""
        text = f"version {component.policy.version} failed soon after its update; back to {former.version}"
        self.log.add(component.name, component.epoch, text, abi.LogLevel.WARNING)
        self.launcher.forget(component.policy)
        component.policy, component.former = former, None
        component.info = InfoPages(component.placement, self.launcher.heap(former), self.launcher.machine)
        while component.spares:
            self.discard(component.spares.pop())

    def blame(self, component: LiveComponent, kind: int, message: str, address: int = 0) -> None:
        """`fail` for reasons that the hypervisor itself has found."""
        record = FaultRecord(component.name, component.epoch, kind, address=address, message=message)
        self.fail(component, record)

    def record(self, instance: Instance, record: FaultRecord) -> None:
        """Keep the evidence of a death."""
        wanted = record.kind in (abi.Fault.KILLED, abi.Fault.REPLACED)
        level = abi.LogLevel.INFO if wanted else abi.LogLevel.WARNING
        self.log.add(record.component, instance.epoch, f"died: {record.describe()}", level)
        life = self.components[record.component].life(instance)
        self.history.append(life | {"ended_ns": record.time_ns, "why": record.describe()})
        self.quarantine(self.evidence.keep(record, instance.ram))

    def lay_down(self, component: LiveComponent, instance: Instance) -> None:
        """What every end of a running instance has in common."""
        component.unburied.append(instance)
        self._silence(instance)

    def _silence(self, instance: Instance) -> None:
        """It is not heard any more, and its grants end."""
        self.loop.remove_reader(instance.sock.fileno())
        instance.move(Lifecycle.ENDED)
        for grant in self.grants.touching(instance):
            if grant.mapped and grant.mapped[0] is instance:
                grant.orphan()
            if grant.owner is instance:
                self.take_back(grant, lambda: None)

    def bury(self, component: LiveComponent, instance: Instance) -> None:
        """End what is left of an instance that ran, and keep its counters."""
        self.figures.harvest(component, instance)
        component.bury(instance)
        instance.kill()

    def component_ready(self, component: LiveComponent, instance: Instance) -> None:
        """`instance` called `ready`."""
        instance.ready_ns = time.monotonic_ns()
        if self.update:
            self.update.ready(component)
        recovery = self.recoveries.get(component.name)
        if recovery and recovery.successor is instance:
            del self.recoveries[component.name]
            recovery.ready()
        self.log.add(component.name, component.epoch, "ready", abi.LogLevel.DEBUG)

    def gave_up(self, component: LiveComponent, record: FaultRecord) -> None:
        """`component` will not come back."""
        self.recoveries.pop(component.name, None)
        while component.spares:
            self.discard(component.spares.pop())
        if component.device and not component.device.draining:
            component.device.end()
        if component.policy.is_program:
            component.exit_status = 128 + record.signal
            self.on_program_ended(component, record)
        else:
            self.log.add(component.name, component.epoch, "given up by restart policy", abi.LogLevel.ERROR)

    def program_exited(self, component: LiveComponent, status: int) -> None:
        """A program ended by itself; its servers lose a client."""
        instance = component.running
        assert instance is not None
        self.lay_down(component, instance)
        self.bury(component, instance)
        instance.ram.close()
        component.exit_status = status
        self.close_all(component)
        self.on_program_ended(component, None)

    def check_supervisor(self, resumed_ns: int = 0) -> None:
        """Replace a reincarnation server that has not answered in time."""
        live = self.components.get(self.policy.supervisor or "")
        instance = live.running if live else None
        if not (live and instance and self.supervision):
            return
        since, ready = max(instance.started_ns, instance.ready_ns, resumed_ns), instance.ready_ns != 0
        if self.supervision.is_overdue(since, ready, time.monotonic_ns()):
            self.blame(live, abi.Fault.HUNG, "no answer within its deadline")

    # -- connections ----------------------------------------------------------------------------------

    def peer_of(self, end: End) -> LiveComponent | None:
        """The component at the other end; None where that is the hypervisor itself."""
        name = end.channel.server if end.role == abi.Role.CLIENT else end.channel.client
        return self.components.get(name)

    def tell_peer(self, end: End, connection: Connection, state: int) -> None:
        """Put the state of a connection, unless it is gone, into the status page of the peer of `end`."""
        peer = self.peer_of(end)
        if peer and not connection.gone:
            peer.set_state(peer.placement.end(end.channel, other_role(end.role)), state, connection.epoch)

    def close_all(self, component: LiveComponent) -> None:
        """`component` will not come back: its peers learn it, whatever they sleep for."""
        for end, connection in component.connections:
            self.tell_peer(end, connection, abi.ChannelState.GONE)
            connection.gone = True
            connection.signal(other_role(end.role))

    def offer_reopen(
        self, end: End, connection: Connection, died_ns: int, *, same_pool: bool = False
    ) -> None:
        """Tell the peer of `end` that new rings wait for it."""
        if connection.gone:
            return
        if end.role == abi.Role.SERVER:
            self.figures.expect(connection, died_ns)
        elif not same_pool and self._replace_driver(connection):
            return
        peer = self.peer_of(end)
        if peer is None:
            if self.supervision and self.supervision.connection is connection:
                self.supervision.reopen()
        elif peer.running:
            self.tell_peer(end, connection, abi.ChannelState.REOPEN)
            connection.signal(other_role(end.role))

    def close_connection(self, connection: Connection) -> None:
        """After a complaint: both ends get fresh rings, later and later the more complaints come."""
        now = time.monotonic_ns()
        if now - connection.complained_ns > COMPLAINT_MEMORY_NS:
            connection.complaints = 0
        connection.complained_ns = now
        delay = COMPLAINT_DELAYS_S[min(connection.complaints, len(COMPLAINT_DELAYS_S) - 1)]
        connection.complaints += 1
        for live, end in self._ends_of(connection):
            live.set_state(end, abi.ChannelState.DEAD, connection.epoch)
        epoch = connection.epoch
        self.loop.call_later(delay, lambda: self._reopen(connection, epoch))

    def _reopen(self, connection: Connection, epoch: int) -> None:
        """Give both ends of a closed connection fresh rings, unless a death has done so meanwhile or will."""
        ends = self._ends_of(connection)
        if connection.gone or connection.epoch != epoch or not all(live.running for live, _ in ends):
            return
        if self._replace_driver(connection):
            return
        self.quarantine(connection.renew())
        for live, end in ends:
            live.set_state(end, abi.ChannelState.REOPEN, connection.epoch)
            connection.signal(end.role)
        if self.supervision and self.supervision.connection is connection:
            self.supervision.reopen()

    def _replace_driver(self, connection: Connection) -> bool:
        """Where a connection's pool is to be exchanged: its server, if it has a device that reaches the pool.

        Only a device that has been drained and set up anew surely leaves the old pool alone and reaches the
        new one, and a driver has to begin anew with it. So it is replaced, through no fault of its own.
        """
        server = self.components.get(connection.policy.server)
        if not connection.pool or not server or not server.device or not server.running:
            return False
        self.blame(server, abi.Fault.REPLACED, "the pool its device uses is exchanged")
        return True

    def _ends_of(self, connection: Connection) -> list[tuple[LiveComponent, End]]:
        everybody = self.components.values()
        return [(live, end) for live in everybody for end, each in live.connections if each is connection]

    def quarantine(self, memory: Sequence[MemoryObject]) -> None:
        """Close the objects of an ended epoch, off the recovery path."""

        def close() -> None:
            for each in memory:
                each.close()

        if memory:
            self.loop.call_later(QUARANTINE_S, close)

    # -- grants and devices ---------------------------------------------------------------------------

    def take_back(self, grant: Grant, done: Callable[[], None]) -> None:
        """Revoke `grant`; `done` when nobody else can reach the object. A grantee that holds on is killed."""
        self.grants.revoke(grant, done)
        if grant.mapped:
            grantee, address = grant.mapped
            self._unmap(grant, grantee, address)
        if grant.iova:
            self.devices[grant.connection.policy.server].withdrawn_ns = time.monotonic_ns()
            self.close_window(grant, lambda: None)

    def _unmap(self, grant: Grant, grantee: Instance, address: int) -> None:
        def unmapped() -> None:
            timer.cancel()
            grant.mapped = None
            grant.settle()

        def overdue() -> None:
            component = self.owner(grantee)
            if component.running is grantee:
                text = f"grant {grant.number:#x} not given back in time"
                self.blame(component, abi.Fault.REVOKE_DEADLINE, text)

        timer = self.loop.call_later(hypercalls.REVOKE_DEADLINE_S, overdue)
        if grantee.alive:
            grantee.apply([Step(wire.Operation.UNMAP, address, grant.memory.size)], unmapped)

    def close_window(self, grant: Grant, done: Callable[[], None]) -> None:
        """Close the DMA window on `grant`; a device that does not is replaced, with its driver."""
        device = self.devices[grant.connection.policy.server]
        grant.busy += 1

        def shut(ok: bool) -> None:
            grant.busy -= 1
            if ok:  # else the device is lost, and its driver's recovery will see to it
                grant.iova = 0
            grant.settle()
            done()

        device.shut(grant.iova, shut)

    def leave_device(self, driver: LiveComponent) -> list[Grant]:
        """The device of `driver` is about to be drained: its windows on these grants close with that. They
        are busy until then, but the successor may open its own."""
        leaving = [g for _, connection in driver.connections for g in self.grants.over(connection) if g.iova]
        for grant in leaving:
            grant.iova = 0
            grant.busy += 1
        return leaving

    def pools_of(self, driver: LiveComponent) -> list[tuple[int, MemoryObject]]:
        """(I/O address, memory) of the pools the device of `driver` may reach."""
        pools = []
        for region in driver.placement.regions:
            if region.kind == abi.RegionKind.POOL and region.iova and region.channel is not None:
                memory = self.connections[region.channel].pool
                if memory:
                    pools.append((region.iova, memory))
        return pools

    def _make_backend(self, device: LiveDevice) -> tuple[Backend, list[str]]:
        """A back-end, and the reasons why it is lost: none as long as it is good."""
        made: list[Backend] = []
        losses: list[str] = []

        def lost(why: str) -> None:
            losses.append(why)
            self.loop.post(lambda: self._device_lost(device, made, why))

        made.append(self.launcher.make_backend(device, lost, lambda seen: self._device_misled(device, seen)))
        return made[0], losses

    def _device_lost(self, device: LiveDevice, made: list[Backend], why: str) -> None:
        backend = device.backend
        driver = self.components[device.policy.component]
        if backend is None or backend not in made or self._closing:
            return
        self.log.add(device.policy.name, device.restarts, f"device lost: {why}", abi.LogLevel.WARNING)
        device.end()
        recovery = self.recoveries.get(driver.name)
        if recovery and not driver.running:
            recovery.device_lost()
        self.blame(driver, abi.Fault.DEVICE_DIED, why)

    def _device_misled(self, device: LiveDevice, seen: int) -> None:
        """The device found its driver pointing it outside its windows. `seen`, of a real device: the page
        that the IOMMU refused, plus 2 for a write."""
        if device.draining:
            return  # that was the driver before this one
        if time.monotonic_ns() - device.withdrawn_ns < WITHDRAWN_NS:
            return  # a window was there when the driver pointed to it, and has been taken back by its owner
        driver = self.components[device.policy.component]
        what, page = "a descriptor lies outside the DMA windows, or its chain is broken", 0
        if device.policy.kind == "pci":
            page = seen & -abi.PAGE_SIZE
            what = f"the IOMMU refused a {'write' if seen & 2 else 'read'} by it at I/O address {page:#x}"
        self.blame(driver, abi.Fault.DMA, what, page)

    def replace_device(self, device: LiveDevice, done: Callable[[], None]) -> None:
        """End a device that is gone or does not answer, and make another; `done` when it can be set up."""
        device.end()
        device.restarts += 1

        def made(result: tuple[Backend, list[str]] | None, error: Exception | None) -> None:
            backend, losses = result or (None, [str(error)])
            unwanted = self._closing or self.components[device.policy.component].gave_up
            if backend and not losses and not unwanted:
                device.backend = backend
                done()
                return
            if backend:
                backend.close()
            if not unwanted:
                why = f"no device: {losses[0]}"
                self.log.add(device.policy.name, device.restarts, why, abi.LogLevel.WARNING)
                self.loop.call_later(DEVICE_RETRY_S, lambda: self.replace_device(device, done))

        def make() -> None:
            self.loop.in_thread(lambda: self._make_backend(device), made)

        if device.policy.kind == "pci":  # there is one device, and two keepers of it would be at odds
            device.when_gone(make)
        else:
            make()

    # -- the end --------------------------------------------------------------------------------------

    def close(self) -> None:
        """End every process of the system, and wait a little until they are really gone."""
        self._closing = True
        for instance in self._instances.values():
            instance.kill()
        for device in self.devices.values():
            if device.backend:
                device.backend.close()
        self.launcher.close()
        deadline = time.monotonic() + TEARDOWN_S
        while time.monotonic() < deadline and not all(i.gone for i in self._instances.values() if i.pid):
            time.sleep(0.001)
