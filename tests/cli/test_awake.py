"""Keeping CPUs awake: only while there are wake-ups, and no more awake than the host's kind asks for."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest

from vmm.cli import awake as awake_module
from vmm.cli import main
from vmm.cli.awake import PERIOD_S, Awake, polled_us, tolerated_us


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return clock


class Host:
    """A host with two CPUs whose idle states are those of `driver`."""

    def __init__(self, folder: Path, driver: str, latency: str = "1") -> None:
        self.sysfs, self.device = folder / "cpu", folder / "cpu_dma_latency"
        self.waits = 0
        self.device.touch()
        (self.sysfs / "cpuidle").mkdir(parents=True)
        (self.sysfs / "cpuidle/current_driver").write_text(driver + "\n")
        for cpu in range(2):
            for number, name in enumerate(("POLL", "C1")):
                state = self.sysfs / f"cpu{cpu}/cpuidle/state{number}"
                state.mkdir(parents=True)
                (state / "name").write_text(name + "\n")
                (state / "latency").write_text(latency + "\n")
        self.poll(0)

    def poll(self, microseconds: int) -> None:
        """Each CPU has polled so long since the host's start."""
        for cpu in range(2):
            (self.sysfs / f"cpu{cpu}/cpuidle/state0/time").write_text(f"{microseconds}\n")

    def awake(self) -> Awake:
        return Awake(lambda: self.waits, self.device, self.sysfs)


def test_only_while_there_are_wake_ups(tmp_path: Path, now: list[float]) -> None:
    host = Host(tmp_path, "haltpoll")
    awake = host.awake()
    assert awake.held and awake.due == now[0] + PERIOD_S
    held = []
    for waits in (1000, 1010, 1020, 3000, 3000):
        host.waits = waits
        now[0] = awake.due
        awake.look()
        held.append(awake.held)
    assert held == [True, False, False, True, False]


def test_nothing_is_decided_before_its_time(tmp_path: Path, now: list[float]) -> None:
    awake = Host(tmp_path, "haltpoll").awake()
    now[0] += PERIOD_S / 2
    awake.look()
    assert awake.held


def test_the_end_lets_cpus_sleep(tmp_path: Path, now: list[float]) -> None:
    host = Host(tmp_path, "haltpoll")
    awake = host.awake()
    host.waits, now[0] = 10_000, now[0] + 1
    for _ in range(2):
        awake.close()
        awake.look()
        assert not awake.held


def test_what_was_polled_away_meanwhile_is_counted(tmp_path: Path, now: list[float]) -> None:
    host = Host(tmp_path, "haltpoll")
    host.poll(1_000_000)
    awake = host.awake()
    host.poll(1_200_000)
    now[0] = awake.due
    awake.look()  # nothing was waited for
    host.poll(5_000_000)
    host.waits, now[0] = 10_000, awake.due
    awake.look()
    host.poll(5_050_000)
    awake.close()
    assert awake.polled_s == pytest.approx(2 * 0.25)


@pytest.mark.parametrize(
    ("driver", "latency", "expected"),
    [("haltpoll", "1", 0), ("intel_idle", "2", 2), ("acpi_idle", "400", None), ("intel_idle", "?", None)],
)
def test_how_shallow(tmp_path: Path, driver: str, latency: str, expected: int | None) -> None:
    host = Host(tmp_path, driver, latency)
    assert tolerated_us(host.sysfs) == expected
    awake = host.awake()
    assert awake.held == (expected is not None)
    assert host.device.read_bytes() == (b"" if expected is None else struct.pack("=i", expected))
    awake.close()


def test_a_host_without_any_of_this(tmp_path: Path) -> None:
    assert tolerated_us(tmp_path) is None and polled_us(tmp_path) == 0
    awake = Awake(lambda: 0, tmp_path / "none", tmp_path)
    assert not awake.held and awake.due == float("inf")


def test_a_host_that_does_not_permit_it(tmp_path: Path) -> None:
    host = Host(tmp_path, "haltpoll")
    host.device = tmp_path / "none"
    awake = host.awake()
    assert not awake.held and awake.due == float("inf")
    awake.close()
    assert awake.polled_s == 0


def test_the_option_without_permission(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "none"
    monkeypatch.setattr(awake_module, "DEVICE", place)
    assert main.main(["run", "system.toml", "--low-latency", "--", "ls"]) == 125
    message = f"r3s3: --low-latency: {place} is not writable; run as root, or leave it out"
    assert " ".join(capsys.readouterr().err.split()) == message
