"""The sound device: what it takes is in the file exactly once, whatever its driver says and who is killed."""

from __future__ import annotations

import itertools
import os
import random
import resource
import signal
import struct
import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from tests.devices.conftest import Rig
from tests.devices.machine import DeviceProcess
from tests.devices.queue_driver import NEXT, WRITE, Piece
from vmm.devices import sound
from vmm.devices.device import BREAKAGES, BackingFileError
from vmm.tender import jail

OK, BAD_MSG, NOT_SUPP, IO_ERR = 0x8000, 0x8001, 0x8002, 0x8003
SET_PARAMS = 0x0101
RATE_44100, RATE_48000 = 6, 7
TRANSFER = struct.Struct("<IIQ")
PARAMS = struct.Struct("<IIIIIBBBB")
STATUS = struct.Struct("<IIQ")
HEADER = AT = abi.VRING_IOVA + abi.VRING_PRIVATE
ANSWER = AT + 64
POOL = abi.POOL_IOVA
UNIT = 4  # bytes of a frame, unless a test has other channels


class SoundRig(Rig):
    """A running sound device and its driver."""

    def __init__(self, device: DeviceProcess, path: Path, size: int = 16) -> None:
        super().__init__(device, size=size)
        self.path = path

    def put(self, header: bytes, *pieces: Piece) -> None:
        """Sends a request: header, then these pieces, then the status."""
        self.driver.memory.vring[abi.VRING_PRIVATE : abi.VRING_PRIVATE + 80] = header.ljust(80, b"\0")
        chain = [Piece(HEADER, len(header)), *pieces, Piece(ANSWER, STATUS.size, True)]
        self.driver.chain(list(range(len(chain))), chain)
        self.driver.offer(0)
        self.driver.ring_bell()

    def ask(self, header: bytes, *pieces: Piece) -> tuple[int, int]:
        """The same; the status code and the position the device answers."""
        self.put(header, *pieces)
        ((head, _, length),) = self.driver.wait()
        assert (head, length) == (0, STATUS.size)
        code, latency, position = STATUS.unpack_from(self.driver.memory.vring, abi.VRING_PRIVATE + 64)
        assert latency == 0
        return code, position

    def play(self, position: int, data: bytes) -> tuple[int, int]:
        """Sends frames that lie in the pool."""
        self.driver.memory.pool[: len(data)] = data
        return self.ask(TRANSFER.pack(0, 0, position), Piece(POOL, len(data)))

    def configure(self, rate: int = RATE_48000, channels: int = 2, form: int = 5) -> tuple[int, int]:
        return self.ask(PARAMS.pack(SET_PARAMS, 0, 0, 0, 0, channels, form, rate, 0))

    @property
    def frames(self) -> bytes:
        """What is in the recording, as others read it."""
        with wave.open(str(self.path), "rb") as recording:
            return recording.readframes(recording.getnframes())


