"""The README's two walks, a read and a crash: the same hops, in the same order, in a system that runs.

In guests a hop is seen by the points it passes (`kill_point!`, here used as a trail only), in the hypervisor
by the functions that are called, in the device by the bytes it has read.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from tests.system.plan import ROOT, Plan, Point, Points, number_of
from tests.system.stage import ASKED, FILES, Scene, Stage
from tests.tender.system import REGISTERS

pytestmark = pytest.mark.kvm

READ = "## A read, step by step"
CRASH = "## A crash, step by step"

# component -> the points a read passes there, in order, and the file each of them is in.
READ_TRAIL = {
    "cat": [
        ("client.before_submit", "guests/rt/src/client.rs"),
        ("client.before_doorbell", "guests/rt/src/client.rs"),
    ],
    "file_server": [
        ("server.before_dispatch", "guests/rt/src/session.rs"),
        ("files.before_attempt", "components/file_server/src/service.rs"),
        ("client.before_submit", "guests/rt/src/client.rs"),
        ("files.before_copy", "components/file_server/src/disk.rs"),
        ("files.before_checksum", "components/file_server/src/cache.rs"),
        ("files.before_reply", "components/file_server/src/requests.rs"),
        ("server.before_publish", "guests/rt/src/session.rs"),
    ],
    "disk_driver": [
        ("server.before_dispatch", "guests/rt/src/session.rs"),
        ("driver.before_kick", "components/disk_driver/src/queue.rs"),
        ("driver.before_reply", "components/disk_driver/src/requests.rs"),
        ("server.before_publish", "guests/rt/src/session.rs"),
    ],
}
# What the hypervisor does, where the reincarnation server has foreseen the restart, and where it is asked.
DEATH = [
    "hypervisor/process.py _on_fault",
    "hypervisor/process.py fail",
    "hypervisor/recovery.py begin",
    "hypervisor/evidence.py keep",
    "hypervisor/supervision.py foresees_restart",
]
REPORT = ["hypervisor/supervision.py fault"]
RESTART = ["hypervisor/recovery.py _verdict_in", "hypervisor/recovery.py _restart"]
READY = ["hypervisor/recovery.py ready"]
CRASHES = {"": [*DEATH, *RESTART, *REPORT, *READY], ASKED: [*DEATH, *REPORT, *RESTART, *READY]}


def files_of(heading: str) -> list[str]:
    """The files that a walk of the README names, in order, relative to the repository."""
    text = (ROOT / "README.md").read_text().partition(heading)[2].partition("\n## ")[0]
    found: list[str] = []
    for name in re.findall(r"`([\w./]+\.(?:rs|py|c)|guests/programs/\w+)`", text):
        # A bare name is in the folder of one that was named before.
        folders = [Path(each).parent for each in reversed(found)] if "/" not in name else [Path()]
        paths = [str(folder / name) for folder in folders if (ROOT / folder / name).exists()]
        assert paths, f"README: {heading}: no file {name}"
        found.append(paths[0])
    return found


def in_order(wanted: list[str], among: list[str]) -> bool:
    """Whether all of `wanted` are among the others, in that order, perhaps with more in between."""
    rest = iter(among)
    return all(each in rest for each in wanted)


def trail(scene: Scene, component: str) -> list[str]:
    """The points the component's last instance has passed, in order."""
    names = {number_of(name): name for name in Points.of_tree().files}
    return [names[number] for number in scene.report["trails"][component][-1]]


def passed(scene: Scene, component: str) -> set[str]:
    """All points the component has ever passed."""
    names = {number_of(name): name for name in Points.of_tree().files}
    return {names[number] for number in scene.report["passed"].get(component, [])}


