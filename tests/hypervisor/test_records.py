"""What is kept of the past is bounded, and printable: log, evidence, fault records, figures, throttle."""

from __future__ import annotations

import os
import signal

import pytest

from hypervisor import evidence, figures, log
from hypervisor.abi import generated as abi
from hypervisor.channels import Connection
from hypervisor.evidence import Evidence
from hypervisor.faults import FaultRecord
from hypervisor.log import Log
from hypervisor.memory import MemoryObject
from hypervisor.throttle import Throttle
from tests.hypervisor.policies import channel
from tests.hypervisor.world import World

# -- log ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ümlaut 漢字", "plain, ümlaut 漢字"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("two\nlines\r\tand\0nul", "two\\nlines\\r\\tand\\x00nul"),
        ("right\u202eto left", "right\\u202eto left"),
        ("\ud800 alone", "\\ud800 alone"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_nothing_in_a_log_writes_to_a_terminal(text: str, shown: str) -> None:
    records = Log()
    records.add("files", 1, text)
    assert records.since(0)[0].text == shown


def test_log_is_bounded_and_numbered() -> None:
    records = Log()
    for number in range(log.RECORDS + 10):
        records.add("files", 3, str(number), abi.LogLevel.DEBUG)
    assert len(records.since(0)) == log.RECORDS
    assert records.since(0)[0].number == 11
    last = records.since(log.RECORDS + 9)
    assert [record.text for record in last] == [str(log.RECORDS + 9)]
    assert (last[0].component, last[0].epoch, last[0].level) == ("files", 3, abi.LogLevel.DEBUG)


def test_throttle() -> None:
    throttle = Throttle(per_second=100, burst=5)
    assert [throttle.pause() for _ in range(5)] == [0.0] * 5
    assert 0.005 < throttle.pause() <= 0.01
    assert 0.015 < throttle.pause() <= 0.02
    throttle._seen -= 1.0
    assert [throttle.pause() for _ in range(5)] == [0.0] * 5, "no more than a burst is saved up"
    assert throttle.pause() > 0


# -- faults ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "vector", "expected"),
    [
        (abi.Fault.EXCEPTION, 0, signal.SIGFPE),
        (abi.Fault.EXCEPTION, 3, signal.SIGTRAP),
        (abi.Fault.EXCEPTION, 6, signal.SIGILL),
        (abi.Fault.EXCEPTION, 13, signal.SIGSEGV),
        (abi.Fault.EXCEPTION, 14, signal.SIGSEGV),
        (abi.Fault.EXCEPTION, 17, signal.SIGBUS),
        (abi.Fault.WINDOW, 0, signal.SIGSEGV),
        (abi.Fault.PHYSICAL, 0, signal.SIGSEGV),
        (abi.Fault.PANIC, 0, signal.SIGABRT),
        (abi.Fault.DENIED_HYPERCALL, 0, signal.SIGSYS),
        (abi.Fault.KILLED, 0, signal.SIGKILL),
        (abi.Fault.MEMORY, 0, signal.SIGKILL),
        (abi.Fault.INTERNAL, 0, signal.SIGBUS),
        (12345, 0, signal.SIGSEGV),
    ],
)
def test_the_signal_a_process_would_have_got(kind: int, vector: int, expected: int) -> None:
    assert FaultRecord("app", 1, kind, vector).signal == expected


def test_what_the_log_says() -> None:
    fault = FaultRecord("app", 1, abi.Fault.EXCEPTION, 14, 6, 0xDEAD, 0x200000, message="write\x1b")
    numbers = "vector 14, error code 0x6, address 0xdead, rip 0x200000"
    assert fault.describe() == f"exception ({numbers}): write\\x1b"
    assert FaultRecord("app", 1, abi.Fault.KILLED, address=9, message="why").describe() == "killed: why"
    assert FaultRecord("app", 1, abi.Fault.BAD_ARGUMENT, message="why").describe() == "bad_argument: why"
    jump = FaultRecord.reported("app", 1, (abi.Fault.EXCEPTION, 14, 0x14, 0, 0, 0), bytes(160))
    assert jump.describe() == "exception (vector 14, error code 0x14, address 0x0, rip 0x0)"
    assert FaultRecord("app", 1, 999).describe() == "999"


