"""Fixtures of the device tests: an image, our device in a process of its own, and a front-end on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.devices.machine import DeviceProcess, Loop, make_image
from tests.devices.queue_driver import Memory, QueueDriver, close_all


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Memory and queues end with the test that has made them; all together they would be too many."""
    yield
    close_all()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk image of 1 MiB in which every 8 bytes differ."""
    path = tmp_path / "disk.img"
    make_image(path)
    return path


Start = Callable[..., DeviceProcess]


@pytest.fixture
def start_device(image: Path) -> Iterator[Start]:
    """Starts our device on the image; all of them end with the test."""
    devices: list[DeviceProcess] = []

    def start(path: Path = image, **config: Any) -> DeviceProcess:
        devices.append(DeviceProcess(path, **config))
        return devices[-1]

    yield start
    for device in devices:
        device.close()


class Rig:
    """A running device, a front-end and an honest driver for each queue."""

    def __init__(self, device: DeviceProcess, queues: int = 1, size: int = 128, **arguments: Any) -> None:
        self.device = device
        self.loop = Loop(device.sock, **arguments)
        self.backend = self.loop.backend
        self.backend.negotiate()
        self.queues = queues
        self.size = size
        self.renew()

    def renew(self) -> None:
        """The memory and queues of the next driver epoch."""
        self.memory = Memory(self.queues)
        self.drivers = [QueueDriver(self.memory, index, self.size) for index in range(self.queues)]
        self.driver = self.drivers[0]

    def start(self) -> QueueDriver:
        self.backend.start([driver.setup() for driver in self.drivers], self.memory.windows())
        self.loop.settled()
        assert not self.loop.lost
        return self.driver


@pytest.fixture
def rig(start_device: Start) -> Rig:
    """Our device with one queue, started."""
    rig = Rig(start_device())
    rig.start()
    return rig
