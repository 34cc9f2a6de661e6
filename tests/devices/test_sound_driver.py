"""The audio driver's virtqueue, in C, compiled for the host: devices that keep the rules, and that do not."""

from __future__ import annotations

import ctypes
import random
import struct
import subprocess
from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from images.guests import C_INCLUDES, REPOSITORY

EVENT_INDEX = 1 << 29
PLACES = 7
AVAILABLE, USED = abi.VRING_AVAILABLE, abi.VRING_USED
STATUS = struct.Struct("<IIQ")
OK = 0x8000


class Driver:
    """The compiled queue, and the device's view of its rings."""

    def __init__(self, library: ctypes.CDLL, features: int = EVENT_INDEX, size: int = 16) -> None:
        self.library, self.size = library, size
        for name in ("try_open", "try_take", "try_ready"):
            getattr(library, name).restype = ctypes.c_char_p
        ctypes.c_uint64.in_dll(library, "features").value = features
        ctypes.c_uint64.in_dll(library, "queue_size").value = size
        self.last_words = library.try_open()
        self.rings = (ctypes.c_uint8 * abi.VRING_STRIDE).in_dll(library, "rings")
        self.served = 0

    def submit(self, payload: bytes = b"frames", position: int = 0) -> int:
        """Requests under way, then."""
        outstanding: int = self.library.submit(
            payload, ctypes.c_size_t(len(payload)), ctypes.c_uint64(position)
        )
        return outstanding

    def take(self) -> tuple[int, int, int] | bytes | None:
        """Status of the oldest request if it has ended; what the driver said if it died of it."""
        status, taken = ctypes.create_string_buffer(STATUS.size), ctypes.c_int(-1)
        if words := self.library.try_take(status, ctypes.byref(taken)):
            return bytes(words)
        return STATUS.unpack(status.raw) if taken.value else None

    def kicks(self) -> int:
        """Doorbells rung for what was submitted since the last time."""
        counter = ctypes.c_uint.in_dll(self.library, "doorbells")
        before = counter.value
        self.library.kick()
        return counter.value - before

    # -- the device

    def get(self, form: str, offset: int) -> int:
        return int(struct.unpack_from(f"<{form}", self.rings, offset)[0])

    def put(self, form: str, offset: int, *values: int) -> None:
        struct.pack_into(f"<{form}", self.rings, offset, *values)

    def request(self, number: int) -> tuple[int, bytes, int]:
        """Head, header with payload, and where the status goes, of request `number`."""
        head = self.get("H", AVAILABLE + 4 + 2 * (number % self.size))
        address, length, flags, following = struct.unpack_from("<QIHH", self.rings, 16 * head)
        answer, room, more, _ = struct.unpack_from("<QIHH", self.rings, 16 * following)
        assert (flags, more, room) == (1, 2, STATUS.size)
        start, place = address - abi.VRING_IOVA, answer - abi.VRING_IOVA
        assert abi.VRING_PRIVATE <= place < start and start + length <= abi.VRING_STRIDE
        return head, bytes(self.rings[start : start + length]), place

    def end(self, count: int = 1, code: int = OK) -> None:
        """End so many requests as an honest device does."""
        for _ in range(count):
            head, _, place = self.request(self.served)
            STATUS.pack_into(self.rings, place, code, 0, self.served)
            self.put("II", USED + 4 + 8 * (self.served % self.size), head, STATUS.size)
            self.served += 1
            self.put("H", USED + 2, self.served & 0xFFFF)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """queue.c and its world."""
    product = tmp_path_factory.mktemp("driver") / "driver.so"
    source = REPOSITORY / "components/audio_driver/src"
    includes = [f"-I{each}" for each in (source, *C_INCLUDES)]
    files = [str(source / "queue.c"), str(Path(__file__).with_name("sound_driver.c"))]
    options = "-std=gnu11 -O1 -Wall -Wextra -Werror -fsanitize=undefined -fsanitize-undefined-trap-on-error"
    command = ["cc", *options.split(), "-shared", "-fPIC", *includes, *files, "-o", str(product)]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    return ctypes.CDLL(str(product))


