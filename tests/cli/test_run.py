"""`r3s3 run`: the launch line, exit statuses, output, the report, and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Run, environment
from vmm.cli.command import CommandError
from vmm.cli.run import sound_argument

END_SECONDS = 10.0

COMMANDS = "run, ps, log, kill, update, history, policy, doctor, image, verify, bed"


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("good", 0), ("good=3", 3), ("good=139", 139),
        ("error", 125), ("not-runnable", 126), ("not-found", 127),
    ],
)  # fmt: skip
def test_exit_status(r3s3: Run, system_file: Path, program: str, status: int) -> None:
    assert r3s3("run", system_file, "--", program).returncode == status


def test_launch_line(r3s3: Run, system_file: Path, tmp_path: Path) -> None:
    (tmp_path / "d.img").write_bytes(bytes(4096))
    before = time.monotonic_ns()
    result = r3s3(
        "run", "system.toml", "--disk", "d.img", "--kill", "disk_driver@10", "--kill", "file_server@0.5",
        "--seed", 7, "-s", "mine", "--", "good", "-l", "--", "/a b",
    )  # fmt: skip
    assert result.returncode == 0
    request = json.loads((tmp_path / "request.json").read_text())
    assert before < request.pop("started_ns") < time.monotonic_ns()
    assert request == {
        "system_file": str(system_file),
        "program": "good",
        "arguments": ["good", "-l", "--", "/a b"],
        "disk": str(tmp_path / "d.img"),
        "sound": None,
        "name": "mine",
        "programs": 1,
        "kill": [["disk_driver", 10.0], ["file_server", 0.5]],
        "seed": 7,
        "report": False,
        "spares": True,
        "machine": {"cpus": 2, "tsc_khz": 1000, "exit_ns": 1000, "spin_ns": 10_000},
        "policy": {"name": "mine", "components": [], "channels": [], "devices": [], "supervisor": None},
        "templates": [],
        "images": {},
        "files": 2,
        "pci": None,
    }


def test_output_passes_through(r3s3: Run, system_file: Path) -> None:
    result = r3s3("run", system_file, "--", "output")
    assert result.stdout == "bytes\udcff\n"
    assert result.stderr == "complaint\n"


def test_error_is_one_line(r3s3: Run, system_file: Path) -> None:
    result = r3s3("run", system_file, "--", "error")
    assert (result.stdout, result.stderr) == ("", f"r3s3: {system_file}: something is wrong; mend it\n")


@pytest.mark.parametrize(("program", "how"), [("die", "signal 9"), ("leave", "status 0")])
def test_hypervisor_dies(r3s3: Run, system_file: Path, program: str, how: str) -> None:
    result = r3s3("run", system_file, "--", program)
    message = f"r3s3: the hypervisor process died ({how}), and its system with it; run it again\n"
    assert (result.returncode, result.stderr) == (125, message)


def test_report(r3s3: Run, system_file: Path, tmp_path: Path) -> None:
    assert r3s3("run", system_file, "--seed", 5, "--report", "out.json", "--", "good=2").returncode == 2
    report = json.loads((tmp_path / "out.json").read_text())
    assert report.pop("boot_ms") < 0  # the fake's program has begun at the first second of this machine
    assert report == {
        "kills": 0,
        "deaths": {"disk_driver": 3},
        "recoveries": 3,
        "replayed": 7,
        "failed_requests": 0,
        "recovery_ms": {"n": 3, "median": 1.25, "p99": 2.5, "max": 2.5},
        "ready_ms": {"n": 1, "median": 2.0, "p99": 2.0, "max": 2.0},
        "bytes": 2 << 20,
        "seconds": 0.5,
        "exits_per_io": 0.75,
        "cpu_ms": 16,
        "spin_ms": 4,
        "idle_polling_s": 0.0,
        "seed": 5,
    }


def test_report_without_room(r3s3: Run, system_file: Path) -> None:
    result = r3s3("run", system_file, "--report", "/dev/full", "--", "good")
    assert result.returncode == 125
    assert result.stderr == (
        "r3s3: /dev/full: the report was not written: No space left on device; "
        "make room or choose another place\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "the following arguments are required: FILE; see r3s3 run --help"),
        (["run", "system.toml"], "no program given; write it after --, as in r3s3 run FILE -- ls /"),
        (["run", "none.toml", "--", "ls"],
         "none.toml: no such file; name a system file, for example images/default.toml"),
        (["run", "system.toml", "--kill", "disk_driver", "--", "ls"],
         "argument --kill: 'disk_driver' is not COMPONENT@KILLS_A_SECOND (for example disk_driver@10); "
         "see r3s3 run --help"),
        (["run", "system.toml", "--kill", "disk_driver@-1", "--", "ls"],
         "argument --kill: 'disk_driver@-1' is not COMPONENT@KILLS_A_SECOND (for example disk_driver@10); "
         "see r3s3 run --help"),
        (["run", "system.toml", "--seed", "x", "--", "ls"],
         "argument --seed: invalid int value: 'x'; see r3s3 run --help"),
        (["run", "system.toml", "-s", "../x", "--", "ls"],
         "-s '../x': not a name; use letters, digits, . - and _"),
        (["run", "system.toml", "--fast", "--", "ls"], "unrecognized arguments: --fast; see r3s3 run --help"),
        (["run", "system.toml", "--disk", "no.img", "--", "ls"],
         "no.img: no such disk image; build one with: r3s3 image build DIR -o no.img"),
        (["run", "system.toml", "--disk", "/dev/null", "--", "ls"],
         "/dev/null: neither a file nor a block device; name a disk image"),
        (["run", "system.toml", "--disk", "vhost-user:no.sock", "--", "ls"],
         "no.sock: no such socket; start the vhost-user back-end first"),
        (["run", "system.toml", "--sound", "no/tone.wav", "--", "tone"],
         "no/tone.wav: no folder no for the sound; create it first"),
        (["run", "system.toml", "--sound", ".", "--", "tone"],
         ".: is a directory; name a file for the sound"),
        (["run", "system.toml", "--sound", "/dev/null", "--", "tone"],
         "/dev/null: is there and is no WAV file; choose another name for the sound"),
        (["run", "system.toml", "--report", "no/out.json", "--", "ls"],
         "no/out.json: no folder no for the report; create it first"),
        (["run", "system.toml", "--report", ".", "--", "ls"],
         ".: is a directory; name a file for the report"),
        (["-s", "mine", "ps"], "-s: options come after the command, as in r3s3 ps -s"),
        (["rum"], f'no command "rum"; commands are {COMMANDS}'),
        ([], f"no command given; commands are {COMMANDS}"),
    ],
)  # fmt: skip
def test_bad_input(r3s3: Run, system_file: Path, arguments: list[str], message: str) -> None:
    result = r3s3(*arguments)
    assert (result.returncode, result.stdout, result.stderr) == (125, "", f"r3s3: {message}\n")


def test_sound_into_something_else(tmp_path: Path) -> None:
    path = tmp_path / "letter"
    path.write_text("Dear")
    with pytest.raises(CommandError) as refused:
        sound_argument(str(path))
    assert str(refused.value) == f"{path}: is there and is no WAV file; choose another name for the sound"
    assert path.read_text() == "Dear"


@pytest.mark.parametrize("there", [False, True])
def test_sound_that_must_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """Simulated: root may write everywhere."""
    path = tmp_path / "tone.wav"
    if there:
        path.write_bytes(b"RIFF")
    asked: list[Path] = []
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append(path))
    with pytest.raises(CommandError) as refused:
        sound_argument(str(path))
    message = f"{path}: no permission to write the sound there; choose another place"
    assert (str(refused.value), asked) == (message, [path if there else tmp_path])


def test_help(r3s3: Run) -> None:
    result = r3s3("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for command in ("run", "ps", "log", "kill", "policy", "doctor", "image", "verify"):
        assert f"\n  {command} " in result.stdout
        assert r3s3(command, "--help").returncode == 0


def start(tmp_path: Path, system_file: Path, program: str) -> subprocess.Popen[bytes]:
    """r3s3 running `program`, which does not end by itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.with_fake", "run", str(system_file), "--", program],
        cwd=tmp_path,
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
    )
    until(lambda: (tmp_path / "request.json.started").exists() or program != "wait")
    until(lambda: bool(children(process.pid)))
    return process