Play = Callable[..., SoundRig]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty file."""
    (tmp_path / "sound.wav").touch()
    return tmp_path / "sound.wav"


@pytest.fixture
def start(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    """Starts the device on the file, in its jail; all of them end with the test."""
    as_root = jail.privileged()
    monkeypatch.setattr(os, "fork", lambda: jail.fork(as_root=as_root))
    devices: list[DeviceProcess] = []

    def begin() -> SoundRig:
        devices.append(DeviceProcess(path, kind="virtio-snd", jail=True))
        rig = SoundRig(devices[-1], path)
        rig.start()
        return rig

    yield begin
    for device in devices:
        device.close()


def noise(frames: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(frames * UNIT)


def test_what_it_offers(start: Play, path: Path) -> None:
    rig = start()
    assert rig.backend.config[:12] == struct.pack("<III", 0, 1, 0)
    with wave.open(str(path), "rb") as recording:  # valid before anything was played
        assert recording.getparams()[:4] == (2, 2, 48000, 0)


def test_every_frame_once(start: Play) -> None:
    """In pieces of any size, with repeats of all that was sent before, and gaps."""
    rig, data, dice = start(), noise(3000), random.Random(2)
    taken = 0
    while taken < 3000:
        first, count = dice.randrange(0, 3000), dice.randrange(1, 400)
        count = min(count, 3000 - first)
        code, position = rig.play(first, data[first * UNIT : (first + count) * UNIT])
        if first > taken:
            assert (code, position) == (BAD_MSG, taken)
        else:
            taken = max(taken, first + count)
            assert (code, position) == (OK, taken)
        assert rig.frames == data[: taken * UNIT]  # valid at every moment
        if first > taken + 300:
            first, count = taken, min(200, 3000 - taken)
            assert rig.play(first, data[first * UNIT : (first + count) * UNIT]) == (OK, taken + count)
            taken += count
    assert rig.device.counters().bytes_written == 3000 * UNIT


def test_frames_in_many_pieces(start: Play) -> None:
    """The pieces have no regard for frames, and what was taken before ends in the middle of one."""
    rig, data = start(), noise(100)
    rig.driver.memory.pool[:400] = data
    cuts = [0, 1, 7, 8, 155, 311, 400]
    pieces = [Piece(POOL + a, b - a) for a, b in itertools.pairwise(cuts)]
    assert rig.play(0, data[:160]) == (OK, 40)
    rig.driver.memory.pool[:400] = data
    assert rig.ask(TRANSFER.pack(0, 0, 0), *pieces) == (OK, 100)
    assert rig.frames == data


def test_format(start: Play, path: Path) -> None:
    rig = start()
    assert rig.configure(RATE_44100, 1) == (OK, 0)
    assert rig.play(0, noise(50)) == (OK, 100)
    with wave.open(str(path), "rb") as recording:
        assert recording.getparams()[:4] == (1, 2, 44100, 100)
    assert rig.configure(RATE_44100, 1) == (OK, 100)  # a driver's successor learns the position
    assert rig.configure(RATE_48000, 1) == rig.configure(RATE_44100, 2) == (NOT_SUPP, 100)


@pytest.mark.parametrize(("rate", "channels", "form", "code"), [
    (14, 2, 5, NOT_SUPP), (255, 2, 5, NOT_SUPP), (7, 9, 5, NOT_SUPP), (7, 255, 5, NOT_SUPP),
    (7, 2, 17, NOT_SUPP), (7, 0, 5, BAD_MSG),
])  # fmt: skip
def test_bad_format(start: Play, rate: int, channels: int, form: int, code: int) -> None:
    rig = start()
    assert rig.configure(rate, channels, form) == (code, 0)
    assert rig.play(0, noise(5)) == (OK, 5)


# Requests that get an error, and change nothing: header, pieces, code.
BAD: dict[str, tuple[bytes, list[Piece], int]] = {
    "no frames": (TRANSFER.pack(0, 0, 10), [], BAD_MSG),
    "half a frame": (TRANSFER.pack(0, 0, 10), [Piece(POOL, 6)], BAD_MSG),
    "another stream": (TRANSFER.pack(1, 0, 10), [Piece(POOL, 8)], BAD_MSG),
    "reserved": (TRANSFER.pack(0, 1, 10), [Piece(POOL, 8)], BAD_MSG),
    "gap": (TRANSFER.pack(0, 0, 11), [Piece(POOL, 8)], BAD_MSG),
    "position that overflows": (TRANSFER.pack(0, 0, 2**64 - 1), [Piece(POOL, 8)], BAD_MSG),
    "short header": (TRANSFER.pack(0, 0, 10)[:15], [], BAD_MSG),
    "parameters too short": (PARAMS.pack(SET_PARAMS, 0, 0, 0, 0, 2, 5, 7, 0)[:23], [], BAD_MSG),
    "parameters too long": (PARAMS.pack(SET_PARAMS, 0, 0, 0, 0, 2, 5, 7, 0), [Piece(POOL, 1)], BAD_MSG),
    "parameters of another stream": (PARAMS.pack(SET_PARAMS, 3, 0, 0, 0, 2, 5, 7, 0), [], BAD_MSG),
    "features": (PARAMS.pack(SET_PARAMS, 0, 0, 0, 4, 2, 5, 7, 0), [], NOT_SUPP),
    "frames outside": (TRANSFER.pack(0, 0, 10), [Piece(0x1000, 8)], IO_ERR),
    "frames partly outside": (TRANSFER.pack(0, 0, 10), [Piece(POOL + (4 << 20) - 4, 8)], IO_ERR),
    "frames at the end of the address space": (TRANSFER.pack(0, 0, 10), [Piece(2**64 - 4, 8)], IO_ERR),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_request(start: Play, name: str) -> None:
    header, pieces, code = BAD[name]
    rig, data = start(), noise(20)
    assert rig.play(0, data[:40]) == (OK, 10)
    assert rig.ask(header, *pieces) == (code, 10)
    assert rig.frames == data[:40]
    assert rig.play(10, data[40:]) == (OK, 20)
    assert rig.frames == data
    counters = rig.device.counters()
    assert (counters.errors, counters.dma_faults, counters.broken) == (1, int(code == IO_ERR), 0)


# What breaks the queue: descriptors as (address, length, flags, next).
CRIMES: dict[str, tuple[list[tuple[int, int, int, int]], str]] = {
    "no status": ([(AT, 16, NEXT, 1), (POOL, 8, 0, 0)], "no status byte"),
    "a short status": ([(AT, 16, NEXT, 1), (POOL, 8, NEXT, 2), (ANSWER, 15, WRITE, 0)], "no status byte"),
    "a status outside": (
        [(AT, 16, NEXT, 1), (POOL, 8, NEXT, 2), (0x1000, 16, WRITE, 0)], "status byte outside the windows",
    ),
    "a status half outside": (
        [(AT, 16, NEXT, 1), (POOL, 8, NEXT, 2), (POOL + (4 << 20) - 8, 16, WRITE, 0)],
        "status byte outside the windows",
    ),
    "a loop": ([(AT, 16, NEXT, 1), (POOL, 8, NEXT, 0)], "chain too long or a loop"),
    "frames behind the status": (
        [(AT, 16, NEXT, 1), (ANSWER, 16, WRITE | NEXT, 2), (POOL, 8, 0, 0)],
        "readable descriptor after a writable one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CRIMES)
def test_broken_chain(start: Play, name: str) -> None:
    descriptors, breakage = CRIMES[name]
    rig, data = start(), noise(20)
    assert rig.play(0, data[:40]) == (OK, 10)
    rig.driver.memory.vring[abi.VRING_PRIVATE : abi.VRING_PRIVATE + 16] = TRANSFER.pack(0, 0, 10)
    for index, descriptor in enumerate(descriptors):
        rig.driver.descriptor(index, *descriptor)
    rig.driver.offer(0)
    rig.driver.ring_bell()
    rig.loop.until(lambda: rig.device.counters().broken == 1)
    assert BREAKAGES[rig.device.counters().last_breakage] == breakage
    assert rig.frames == data[:40]
    rig.loop.finish(rig.backend.stop)
    rig.renew()
    rig.start()  # the driver's successor
    assert rig.play(10, data[40:]) == (OK, 20)
    assert rig.frames == data


def test_it_outlives_its_drivers_and_its_own_processes(start: Play) -> None:
    """Another device, and a driver that repeats, miss and double nothing."""
    data, taken, dice = noise(4000), 0, random.Random(3)
    rig = start()
    for _ in range(8):
        _, taken = rig.configure()
        assert rig.frames[: taken * UNIT] == data[: taken * UNIT]
        first = max(0, taken - dice.randrange(100))
        assert rig.play(first, data[first * UNIT : (first + 300) * UNIT]) == (OK, first + 300)
        following = data[(first + 300) * UNIT : (first + 500) * UNIT]
        rig.driver.memory.pool[: len(following)] = following
        rig.put(TRANSFER.pack(0, 0, first + 300), Piece(POOL, len(following)))
        if dice.random() < 0.5:
            rig.device.kill()  # with this under way
            rig = start()
        else:
            rig.loop.finish(rig.backend.stop)
            rig.renew()
            rig.start()
    _, taken = rig.configure()
    assert rig.play(taken, data[taken * UNIT :]) == (OK, 4000)
    assert rig.frames == data


def test_frames_that_the_header_does_not_count(start: Play, path: Path) -> None:
    """As a device leaves them that was killed between the frames and the header."""
    rig, data = start(), noise(100)
    assert rig.play(0, data[:200]) == (OK, 50)
    rig.device.kill()
    path.write_bytes(path.read_bytes() + data[200:300])
    rig = start()
    assert rig.configure() == (OK, 50)
    assert rig.play(50, data[200:]) == (OK, 100)
    assert rig.frames == data


def test_the_next_waits_until_the_last_has_gone(start: Play) -> None:
    """Two at once would be at odds about the header."""
    first = start()
    assert first.play(0, noise(10)) == (OK, 10)
    timer = threading.Timer(0.2, first.device.kill)
    timer.start()
    second = start()
    assert first.device.wait_status is not None  # it was not ready before
    timer.join()
    assert second.configure() == (OK, 10)


def test_a_full_file_system(path: Path) -> None:
    """Simulated by the limit of a file's size: the transfer fails, what was there stays."""
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # inherited
    device = DeviceProcess(path, kind="virtio-snd")
    signal.signal(signal.SIGXFSZ, previous)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(device.pid, resource.RLIMIT_FSIZE, (44 + 100 * UNIT, most))
    rig = SoundRig(device, path)
    rig.start()
    data = noise(200)
    assert rig.play(0, data[:320]) == (OK, 80)
    assert rig.play(80, data[320:800]) == (IO_ERR, 80)
    assert rig.frames == data[:320]
    assert rig.play(80, data[320:400]) == (OK, 100)
    assert rig.frames == data[:400]
    device.close()