@pytest.mark.parametrize("size", [16, 64, 256])
def test_requests_arrive_and_end_in_order(library: ctypes.CDLL, size: int) -> None:
    """Often enough for every index to wrap."""
    driver, dice, sent, taken = Driver(library, size=size), random.Random(1), 0, 0
    contents: list[bytes] = []
    while taken < 70_000:
        for _ in range(dice.randint(0, PLACES - (sent - taken))):
            payload = sent.to_bytes(4, "little") * 2
            assert driver.submit(payload, sent) == sent + 1 - taken
            contents.append(struct.pack("<IIQ", 0, 0, sent) + payload)
            sent += 1
        count = dice.randint(0, sent - driver.served)
        for number in range(driver.served, driver.served + count):
            assert driver.request(number)[1] == contents[number]
        driver.end(count)
        while (status := driver.take()) is not None:
            assert status == (OK, 0, taken)
            taken += 1
        assert taken == driver.served


def test_the_longest_request_keeps_clear_of_the_next(library: ctypes.CDLL) -> None:
    driver = Driver(library)
    for number in range(PLACES):
        driver.submit(bytes([number]) * 4096, number)
    for number in range(PLACES):
        assert driver.request(number)[1][16:] == bytes([number]) * 4096


@pytest.mark.parametrize("features", [0, EVENT_INDEX])
def test_doorbells_and_interrupts_as_wished(library: ctypes.CDLL, features: int) -> None:
    driver = Driver(library, features)
    flags, event = AVAILABLE, AVAILABLE + 4 + 2 * driver.size
    assert driver.get("H", flags) == (0 if features else 1)  # awake: no interrupts
    driver.submit()
    driver.submit()
    assert (driver.kicks(), driver.kicks()) == (1, 0)
    driver.put("H", USED, 1)  # no notifications, please
    driver.put("H", USED + 4 + 8 * driver.size, 7)  # only at the eighth
    driver.submit()
    assert driver.kicks() == 0
    library.sleep_announced()
    if features:
        assert driver.get("H", event) == 2  # when the third has ended
    else:
        assert driver.get("H", flags) == 0
    library.awake_announced()
    assert driver.get("H", flags) == (0 if features else 1)


def test_an_error_is_no_crime(library: ctypes.CDLL) -> None:
    driver = Driver(library)
    driver.submit()
    driver.end(code=0x8003)
    assert driver.take() == (0x8003, 0, 0)


def test_a_device_that_lies(library: ctypes.CDLL) -> None:
    """The driver dies of it, with a sentence."""
    ahead, other = b"its used index ran ahead", b"it ended another request"
    for index in (2, 100, 0xFFFF, 0x8000):
        driver = Driver(library)
        driver.submit()
        driver.put("H", USED + 2, index)
        assert ahead in (driver.take() or b"")
        assert ahead in driver.library.try_ready(ctypes.byref(ctypes.c_int()))
    for head in (1, 2, 15, 16, 0xFFFFFFFF):
        driver = Driver(library)
        driver.submit()
        driver.put("II", USED + 4, head, 16)
        driver.put("H", USED + 2, 1)
        assert other in (driver.take() or b"")


def test_a_device_that_scribbles(library: ctypes.CDLL) -> None:
    """Nothing that it writes into the driver's own parts of the rings is believed."""
    driver, dice = Driver(library), random.Random(4)
    for number in range(2000):
        driver.submit(b"%d" % number, number)
        _, content, place = driver.request(number)
        assert content == struct.pack("<IIQ", 0, 0, number) + b"%d" % number
        driver.end()
        driver.rings[:USED] = list(dice.randbytes(USED))
        driver.rings[place + STATUS.size : place + 4096] = list(dice.randbytes(4096 - STATUS.size))
        assert driver.take() == (OK, 0, number)


@pytest.mark.parametrize("size", [0, 8, 13, 512])
def test_a_queue_that_is_too_small_or_too_large(library: ctypes.CDLL, size: int) -> None:
    driver = Driver(library, size=size)
    assert b"the queue is too small" in driver.last_words
