"""A tone sounds as it would if nothing ever died: the recording is compared with the samples, byte by byte.

The driver is in C, and its state in a state region. The noise in the tone makes every frame differ from its
neighbours, so no gap and no repeat can hide; the volume is in every sample.
"""

from __future__ import annotations

import os
import random
import signal
import struct
import wave
from collections.abc import Sequence
from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from tests.bed import dose
from tests.system.plan import Lot, Plan, Point
from tests.system.stage import Stage, is_stopped, strike
from vmm.cli.command import CommandError
from vmm.cli.compile import check_sound
from vmm.system import compile as compile_system

AUDIO = """
[components.audio_driver]
manifest = "{manifests}/audio_driver.toml"

[routes]
"program.audio" = "audio_driver.audio"

[devices.sound0]
component = "audio_driver.sound"
read_only = false
"""
PLAYER = (
    AUDIO.replace("[routes]\n", '[routes]\n"player.audio" = "audio_driver.audio"\n')
    + """
[components.player]
manifest = "{manifests}/player.toml"
"""
)
FULL = 65536
GOLDEN = 0x9E3779B97F4A7C15
STATE_BYTES = 16 << 10  # of the driver, see its manifest
PLAYED = 40_000  # by the player: with seed 7, mono, at half the volume
AUDIO_POINTS = ("audio.before_submit", "audio.before_kick", "audio.before_commit", "audio.after_commit")
POINTS = (
    *AUDIO_POINTS,
    "server.before_dispatch", "server.before_publish", "server.before_doorbell",
    "state.after_log", "state.before_commit", "state.after_commit", "state.in_copy",
)  # fmt: skip
PASSAGES = (30, 1, 2, 3, 10)

pytestmark = pytest.mark.kvm


