"""A whole system whose disk is a foreign back-end: its driver dies again and again, and so does that."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from images.guests import build as build_guests
from images.guests import programs
from images.image import build as build_image
from vmm.cli.command import CommandError
from vmm.cli.control import Control

pytestmark = pytest.mark.kvm

ROOT = Path(__file__).parents[2]
FILE_BYTES = 9 << 20  # four of them are more than the file server remembers
PATIENCE_S = 60.0


class Foreign:
    """qemu-storage-daemon serving an image as a qcow2, and a system that reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket, self.report = folder, folder / "disk.sock", folder / "report.json"
        source, raw, self.qcow2 = folder / "source", folder / "disk.img", folder / "disk.qcow2"
        source.mkdir()
        self.digests = []
        dice = random.Random(5)
        for number in range(4):
            data = dice.randbytes(FILE_BYTES)
            (source / f"file{number}").write_bytes(data)
            self.digests.append(f"{hashlib.sha256(data).hexdigest()}  /file{number}")
        build_image(source, raw)
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, self.qcow2], check=True)
        self.start()

    def start(self) -> None:
        """The daemon, listening."""
        self.socket.unlink(missing_ok=True)
        self.daemon = subprocess.Popen(
            [
                "qemu-storage-daemon",
                "--blockdev", f"driver=file,node-name=file,filename={self.qcow2},read-only=on",
                "--blockdev", "driver=qcow2,node-name=disk,file=file,read-only=on",
                "--export",
                f"type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path={self.socket}",
            ]
        )  # fmt: skip
        end = time.monotonic() + PATIENCE_S
        while not self.socket.exists():
            assert self.daemon.poll() is None and time.monotonic() < end, "the daemon does not listen"
            time.sleep(0.01)

    def read(self, times: int, *options: str) -> subprocess.Popen[str]:
        """Every file, so many times over."""
        command = [sys.executable, "-m", "images.cli", "run", "images/default.toml", *options]
        command += ["--disk", f"vhost-user:{self.socket}", "--report", str(self.report)]
        return subprocess.Popen(
            [*command, "--", "sha256sum", *[f"/file{number}" for number in range(4)] * times],
            cwd=ROOT,
            env=os.environ | {"R3S3_RUNTIME_DIR": str(self.folder)},
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_read(self) -> None:
        """Until the program has read something."""
        end, done = time.monotonic() + PATIENCE_S, False
        while not done:
            assert time.monotonic() < end, "nothing is read"
            time.sleep(0.01)
            for path in self.folder.glob("default*.sock"):
                with contextlib.suppress(CommandError), Control(None, path) as control:
                    done = any(row["name"] == "sha256sum" and row["bytes"] for row in control.execute("ps"))

    def end(self, system: subprocess.Popen[str], times: int) -> dict[str, Any]:
        """Wait for its end; everything was read right, and nobody noticed anything. Its report."""
        lines = system.communicate(timeout=PATIENCE_S)[0].splitlines()
        assert lines == self.digests * times
        report: dict[str, Any] = json.loads(self.report.read_text())
        assert report["failed_requests"] == 0
        return report

    def close(self) -> None:
        self.daemon.kill()
        self.daemon.wait()


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Foreign]:
    build_guests(sorted(programs()), report=lambda _: None)
    made = Foreign(tmp_path)
    yield made
    made.close()


def test_its_driver_is_killed_again_and_again(foreign: Foreign) -> None:
    """The daemon goes on with the same pool and new virtqueues, each time after what was under way."""
    with foreign.read(10, "--kill", "disk_driver@20") as system:
        report = foreign.end(system, 10)
    assert report["kills"] >= 3 and report["recoveries"] == report["kills"] == report["deaths"]["disk_driver"]
    assert set(report["deaths"]) == {"disk_driver"} and report["replayed"] > 0


@pytest.mark.alone
def test_it_dies_and_comes_back(foreign: Foreign) -> None:
    """The driver waits for another back-end, with another pool, however long that takes."""
    with foreign.read(30) as system:
        foreign.wait_read()
        for _ in range(2):
            time.sleep(0.5)
            foreign.close()
            time.sleep(0.2)
            foreign.start()
        report = foreign.end(system, 30)
    assert set(report["deaths"]) == {"disk_driver"} and report["deaths"]["disk_driver"] >= 1
    assert report["recoveries"] == report["deaths"]["disk_driver"]
