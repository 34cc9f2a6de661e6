"""What people read of a fault: words for the numbers that a tender has sent."""

from __future__ import annotations

import pytest

from hypervisor.abi import generated as abi
from hypervisor.faults import FaultRecord
from vmm.cli.faults import in_words, meaning

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
    assert meaning(*numbers) == WORDS[numbers]
    told = in_words(FaultRecord.reported("app", 1, (*numbers, 1, 0), bytes(160)).describe())
    assert told.startswith(abi.names(abi.Fault)[numbers[0]]) and told.endswith(f": {WORDS[numbers]}")


@pytest.mark.parametrize("numbers", WORDS)
def test_a_tenders_text_says_more_than_words(numbers: tuple[int, ...]) -> None:
    told = in_words(FaultRecord.reported("app", 1, (*numbers, 1, 0), bytes(160) + b"text").describe())
    assert told.endswith(": text") and WORDS[numbers] not in told


def test_what_people_read() -> None:
    fault = FaultRecord("app", 1, abi.Fault.EXCEPTION, 14, 6, 0xDEAD, 0x200000)
    words = (
        "exception 14 (error code 0x6) at address 0xdead, rip 0x200000: write to 0xdead, which is not mapped"
    )
    assert in_words(f"died: {fault.describe()}") == f"died: {words}"
    assert in_words(f"recovered from {fault.describe()} in 7 us") == f"recovered from {words} in 7 us"
    denied = FaultRecord("app", 1, abi.Fault.DENIED_HYPERCALL, address=9)
    assert in_words(denied.describe()) == "denied_hypercall revoke, rip 0x0: not in the manifest"
    internal = FaultRecord(
        "app", 1, abi.Fault.INTERNAL, registers=bytes(160), message="the tender failed: why"
    )
    assert in_words(internal.describe()) == "internal: the tender failed: why"


@pytest.mark.parametrize(
    "text", ["killed: by the operator", "ready", "a (vector 1, error code 0x0, address 0x0, rip 0x0)"]
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert in_words(text) == text


@pytest.mark.parametrize("kind", abi.Fault)
@pytest.mark.parametrize("number", [0, 14, 255, (1 << 64) - 1])
def test_any_numbers(kind: int, number: int) -> None:
    """Whatever a tender's numbers are, there are words for them."""
    record = FaultRecord.reported("files", 1, (kind, *(number,) * 5), bytes(160))
    assert in_words(record.describe()).isprintable()