def until(condition: Callable[[], bool]) -> None:
    """Wait for `condition` to hold."""
    deadline = time.monotonic() + END_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """The child processes of `pid`."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def exists(pid: int) -> bool:
    """Whether there is a process `pid` that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_in_good_order(tmp_path: Path, system_file: Path, number: signal.Signals) -> None:
    process = start(tmp_path, system_file, "wait")
    process.send_signal(number)
    _, complaint = process.communicate(timeout=END_SECONDS)
    assert (process.returncode, complaint) == (128 + number, b"")
    assert (tmp_path / "request.json.stopped").read_bytes() == b'{"stop": true}\n'


@pytest.mark.parametrize("pause", [0, 0.0001, 0.001])
def test_further_signals_only_hurry(tmp_path: Path, system_file: Path, pause: float) -> None:
    """`timeout` and terminals send several, to a process and to its group."""
    process = start(tmp_path, system_file, "wait")
    numbers = (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in numbers:
        process.send_signal(number)
        time.sleep(pause)
    _, complaint = process.communicate(timeout=END_SECONDS)
    assert complaint == b""
    assert process.returncode - 128 in numbers


def test_signal_stops_one_that_does_not_listen(tmp_path: Path, system_file: Path) -> None:
    process = start(tmp_path, system_file, "deaf")
    (hypervisor,) = children(process.pid)
    until((tmp_path / "request.json").exists)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=END_SECONDS)
    assert process.returncode == 130
    assert not exists(hypervisor)


def test_killed_command_line_leaves_nothing(tmp_path: Path, system_file: Path) -> None:
    process = start(tmp_path, system_file, "wait")
    (hypervisor,) = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=END_SECONDS)
    until(lambda: not exists(hypervisor))
    assert (tmp_path / "request.json.stopped").read_bytes() == b""  # the end of the stream told it
