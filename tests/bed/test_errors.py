"""What is said where there is no bed to be had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from images.bed import BedError, initramfs, kernel
from images.bed.bed import Bed
from images.bed.machine import check_memory
from tests.bed import needs_qemu

ROOT = Path(__file__).parents[2]
pytestmark = needs_qemu


def r3s3(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "images.cli", "bed", *words],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def complaint(*words: str, **environment: str) -> str:
    """What r3s3 says when it fails, on its one line."""
    done = r3s3(*words, **environment)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("r3s3: ")
    assert done.stderr.count("\n") == 1
    return done.stderr[6:-1]


def tools(folder: Path, **scripts: str) -> str:
    """A PATH with these shell scripts in front."""
    for name, script in scripts.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def package(folder: Path, *files: str) -> Path:
    """A package with these empty files."""
    tree = folder / "tree"
    for file in ("DEBIAN/control", *files):
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        (tree / file).touch()
    (tree / "DEBIAN/control").write_text(
        "Package: linux-image-0-test\nVersion: 1\nArchitecture: all\nMaintainer: none\nDescription: none\n"
    )
    words = ["dpkg-deb", "--build", "--root-owner-group", str(tree), str(folder / "test.deb")]
    subprocess.run(words, check=True, capture_output=True)
    return folder / "test.deb"


def test_no_qemu(tmp_path: Path) -> None:
    remedy = "install it: apt-get install --no-install-recommends qemu-system-x86"
    expected = f"no qemu-system-x86_64 for the test bed; {remedy}"
    assert complaint("run", "--", "true", PATH=str(tmp_path)) == expected
    assert complaint("build", PATH=str(tmp_path)) == expected
    shown = r3s3("show", PATH=str(tmp_path))
    assert shown.returncode == 0
    assert "missing; apt-get install --no-install-recommends qemu-system-x86" in shown.stdout


def test_no_apt(tmp_path: Path) -> None:
    path = tools(tmp_path, qemu_system_x86_64="echo version 0.0")
    (tmp_path / "qemu-system-x86-64").rename(tmp_path / "qemu-system-x86_64")
    (tmp_path / "sh").symlink_to("/bin/sh")
    said = complaint("build", PATH=path.split(":", maxsplit=1)[0], R3S3_BED_DIR=str(tmp_path / "bed"))
    assert said.startswith("no apt-cache, which takes the test bed's kernel from a Debian mirror; ")


def test_apt_knows_no_kernel(tmp_path: Path) -> None:
    path = tools(tmp_path, apt_cache="echo 'E: No packages found' >&2; exit 100")
    assert complaint("build", PATH=path, R3S3_BED_DIR=str(tmp_path / "bed")) == (
        "apt-cache --quiet=0 show --no-all-versions linux-image-amd64: E: No packages found; "
        "as root, run apt-get update, or name a kernel's package in R3S3_BED_KERNEL"
    )


def test_no_network(tmp_path: Path) -> None:
    """The size of what is to be downloaded is told before."""
    say = "printf 'Package: p\\nVersion: 6.1-1\\nDepends: linux-image-6 (= 6.1-1)\\nSize: 73400320\\n'"
    get = "echo 'E: Failed to fetch http://mirror/x.deb  Could not resolve host' >&2; exit 100"
    done = r3s3("build", PATH=tools(tmp_path, apt_cache=say, apt_get=get), R3S3_BED_DIR=str(tmp_path / "bed"))
    into = tmp_path / "bed"
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        f"r3s3: downloading the test bed's kernel, package linux-image-6 6.1-1 (70.0 MiB), into {into}\n"
        "r3s3: apt-get download linux-image-6=6.1-1: E: Failed to fetch http://mirror/x.deb  Could not "
        "resolve host; is there a network?\n"
    )
    assert [each.name for each in into.iterdir()] == ["lock"]


def test_packages_that_are_no_kernel(tmp_path: Path) -> None:
    bed = {"R3S3_BED_DIR": str(tmp_path / "bed")}
    missing = tmp_path / "missing.deb"
    assert complaint("build", R3S3_BED_KERNEL=str(missing), **bed) == (
        f"R3S3_BED_KERNEL={missing}: no such file; name the package file of a kernel"
    )
    file = package(tmp_path, "usr/share/doc/readme")
    assert complaint("build", R3S3_BED_KERNEL=str(file), **bed) == (
        f"{file}: no kernel with its modules in this package"
    )
    file = package(tmp_path, "boot/vmlinuz-0", "lib/modules/0/modules.builtin")
    assert complaint("build", R3S3_BED_KERNEL=str(file), **bed).endswith(
        "lib/modules/0: this kernel has no module virtio_pci; name another in R3S3_BED_KERNEL"
    )
    assert kernel.REPOSITORY == ROOT
    assert sorted(each.name for each in (tmp_path / "bed").iterdir()) == ["lock", "named"]


def test_no_place_to_keep_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert complaint("build", R3S3_BED_DIR=str(tmp_path / "file/bed")) == (
        f"{tmp_path}/file/bed: the test bed's kernel cannot be kept there (Not a directory); set R3S3_BED_DIR"
    )


def test_not_enough_memory() -> None:
    check_memory(1)
    with pytest.raises(BedError) as caught:
        check_memory(1 << 40)
    assert str(caught.value).startswith(
        "not enough memory for the test bed: 1099511627776 MiB and 256 MiB for QEMU, of which "
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run"], "no command given; write it after --, as in r3s3 bed run -- uname -a"),
        (["show", "--", "true"], "bed show takes no command; did you mean: r3s3 bed run -- ..."),
        (["run", "--memory", "0", "--", "true"], "--memory 0: must be more than 0"),
        (["run", "--time-limit", "-1", "--", "true"], "--time-limit -1.0: must be more than 0"),
        (["run", "--vfio", "1234:11e8", "--", "true"],
         "--vfio: devices can be given away only behind an IOMMU; add --iommu"),
        (["run", "--vfio", "edu", "--", "true"], "argument --vfio: 'edu' is not VENDOR:DEVICE "
         "(for example 1234:11e8); see r3s3 bed --help"),
        (["run", "--writable", "/missing", "--", "true"],
         "/missing: no such folder, which was to be writable in the test bed; create it first"),
        (["run", "--console", "/missing/file", "--", "true"],
         "/missing/file: the console cannot be kept there (No such file or directory); name a file"),
    ],
)  # fmt: skip
def test_wrong_words(words: list[str], expected: str) -> None:
    assert complaint(*words) == expected


def test_init_says_what_fails_and_switches_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initramfs, "ROOT_TAG", "another")
    with pytest.raises(BedError) as caught:
        Bed()
    first, *console = str(caught.value).splitlines()
    assert first == "the test bed has ended by itself; look at its console for why"
    assert console[0] == "last lines of its console:"
    assert any(line.startswith("  init: mount 9p another /host ") for line in console)


def test_a_bed_that_does_not_boot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plan = initramfs.plan
    hanging = ["/bin/sh", "-c", "echo I hang; exec /bin/sleep 1000"]
    monkeypatch.setattr(initramfs, "plan", lambda modules, writable, start: plan(modules, writable, hanging))
    with pytest.raises(BedError) as caught:
        Bed(boot_limit=10, console=tmp_path / "console")
    first, *console = str(caught.value).splitlines()
    assert first == "the test bed has not booted within 10 s; give it more time or memory"
    assert "  I hang" in console
    assert "I hang" in (tmp_path / "console").read_text()


def test_qemu_that_refuses() -> None:
    with pytest.raises(BedError, match="'no-such-device' is not a valid device model name"):
        Bed(devices=["no-such-device"])
