"""`r3s3 doctor` and the quick probe before every system."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Run
from vmm import examination, probe


@pytest.mark.kvm
def test_doctor(r3s3: Run) -> None:
    """Every subject has its line, and on a machine that runs these tests KVM is well."""
    result = r3s3("doctor", "--json")
    answer = json.loads(result.stdout)
    findings = {each["subject"]: each for each in answer["findings"]}
    for subject in ("kvm", "capabilities", "exits", "registers", "doorbells", "windows", "read-only"):
        assert findings[subject]["ok"], findings[subject]
    for subject in ("exceptions", "syscall", "vectors", "dirty log", "processors", "jail"):
        assert findings[subject]["ok"], findings[subject]
    assert result.returncode == (0 if answer["ok"] else 1)
    lines = r3s3("doctor").stdout.splitlines()
    assert len(lines) == len(findings)
    assert lines[0] == "ok       kvm                  /dev/kvm may be used"


@pytest.mark.kvm
@pytest.mark.alone
def test_probe_is_quick_and_right() -> None:
    probe.choose()
    begin = time.monotonic()
    choices = probe.choose()
    assert time.monotonic() - begin < 0.1  # 0.01 on an idle machine
    assert choices.cpus >= 1
    assert 200 < choices.exit_ns < 1_000_000
    assert abs(probe.calibrate_tsc() - choices.tsc_khz) < choices.tsc_khz / 50


def test_spinning_never_pays_on_one_cpu() -> None:
    assert probe.spin_time(1, 30_000) == 0
    assert probe.spin_time(2, 30_000) == 60_000
    assert probe.spin_time(2, 1_000) == probe.SPIN_MIN_NS
    assert probe.spin_time(64, 1_000_000) == probe.SPIN_MAX_NS


def test_a_probe_that_hangs_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "CHILD_SECONDS", 0.2)
    with pytest.raises(probe.ProbeError, match=r"^/dev/kvm does not run a guest \(no answer\)"):
        probe.in_child(lambda kvm: time.sleep(10))


def test_device_missing(tmp_path: Path) -> None:
    with pytest.raises(probe.ProbeError) as caught:
        probe.check_device(f"{tmp_path}/kvm")
    remedy = "load kvm_intel or kvm_amd (modprobe), or enable virtualization for this machine"
    assert str(caught.value) == f"no {tmp_path}/kvm; {remedy}"


def test_device_is_something_else() -> None:
    with pytest.raises(probe.ProbeError) as caught:
        probe.check_device("/dev/null")
    assert str(caught.value) == (
        "/dev/null is not KVM (Inappropriate ioctl for device); find out what has replaced it"
    )


def test_device_not_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise PermissionError

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(probe.ProbeError) as caught:
        probe.check_device()
    monkeypatch.undo()
    remedy = "join its group (sudo usermod -aG kvm $USER, then log in again) or run as root"
    assert str(caught.value) == f"no permission for /dev/kvm; {remedy}"


@pytest.mark.kvm
def test_run_without_kvm(tmp_path: Path) -> None:
    """The whole command, on a machine whose /dev/kvm is not one."""
    (tmp_path / "disk.img").write_bytes(b"not looked at".ljust(4096))
    words = [sys.executable, "-m", "images.cli", "run", "images/default.toml"]
    words += ["--disk", str(tmp_path / "disk.img"), "--bed", "here", "--", "ls"]
    script = f"mount --bind /dev/null /dev/kvm && exec {shlex.join(words)}"
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (125, "")
    assert result.stderr == (
        "r3s3: /dev/kvm is not KVM (Inappropriate ioctl for device); find out what has replaced it\n"
    )


@pytest.mark.kvm
def test_doctor_without_kvm() -> None:
    """One line says so, and all else that can be looked at is."""
    words = shlex.join([sys.executable, "-m", "images.cli", "doctor"])
    script = f"mount --bind /dev/null /dev/kvm && exec {words}"
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    lines = [line.split(maxsplit=3) for line in result.stdout.splitlines() if not line.startswith("ok")]
    assert result.returncode == 1
    assert lines[0][:3] == ["NOT", "OK", "kvm"]
    assert "exits" not in result.stdout
    assert "mkfs.erofs" in result.stdout


def test_missing_tool_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    look = examination._tool("no-such-tool", "some-package", "does something")
    with pytest.raises(examination.Failure) as caught:
        look()
    assert caught.value.what == "missing, does something"
    assert caught.value.fix == "apt-get install some-package"