def tone(
    frames: int, *, seed: int = 1, rate: int = 48000, channels: int = 2, volumes: Sequence[int] = (FULL,)
) -> bytes:
    """What the program `tone` plays, see guests/programs/tone/src/tone.rs."""
    samples = []
    steps = [(440 * (2 + channel) // 2 << 32) // rate for channel in range(channels)]
    for frame in range(frames):
        volume = volumes[frame * len(volumes) // frames]
        for channel, step in enumerate(steps):
            phase = ((frame * step + (1 << 31) & 0xFFFFFFFF) - (1 << 31)) >> 16
            noise = (frame * channels + channel + (seed << 32)) * GOLDEN >> 56 & 0xFF
            samples.append(((phase * (32768 - abs(phase)) >> 14) + noise - 128) * volume >> 16)
    return struct.pack(f"<{len(samples)}h", *samples)


def recorded(path: Path) -> bytes:
    """The frames in a WAV file, all that there is in it."""
    with wave.open(str(path), "rb") as file:
        frames = file.readframes(file.getnframes())
    assert path.stat().st_size == 44 + len(frames)
    return frames


@pytest.fixture
def sound(stage: Stage) -> Path:
    """Where the sound goes; the driver's and the player's manifests are in place."""
    stage.change("audio_driver")
    stage.change("player")
    return stage.folder / "sound.wav"


@pytest.mark.parametrize(("channels", "rate", "chunk", "volumes"), [
    (2, 48000, 1024, (FULL,)), (1, 8000, 2048, (FULL, 0)), (3, 44100, 97, (20000, FULL, 1)),
    (8, 192000, 256, (65535,)), (2, 22050, 1, (40000, 30000)),
])  # fmt: skip
def test_calm(
    stage: Stage, sound: Path, channels: int, rate: int, chunk: int, volumes: tuple[int, ...]
) -> None:
    frames = 3000
    words = (f"frames={frames}", f"channels={channels}", f"rate={rate}", f"chunk={chunk}", "seed=5")
    volume = f"volume={','.join(map(str, volumes))}"
    with stage.play(AUDIO, "tone", *words, volume, sound=sound) as scene:
        assert scene.end() == 0
    assert recorded(sound) == tone(frames, seed=5, rate=rate, channels=channels, volumes=volumes)
    with wave.open(str(sound), "rb") as file:
        assert file.getparams()[:4] == (channels, 2, rate, frames)
    assert stage.lines == ["0 requests were sent again"]


def test_a_hundred_kills(stage: Stage, sound: Path) -> None:
    """At random moments, with several requests under way all the time and the volume changed twice."""
    frames, volumes = dose(75_000), (50_000, 20_000, 30_000)
    words = (f"frames={frames}", "chunk=20", "volume=50000,20000,30000")
    plan = Plan(lot=Lot(1, {"audio_driver": 14}, {"audio_driver": list(POINTS)}))
    with stage.play(AUDIO, "tone", *words, plan=plan, sound=sound) as scene:
        assert scene.end() == 0
    assert sum(scene.report["by_lot"]["audio_driver"].values()) >= dose(100), scene.report["by_lot"]
    assert scene.report["failed_requests"] == 0
    assert recorded(sound) == tone(frames, volumes=volumes)


def test_a_hundred_deaths_before_commits(stage: Stage, sound: Path) -> None:
    """Each after the device has taken frames that the driver has not noted."""
    plan = Plan((Point("audio_driver", "audio.before_commit", (6,) * 100),))
    words = ("frames=20000", "chunk=20", "volume=12345")
    with stage.play(AUDIO, "tone", *words, plan=plan, sound=sound) as scene:
        assert scene.end() == 0
    assert len(scene.deaths("audio_driver")) == 100
    assert scene.fully_recovered()
    assert recorded(sound) == tone(20000, volumes=(12345,))


@pytest.mark.parametrize("point", POINTS)
def test_death_at(stage: Stage, sound: Path, point: str) -> None:
    plan = Plan((Point("audio_driver", point, PASSAGES),))
    words = ("frames=6000", "chunk=50", "volume=65536,30000,40000")
    with stage.play(AUDIO, "tone", *words, plan=plan, sound=sound) as scene:
        assert scene.end() == 0
    assert len(scene.deaths("audio_driver")) == len(PASSAGES)
    assert recorded(sound) == tone(6000, volumes=(FULL, 30000, 40000))


@pytest.mark.parametrize("driver_dies", [False, True], ids=["client", "both"])
def test_the_client_dies_in_the_middle(stage: Stage, sound: Path, driver_dies: bool) -> None:
    """Its successor asks where the stream is, and goes on there."""
    points = [Point("player", "client.before_doorbell", (60, 30, 5, 40, 1, 20))]
    points += [Point("audio_driver", "audio.before_commit", (50, 3, 30, 1))] if driver_dies else []
    with stage.play(PLAYER, "tone", f"wait={PLAYED}", plan=Plan(tuple(points)), sound=sound) as scene:
        assert scene.end() == 0
    assert len(scene.deaths("player")) == 6
    assert len(scene.deaths("audio_driver")) == (4 if driver_dies else 0)
    assert recorded(sound) == tone(PLAYED, seed=7, channels=1, volumes=(32768,))


def test_the_device_is_killed(stage: Stage, sound: Path) -> None:
    """The driver dies with it, and both successors go on where the file ends."""
    words = ("frames=10000", "chunk=10", "pause=1000", "volume=40000")
    with stage.play(AUDIO, "tone", *words, sound=sound) as scene:
        killed = 0
        while killed < 3:
            scene.until(lambda: scene.row("audio_driver")["state"] == "running", "the driver does not run")
            size = sound.stat().st_size
            scene.until(lambda: sound.stat().st_size > size, "nothing sounds")  # noqa: B023
            deaths = scene.row("audio_driver")["epoch"]
            strike(scene.device, signal.SIGKILL)
            killed += 1
            scene.until(lambda: scene.row("audio_driver")["epoch"] > deaths, "nobody notices")  # noqa: B023
        assert scene.end() == 0
    assert [each["kind"] for each in scene.deaths("audio_driver")] == [abi.Fault.DEVICE_DIED] * 3
    assert recorded(sound) == tone(10000, volumes=(40000,))


def test_the_state_is_lost(stage: Stage, sound: Path) -> None:
    """Both copies are damaged: the stream has to be configured again, which finds out where it was."""
    pause = Point("player", "client.before_submit", (150,), hang=True)
    with stage.play(PLAYER, "tone", f"wait={PLAYED}", plan=Plan((pause,)), sound=sound) as scene:
        scene.until(lambda: sound.exists() and sound.stat().st_size > 20_000, "nothing sounds")
        tender = scene.tender("audio_driver")
        strike(tender, signal.SIGSTOP)
        scene.until(lambda: is_stopped(tender), "it does not stop")
        regions = [
            each
            for each in Path(f"/proc/{scene.hypervisor}/fd").iterdir()
            if "r3s3:state" in os.readlink(each)
        ]
        (region,) = [each for each in regions if each.stat().st_size == STATE_BYTES]
        with region.open("r+b") as memory:
            memory.write(random.Random(5).randbytes(STATE_BYTES))
        scene.ask("kill", component="audio_driver")
        lost = "state stream: damaged beyond repair, begun anew"
        scene.until(lambda: lost in scene.texts("audio_driver"), "nobody notices")
        scene.ask("kill", component="player")
        assert scene.end() == 0
    assert recorded(sound) == tone(PLAYED, seed=7, channels=1, volumes=(32768,))


def test_a_system_and_its_sound(stage: Stage, sound: Path) -> None:
    """--sound is asked for where it is needed, and only there."""
    with pytest.raises(CommandError) as missing, stage.play(AUDIO, "tone"):
        pass
    remedy = "give one with --sound FILE.wav"
    assert str(missing.value) == f"no file for the sound that this system plays; {remedy}"
    policy = compile_system(stage.folder / "system.toml", "tone")
    silent = policy.__class__(policy.name, policy.components, policy.channels, ())
    with pytest.raises(CommandError) as useless:
        check_sound(silent, "a.wav")
    assert str(useless.value) == "--sound a.wav: this system has no sound device; leave it out"
    assert not sound.exists()
