"""What `r3s3 doctor` says of the test bed, where there is no KVM."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from images.bed import kernel, system
from images.bed.machine import PROGRAM
from vmm import examination, probe
from vmm.examination import Finding

QEMU = "#!/bin/sh\necho QEMU emulator version 7.2.22\n"
APT = """#!/bin/sh
printf 'Package: p\\nVersion: 6.1-1\\nDepends: linux-image-6 (= 6.1-1)\\nSize: 73400320\\n'
"""
NO_APT = "#!/bin/sh\necho 'E: No packages found' >&2\nexit 100\n"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of programs, and no kernel."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("R3S3_BED_DIR", str(tmp_path / "bed"))
    monkeypatch.delenv("R3S3_BED_KERNEL", raising=False)
    return folder


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def finding(monkeypatch: pytest.MonkeyPatch, error: probe.ProbeError | None) -> Finding | None:
    """What is found of the bed where looking at KVM ends with `error`."""

    def choose() -> None:
        if error:
            raise error

    monkeypatch.setattr(probe, "check_device", lambda: None)
    monkeypatch.setattr(probe, "choose", choose)
    _, second, *_ = examination.examine(system.ready)
    return second if second.subject == "test bed" else None


def test_only_where_it_is_used(monkeypatch: pytest.MonkeyPatch, tools: Path) -> None:
    monkeypatch.setattr(examination, "_GUESTS", {"next": lambda: "well"})
    monkeypatch.setattr(examination, "_HOST", {})
    assert finding(monkeypatch, None) is None
    assert finding(monkeypatch, probe.ProbeError("too few files")) is None
    assert finding(monkeypatch, probe.NoKvm("/dev/kvm does not run a guest")) is not None


def told(missing: str) -> Finding:
    what, _, fix = missing.partition("; ")
    return Finding("test bed", None, f"run and verify would use it, but: {what}", fix)


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch, tools: Path) -> None:
    """In the order in which it is to be mended. It is no defect that doctor's status would tell."""
    monkeypatch.setattr(examination, "_GUESTS", {})
    monkeypatch.setattr(examination, "_HOST", {})
    error = probe.NoKvm("no /dev/kvm")
    remedy = "install it: apt-get install --no-install-recommends qemu-system-x86"
    assert finding(monkeypatch, error) == told(f"no {PROGRAM} for the test bed; {remedy}")
    program(tools / PROGRAM, QEMU)
    program(tools / "apt-cache", NO_APT)
    asked = "apt-cache --quiet=0 show --no-all-versions linux-image-amd64"
    remedy = "as root, run apt-get update, or name a kernel's package in R3S3_BED_KERNEL"
    assert finding(monkeypatch, error) == told(f"{asked}: E: No packages found; {remedy}")
    program(tools / "apt-cache", APT)
    missing = "its kernel, package linux-image-6 6.1-1 (70.0 MiB), is not here yet"
    remedy = "r3s3 bed build fetches it, as the first run does"
    assert finding(monkeypatch, error) == told(f"{missing}; {remedy}")
    there = kernel.Kernel(Path("/"), "linux-image-6", "6.1-1", [], [])
    monkeypatch.setattr(kernel, "kernels", lambda: [there])
    what = "run and verify use it until then, slowly: QEMU 7.2.22, linux-image-6 6.1-1"
    assert finding(monkeypatch, error) == Finding("test bed", True, what)
    assert not Path(os.environ["R3S3_BED_DIR"]).exists()  # nothing was fetched
