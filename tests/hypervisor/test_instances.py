"""Instances: the guarded lifecycle, packing of steps, and sends that never wait."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from hypervisor import wire
from hypervisor.abi import generated as abi
from hypervisor.instances import (
    STEPS_MAX,
    Instance,
    Lifecycle,
    LifecycleError,
    Step,
    pack_steps,
)
from tests.hypervisor.policies import component

ALLOWED = {
    ("SPAWNING", "SPARE"),
    ("SPAWNING", "RUNNING"),
    ("SPAWNING", "ENDED"),
    ("SPARE", "RUNNING"),
    ("SPARE", "ENDED"),
    ("RUNNING", "ENDED"),
}


@pytest.fixture
def instance() -> Iterator[Instance]:
    made = Instance(component("files"))
    yield made
    made.close()
    made.ram.close()


@pytest.mark.parametrize("old", list(Lifecycle))
@pytest.mark.parametrize("new", list(Lifecycle))
def test_only_these_transitions(instance: Instance, old: Lifecycle, new: Lifecycle) -> None:
    instance.state = old
    if (old.name, new.name) in ALLOWED:
        instance.move(new)
        assert instance.state is new and instance.alive is (new is not Lifecycle.ENDED)
    else:
        with pytest.raises(LifecycleError, match=f"files #{instance.number}: "):
            instance.move(new)
        assert instance.state is old


def test_steps() -> None:
    op = wire.Operation
    steps = [Step(op.MAP, 1, 2, 3, fd=7), Step(op.INFO, 4, 2, info=b"ab")]
    steps += [Step(op.WAKE, 5, fd=9), Step(op.RUN)]
    body, fds = pack_steps(steps)
    assert fds == [7, 9]
    size = wire.OPERATION.size
    assert [wire.OPERATION.unpack_from(body, at * size) for at in range(4)] == [
        (op.MAP, 0, 1, 2, 3), (op.INFO, 1, 4, 2, 0), (op.WAKE, 1, 5, 0, 0), (op.RUN, 2, 0, 0, 0),
    ]  # fmt: skip
    assert body[4 * size :] == b"ab"


def test_many_steps_are_several_records(instance: Instance) -> None:
    steps = [Step(wire.Operation.WAKE, n, fd=instance.ram.fd) for n in range(2 * STEPS_MAX + 5)]
    done: list[int] = []
    instance.apply(steps, lambda: done.append(1))
    counts, last = [], 0
    for _ in range(3):
        message = wire.receive(instance.tender_end)
        assert message and len(message.fds) == message.args[0]
        counts.append(message.args[0])
        last = message.sequence
        message.close()
    assert counts == [STEPS_MAX, STEPS_MAX, 5]
    assert last == 3
    assert [instance.acknowledged(each) for each in (0, 2, 1, 2, 2, 3, 3, 4)] == [
        False, False, True, True, False, True, False, False,
    ]  # fmt: skip
    assert done == [1]


def test_results(instance: Instance) -> None:
    instance.result(-1, 1 << 64, data=b"data")
    message = wire.receive(instance.tender_end)
    assert message and message.args[:3] == ((1 << 64) - 1, 0, 0) and message.body == b"data"
    instance.move(Lifecycle.ENDED)
    instance.result(0)
    instance.tender_end.setblocking(False)
    with pytest.raises(BlockingIOError):
        wire.receive(instance.tender_end)


def test_a_send_never_waits(instance: Instance) -> None:
    """Who does not read is ended; who has gone is noticed elsewhere."""
    for _ in range(100_000):
        instance.send(wire.Kind.PING, ())
        if instance.doomed:
            break
    assert instance.doomed
    instance.tender_end.close()
    instance.send(wire.Kind.PING, ())
    instance.close()
    instance.send(wire.Kind.PING, ())


def test_kill_and_gone(instance: Instance) -> None:
    process = subprocess.Popen(["sleep", "60"])
    assert not instance.gone
    instance.spawned(process.pid, os.pidfd_open(process.pid))
    used = instance.cpu_ns()
    assert not instance.gone and used >= 0
    instance.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL and instance.gone
    instance.kill()
    assert instance.cpu_ns() >= used, "what was read last, now that nothing can be"


def test_cpu_time_is_known_after_the_end(instance: Instance) -> None:
    """Its process is gone when the counters of the dead are added up."""
    with subprocess.Popen(["yes"], stdout=subprocess.DEVNULL) as process:
        instance.spawned(process.pid, os.pidfd_open(process.pid))
        while time.clock_gettime_ns(~process.pid << 3 | 2) < 2_000_000:
            time.sleep(0.001)
        instance.kill()
    assert instance.gone and instance.cpu_ns() >= 2_000_000


def test_killed_before_its_process_is_known(instance: Instance) -> None:
    instance.kill()
    process = subprocess.Popen(["sleep", "60"])
    instance.spawned(process.pid, os.pidfd_open(process.pid))
    assert process.wait() == -signal.SIGKILL


def test_gone_with_a_large_descriptor(instance: Instance) -> None:
    """As in a system with many programs."""
    read, write = os.pipe()
    instance.pidfd = os.dup2(read, 1500)
    os.close(read)
    assert not instance.gone
    os.write(write, b"x")
    assert instance.gone
    os.close(write)


def test_close_gives_everything_back_but_the_memory() -> None:
    before = len(os.listdir("/proc/self/fd"))
    made = Instance(component("files"))
    made.telemetry_counters()
    made.stats.read("exits")
    made.close()
    made.close()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    made.ram.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_stats(instance: Instance) -> None:
    instance.stats.memory.map[56:64] = (77).to_bytes(8, "little")
    assert instance.stats.read("first_instruction_ns") == 77 and instance.stats.read("exits") == 0


@pytest.mark.parametrize("count", [0, 1, 5, 127, 128, 129, 1000, (1 << 64) - 1])
def test_new_replays(instance: Instance, count: int) -> None:
    said = abi.Telemetry(replay_count=count)
    instance.telemetry.map[: abi.Telemetry.SIZE] = said.pack()
    assert len(instance.new_replays()) == min(count, abi.TELEMETRY_REPLAY_SLOTS)
    assert instance.new_replays() == []
    instance.telemetry.map[: abi.Telemetry.SIZE] = abi.Telemetry(replay_count=1).pack()
    assert len(instance.new_replays()) == (1 if count == 0 else 0), "a count that goes back is a lie"
