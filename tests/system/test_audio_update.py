"""The audio driver is replaced by new versions while it plays, and the recording is still sample-exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from images.guests import build
from tests.system.stage import IMAGES, Scene, Stage
from tests.system.test_audio import AUDIO, recorded, tone
from tests.system.test_update import refused, renew

pytestmark = pytest.mark.kvm

DRIVER = "audio_driver"
VOLUMES = (50_000, 20_000, 30_000)
WORDS = ("frames=30000", "chunk=20", "pause=1500", "volume=50000,20000,30000")


@pytest.fixture
def sound(stage: Stage) -> Path:
    """Where the sound goes; the driver's manifest is in place, and versions that do not work."""
    build(["null_read", "hasty"], output=IMAGES, report=lambda _: None, cfgs=["kill_points"])
    stage.change(DRIVER)
    return stage.folder / "sound.wav"


def plays_on(scene: Scene, sound: Path) -> None:
    """Until more has been played than a while ago."""
    size = sound.stat().st_size if sound.exists() else 0
    scene.until(lambda: sound.exists() and sound.stat().st_size > size, "nothing sounds")


def test_while_it_plays(stage: Stage, sound: Path) -> None:
    """To versions that work, that do not come up, and that die soon; once with a kill beside it."""
    with stage.play(AUDIO, "tone", *WORDS, sound=sound) as scene:
        for number in range(8):
            plays_on(scene, sound)
            if number % 4 == 1:
                refused([DRIVER, "--image", str(IMAGES / "null_read.elf")], "not updated, and unchanged")
            elif number % 4 == 2:
                renew(DRIVER, "--image", str(IMAGES / "hasty.elf"))
            elif number % 4 == 3:
                scene.ask("kill", component=DRIVER)
            else:
                renew(DRIVER, "--image", str(IMAGES / f"{DRIVER}.elf"))
        assert scene.end() == 0
    kinds = [each["kind"] for each in scene.deaths(DRIVER)]
    assert kinds == [abi.Fault.REPLACED, abi.Fault.REPLACED, abi.Fault.PANIC, abi.Fault.KILLED] * 2
    assert scene.report["failed_requests"] == 0
    assert recorded(sound) == tone(30_000, volumes=VOLUMES)
