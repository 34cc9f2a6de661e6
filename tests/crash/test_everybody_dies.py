"""All are killed at random, by the hypervisor and from outside, while somebody reads. Digests are right."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time

import pytest

from tests.system.conftest import digests, disk, guests, stage
from tests.system.plan import seeds
from tests.system.stage import COMPONENTS, FILES, Scene, Stage, children, strike
from vmm.cli.command import CommandError

__all__ = ["digests", "disk", "guests", "stage"]
pytestmark = pytest.mark.kvm

KILLS_PER_S = {"disk_driver": 8.0, "file_server": 3.0, "console": 2.0, "reincarnation_server": 4.0}


class Murderer:
    """Sends SIGKILL to processes of a system, chosen and timed at random but seeded, until stopped."""

    def __init__(self, scene: Scene, seed: int, per_s: float) -> None:
        self.victims: list[str] = []
        self._scene, self._dice, self._per_s = scene, random.Random(seed), per_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more."""
        self._end.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._end.wait(self._dice.uniform(0.5, 1.5) / self._per_s):
            victim = self._dice.choice([*COMPONENTS, "device", "zygote", "spare"])
            # Whoever is not there just now, or has gone with its system, cannot be killed.
            with contextlib.suppress(AssertionError, CommandError, ValueError, IndexError, OSError):
                strike(self._pid(victim), signal.SIGKILL)
                self.victims.append(victim)

    def _pid(self, victim: str) -> int:
        if victim == "device":
            return self._scene.device
        if victim == "zygote":
            return self._scene.zygote
        rows = self._scene.ask("ps")
        if victim == "spare":
            running = {row["pid"] for row in rows} | {self._scene.device}
            return self._dice.choice([pid for pid in children(self._scene.zygote) if pid not in running])
        pid = next(row["pid"] for row in rows if row["name"] == victim)
        if not pid:
            raise ValueError(f"{victim} is dead already")
        return int(pid)


def massacre(stage: Stage, digests: list[str], seed: int, passes: int, seconds: float) -> None:
    """Read everything `passes` times while everybody dies."""
    stage.change("file_server", restart='policy = "always"')  # its backoff would only make this take longer
    kill = tuple(KILLS_PER_S.items())
    with stage.play(FILES, "sha256tree", *["/"] * passes, kill=kill, seed=seed) as scene:
        scene.wait_started()
        murderer = Murderer(scene, seed, 4.0)
        begin = time.monotonic()
        try:
            status = scene.end(seconds)
        finally:
            murderer.stop()
    assert status == 0, murderer.victims
    assert stage.lines == digests * passes
    assert scene.report["failed_requests"] == 0
    if time.monotonic() - begin > 2:
        assert sum(scene.report["deaths"].values()) > 5


def test_everybody_dies(stage: Stage, digests: list[str]) -> None:
    massacre(stage, digests, seed=1, passes=100, seconds=120)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", seeds(20))
def test_everybody_dies_for_long(stage: Stage, digests: list[str], seed: int) -> None:
    massacre(stage, digests, seed, passes=1500, seconds=600)