def test_read(stage: Stage) -> None:
    with stage.play(FILES, "cat", "/file0") as scene:
        assert scene.end() == 0
    walk = files_of(READ)
    assert in_order(
        [
            "guests/programs/cat", "guests/rt/src/client.rs", "components/file_server/src/requests.rs",
            "components/file_server/src/service.rs", "components/file_server/src/cache.rs",
            "components/disk_driver/src/requests.rs", "components/disk_driver/src/queue.rs",
            "vmm/devices/ring.c", "components/file_server/src/cache.rs",
        ],
        walk,
    )  # fmt: skip
    points = Points.of_tree().files
    for component, hops in READ_TRAIL.items():
        assert in_order([name for name, _ in hops], trail(scene, component)), component
        assert all(points[name] == file for name, file in hops)
    files = {file for hops in READ_TRAIL.values() for _, file in hops}
    assert {file for file in walk if file.startswith("components/")} <= files


def test_the_device_reads_the_image(stage: Stage) -> None:
    """The last hop: what the driver orders, the device's process reads from the image; nobody else does."""
    with stage.play(FILES, "sha256tree", *["/"] * 20) as scene:
        scene.until(lambda: bool(scene.row("sha256tree")["bytes"] > 4 << 20), "nothing is read")
        served, before = scene.row("disk_driver")["served"], bytes_read(scene.device)
        scene.until(lambda: bool(scene.row("disk_driver")["served"] >= served + 120), "nothing is served")
        # What was under way, a pool full at most, may have been read before it was counted.
        assert bytes_read(scene.device) - before >= 60 * (128 << 10)
        tenders = [scene.tender(name) for name in ("disk_driver", "file_server")]
        read = [bytes_read(pid) for pid in tenders]
        scene.until(lambda: bool(scene.row("disk_driver")["served"] >= served + 200), "nothing is served")
        assert all(bytes_read(pid) - old < 64 << 10 for pid, old in zip(tenders, read, strict=True))


def bytes_read(pid: int) -> int:
    """Bytes a process has got from read calls of all kinds."""
    text = Path(f"/proc/{pid}/io").read_text(encoding="ascii")
    return int(text.partition("rchar: ")[2].split()[0])


@pytest.mark.parametrize("restart", CRASHES, ids=["foreseen", "asked"])
def test_crash(stage: Stage, restart: str) -> None:
    stage.change("disk_driver", restart=restart)
    point = "driver.before_reply"
    plan = Plan((Point("disk_driver", point, (40,)),), trace=True)
    with stage.play(FILES, "sha256tree", "/", plan=plan) as scene:
        assert scene.end() == 0
    walk = files_of(CRASH)
    assert in_order(
        [
            "vmm/tender/vcpu.c", "vmm/tender/faults.c", "hypervisor/process.py", "hypervisor/recovery.py",
            "hypervisor/evidence.py", "hypervisor/supervision.py",
            "components/reincarnation_server/src/policy.rs", "hypervisor/recovery.py",
            "guests/rt/src/replay.rs",
        ],
        walk,
    )  # fmt: skip
    # vcpu.c and faults.c: the record says what the CPU has said, with registers.
    (record,) = scene.deaths("disk_driver")
    assert (record["kind"], record["vector"]) == (abi.Fault.EXCEPTION, 14)
    assert record["address"] == number_of(point)
    registers = struct.unpack("<20Q", bytes.fromhex(record["registers"]))
    assert registers[REGISTERS.index("rip")] == record["rip"] != 0
    # process.py, recovery.py, evidence.py, supervision.py; then recovery.py again.
    assert scene.report["trace"] == CRASHES[restart]
    # policy.rs: judged, and the judgement kept before it was told.
    judged = trail(scene, "reincarnation_server")
    assert in_order(["supervisor.before_keeping", "supervisor.before_verdict"], judged)
    # replay.rs: what was unanswered was sent again before anything else.
    assert Points.of_tree().files["client.before_replay"] == "guests/rt/src/replay.rs"
    assert "client.before_replay" in passed(scene, "file_server")
    assert scene.report["replayed"] >= 1
    assert scene.report["recovery_ms"]["n"] >= 1
