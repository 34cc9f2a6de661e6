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


def test_what_people_read() -> None:
    fault = FaultRecord("app", 1, abi.Fault.EXCEPTION, 14, 6, 0xDEAD, 0x200000, message="write\x1b")
    assert fault.describe() == "exception 14 (error code 0x6) at address 0xdead, rip 0x200000: write\\x1b"
    denied = FaultRecord("app", 1, abi.Fault.DENIED_HYPERCALL, address=9)
    assert denied.describe() == "denied_hypercall revoke, rip 0x0"
    assert FaultRecord("app", 1, 999).describe() == "999"


# (kind, vector, error code, address) as a tender sends them
WORDS: dict[tuple[int, ...], str] = {
    (abi.Fault.EXCEPTION, 14, 4, 8): "read of 0x8, which is not mapped",
    (abi.Fault.EXCEPTION, 14, 7, 8): "write to 0x8, which forbids it",
    (abi.Fault.EXCEPTION, 14, 0x14, 0): "execution of 0x0, which is not mapped",
    (abi.Fault.EXCEPTION, 13, 0, 0): "general protection fault",
    (abi.Fault.EXCEPTION, 99, 0, 0): "vector 99",
    (abi.Fault.WINDOW, 14, 7, 8): "write to 0x8, which forbids it",
    (abi.Fault.WINDOW, 0, 6, 8): "store to 0x8 in a window where that is not granted",
    (abi.Fault.PHYSICAL, 0, 0, 8): "load from 0x8, where nothing of that kind is",
    (abi.Fault.DOORBELL, 0, 0, abi.DOORBELL_PAGE + 8): "rang doorbell 1, which it does not have",
    (abi.Fault.TRIPLE_FAULT, 0, 0, 0): "triple fault",
    (abi.Fault.DENIED_HYPERCALL, 0, 0, 3): "not in the manifest",
    (abi.Fault.BAD_ARGUMENT, 3, 9, 8): "hypercall log: 9 bytes at 0x8: too many, or not its own",
    (abi.Fault.MEMORY, 0, 0, 0): "the host has no memory for this VM's RAM",
}


@pytest.mark.parametrize("numbers", WORDS)
def test_a_tenders_numbers_in_words(numbers: tuple[int, ...]) -> None:
    assert FaultRecord.reported("app", 1, (*numbers, 0, 0), b"").message == WORDS[numbers]
    assert FaultRecord.reported("app", 1, (*numbers, 0, 0), bytes(160) + b"text").message == "text"


# -- evidence -------------------------------------------------------------------------------------------


def test_only_the_last_deaths_hold_memory() -> None:
    kept = Evidence()
    before = len(os.listdir("/proc/self/fd"))
    memories = [MemoryObject("ram", abi.PAGE_SIZE) for _ in range(4)]
    for epoch, memory in enumerate(memories, 1):
        memory.map[:1] = bytes([epoch])
        for old in kept.keep(FaultRecord("driver", epoch, abi.Fault.KILLED), memory):
            old.close()
    assert [death.record.epoch for death in kept.of("driver")] == [3, 4]
    assert [death.memory.map[0] for death in kept.of("driver")] == [3, 4]
    assert [memory.fd >= 0 for memory in memories] == [False, False, True, True]
    assert [record.epoch for record in kept.records] == [1, 2, 3, 4]
    assert kept.of("nobody") == []
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
    for death in kept.of("driver"):
        death.memory.close()


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
    assert made.as_json()["recovery_ms"] == [1.5]
    assert len(made.as_json()["ready_us"]) == 1