def test_a_tenders_text() -> None:
    assert FaultRecord.reported("app", 1, (abi.Fault.WINDOW, 0, 0, 0, 0, 0), b"").message == ""
    record = FaultRecord.reported("app", 1, (abi.Fault.WINDOW, 1, 2, 3, 4, 5), bytes(range(160)) + b"text")
    assert (record.message, record.registers) == ("text", bytes(range(160)))
    assert (record.vector, record.error_code, record.address, record.rip, record.rsp) == (1, 2, 3, 4, 5)


# -- evidence -------------------------------------------------------------------------------------------


def test_only_the_last_deaths_hold_memory() -> None:
    kept = Evidence()
    before = len(os.listdir("/proc/self/fd"))
    memories = [MemoryObject("ram", abi.PAGE_SIZE) for _ in range(4)]
    for epoch, memory in enumerate(memories, 1):
        memory.map[:1] = bytes([epoch])
        for old in kept.keep(FaultRecord("driver", epoch, abi.Fault.KILLED), memory):
            old.close()
    assert [memory.map[0] for memory in kept.memory["driver"]] == [3, 4]
    assert [memory.fd >= 0 for memory in memories] == [False, False, True, True]
    assert [record.epoch for record in kept.records] == [1, 2, 3, 4]
    assert list(kept.memory) == ["driver"]
    for memory in memories:
        memory.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_records_are_bounded() -> None:
    kept = Evidence()
    for epoch in range(evidence.RECORDS + 5):
        memory = MemoryObject("ram", abi.PAGE_SIZE)
        for old in kept.keep(FaultRecord("driver", epoch, abi.Fault.KILLED), memory):
            old.close()
    assert len(kept.records) == evidence.RECORDS and kept.records[0].epoch == 5
    for memory in kept.memory["driver"]:
        memory.close()


# -- figures --------------------------------------------------------------------------------------------


def test_deaths_nobody_noticed_are_forgotten() -> None:
    made = figures.Figures(1_000_000)  # a tick is a nanosecond
    connection = Connection(channel(0, "a", "b"))
    for epoch in range(figures.EXPECTED + 7):
        connection.epoch = epoch
        made.expect(connection, epoch)
    assert len(made._died) == figures.EXPECTED and (0, 6) not in made._died


def test_the_first_repeated_answer_ends_a_recovery(world: World) -> None:
    """Ticks of the client, turned into time by its first instruction: known in both clocks."""
    made, instance = world.system.figures, world.tender("files").instance
    world.kill("driver")
    died = world.record().time_ns
    world.revive("driver")

    first, start = died - 10_000_000, 5_000
    instance.stats.memory.map[56:64] = first.to_bytes(8, "little")

    def replay(number: int, channel_index: int, epoch: int, tsc: int) -> None:
        entry = abi.ReplayEntry(channel_index, epoch, tsc)
        at = abi.TELEMETRY_REPLAYS + number % abi.TELEMETRY_REPLAY_SLOTS * abi.ReplayEntry.SIZE
        instance.telemetry.map[at : at + abi.ReplayEntry.SIZE] = entry.pack()
        said = abi.Telemetry(start_tsc=start, replay_count=number + 1)
        instance.telemetry.map[: abi.Telemetry.SIZE] = said.pack()

    replay(0, 99, 2, 0)  # a channel it does not have
    replay(1, 0, 1, 0)  # an epoch nobody died before
    replay(2, 0, 2, start + 10_000_000 + 1_500_000)
    world.system.figures.harvest(world.live("files"), instance)
    assert list(made.recovery_ms) == [1.5]
    world.system.figures.harvest(world.live("files"), instance)
    assert len(made.recovery_ms) == 1, "each is counted once"
    assert len(made.ready_us) == 1