def test_as_much_as_riff_can_count(path: Path, start: Play) -> None:
    """A recording ends before its size would overflow 32 bits."""
    most = (2**32 - 1 - 36) // UNIT
    with path.open("wb") as file:
        file.write(sound.header(sound.Recording(48000, 2, most - 10)))
        file.truncate(44 + (most - 10) * UNIT)  # sparse
    rig = start()
    assert rig.play(most - 10, noise(11)) == (IO_ERR, most - 10)
    assert rig.play(most - 10, noise(10)) == (OK, most)
    assert rig.play(most, noise(1)) == (IO_ERR, most)
    assert path.stat().st_size == 44 + most * UNIT


def foreign(path: Path) -> list[tuple[str, bytes]]:
    good = sound.header(sound.Recording(48000, 2, 0))
    return [
        ("text", b"not a recording, but long enough to be one\n" * 2),
        ("short", good[:43]),
        ("no channels", good[:22] + b"\0\0" + good[24:]),
        ("another format", good[:20] + b"\3\0" + good[22:]),
        ("frames that are not there", sound.header(sound.Recording(48000, 2, 1000))),
    ]


@pytest.mark.parametrize("index", range(5))
def test_a_file_that_is_something_else(path: Path, index: int) -> None:
    _, content = foreign(path)[index]
    path.write_bytes(content)
    device = DeviceProcess(path, kind="virtio-snd", name="sound0")
    assert device.wait_end() == 2
    problem = "the file is no recording of this device; give another one, or an empty one"
    assert device.errors() == f"sound0: {problem}\n"
    assert path.read_bytes() == content
    device.close()


def test_what_cannot_be_a_recording(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(BackingFileError, match="not open for reading and writing"):
        sound.check_recording(fd, "sound0")
    os.close(fd)
    fd = os.open("/dev/null", os.O_RDWR)
    with pytest.raises(BackingFileError, match="not a regular file"):
        sound.check_recording(fd, "sound0")
    os.close(fd)
