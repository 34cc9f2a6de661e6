"""Systems where /dev/kvm is missing or of no use: the command line runs them in the bed, and says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from images.bed.machine import find_qemu
from tests.bed import needs_qemu, not_in_bed
from tests.cli.conftest import ROOT

SECONDS = 120.0
# /dev with all that a process needs, and no kvm
NO_DEVICE = """mount -t tmpfs none /mnt && cd /mnt || exit 99
for each in null zero random urandom tty; do touch $each && mount --bind /dev/$each $each; done
ln -s /proc/self/fd fd && mkdir shm && mount --rbind /mnt /dev && exec "$@"
"""
NOT_KVM = 'mount --bind /dev/null /dev/kvm && exec "$@"'
INSTEAD = "; until then it runs in a test bed, slowly\n"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="hiding /dev/kvm takes root")
pytestmark = [needs_qemu, not_in_bed, needs_root]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fallback")
    (folder / "tree").mkdir()
    (folder / "tree" / "file").write_bytes(bytes(range(256)) * 4096)
    image = folder / "disk.img"
    words = [sys.executable, "-m", "images.cli", "image", "build", str(folder / "tree"), "-o", str(image)]
    subprocess.run(words, check=True, capture_output=True)
    return image


def start(script: str, disk: Path, *words: str) -> subprocess.Popen[bytes]:
    """`r3s3 run OPTIONS` (up to --) and the program behind it, without KVM."""
    line = [sys.executable, "-m", "images.cli", "run", str(ROOT / "images" / "default.toml")]
    line += ["--disk", str(disk), *words]
    return subprocess.Popen(
        ["unshare", "-m", "sh", "-c", script, "sh", *line],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=disk.parent,
    )  # fmt: skip


def test_missing(disk: Path) -> None:
    """Output, status and report are what they are elsewhere; the report names the bed."""
    report = disk.with_name("report.json")
    words = ["--report", str(report), "--kill", "disk_driver@20", "--", "cat", "/file", "/none"]
    output, complaints = start(NO_DEVICE, disk, *words).communicate(timeout=SECONDS)
    said = complaints.decode()
    assert said.startswith("r3s3: no /dev/kvm; load kvm_intel or kvm_amd (modprobe), or enable")
    assert said.endswith(INSTEAD + "cat: /none: No such file or directory\n")
    assert output == bytes(range(256)) * 4096
    told = json.loads(report.read_text())
    assert told["bytes"] >= 1 << 20
    assert told["failed_requests"] == 1  # the file that is not there
    assert told["bed"].startswith(f"QEMU {find_qemu()[1]}, Linux ")


def test_of_no_use(disk: Path) -> None:
    """A status passes through; and `--bed here` does not fall back."""
    process = start(NOT_KVM, disk, "--", "ls", "/none")
    _, complaints = process.communicate(timeout=SECONDS)
    why = "r3s3: /dev/kvm is not KVM (Inappropriate ioctl for device); find out what has replaced it"
    assert complaints.decode() == f"{why}{INSTEAD}ls: cannot access '/none': No such file or directory\n"
    assert process.returncode == 2
    process = start(NOT_KVM, disk, "--bed", "here", "--", "ls", "/")
    _, complaints = process.communicate(timeout=SECONDS)
    assert (process.returncode, complaints.decode()) == (125, f"{why}\n")


def test_doctor() -> None:
    """It tells both: that KVM is missing, and what is used instead."""
    words = ["unshare", "-m", "sh", "-c", NOT_KVM, "sh", sys.executable, "-m", "images.cli", "doctor"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    first, second, *_ = done.stdout.splitlines()
    assert first.startswith("NOT OK   kvm                  /dev/kvm is not KVM ")
    assert second.startswith("ok       test bed             run and verify use it until then, slowly: QEMU ")
    assert done.returncode == 1


def test_interrupt(disk: Path) -> None:
    """Ctrl-C ends the system inside, and the bed with it."""
    process = start(NOT_KVM, disk, "--", "reader", "--times=1000000", "/file")
    deadline = time.monotonic() + SECONDS
    machine = ""
    while not machine and time.monotonic() < deadline:
        time.sleep(0.2)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        machine = children.strip()
    time.sleep(15)  # into its boot, or its run
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert output == b""
    assert not Path(f"/proc/{machine}").exists()


def test_what_is_not_there(disk: Path, tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        words = ["--disk", f"vhost-user:{tmp_path}/s", "--bed", "stock", "--", "ls"]
        process = start('exec "$@"', disk, *words)
        _, complaints = process.communicate(timeout=SECONDS)
    what = f"vhost-user:{tmp_path}/s: is not in the test bed; give a disk image with --disk"
    assert (process.returncode, complaints.decode()) == (125, f"r3s3: {what}\n")
