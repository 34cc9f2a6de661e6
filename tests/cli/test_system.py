"""The command line against real systems: what the fake hypervisor process only promises."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import ROOT

pytestmark = pytest.mark.kvm

DEFAULT = ROOT / "images" / "default.toml"
LARGE = bytes(range(256)) * (96 << 10)  # 24 MiB: more than the file server's cache
END_SECONDS = 20.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a few files, and disk.img made of it beside it."""
    top = tmp_path_factory.mktemp("cli")
    (top / "tree").mkdir()
    (top / "tree" / "large").write_bytes(LARGE)
    (top / "tree" / "small").write_bytes(b"small\n")
    assert r3s3(top, "image", "build", "tree", "-o", "disk.img").returncode == 0
    return top


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "images.cli", *map(str, arguments)]


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "R3S3_RUNTIME_DIR": str(folder / "sockets"),
        "R3S3_CACHE_DIR": str(folder / "cache"),
        **more,
    }


def r3s3(folder: Path, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(folder), capture_output=True, timeout=60, check=False
    )


def run(folder: Path, *program: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[bytes]:
    return r3s3(folder, "run", DEFAULT, "--disk", "disk.img", *options, "--", *program)


@pytest.fixture
def running(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A system that has a lot to read."""
    words = command("run", DEFAULT, "--disk", "disk.img", "--", "sha256sum", *["/large"] * 400)
    with subprocess.Popen(words, cwd=folder, env=environment(folder), stdout=subprocess.DEVNULL) as process:
        until(lambda: r3s3(folder, "ps").returncode == 0)
        yield process
        process.send_signal(signal.SIGTERM)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + END_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def components(folder: Path) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(r3s3(folder, "ps", "--json").stdout)}


def descendants(pid: int) -> set[int]:
    """Every process below `pid`, as the kernel knows them now."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found |= {child} | descendants(child)
    return found


def test_output_and_status(folder: Path) -> None:
    result = run(folder, "sha256sum", "/small", "/large")
    digests = [hashlib.sha256(each).hexdigest() for each in (b"small\n", LARGE)]
    assert result.stdout.decode() == f"{digests[0]}  /small\n{digests[1]}  /large\n"
    assert (result.returncode, result.stderr) == (0, b"")


def test_status_of_a_program_that_fails(folder: Path) -> None:
    result = run(folder, "cat", "/small", "/nowhere")
    assert (result.returncode, result.stdout) == (1, b"small\n")
    assert b"No such file or directory" in result.stderr


def test_no_such_program(folder: Path) -> None:
    result = run(folder, "sha256sums", "/small")
    assert result.returncode == 127
    assert result.stderr.decode() == (
        f'r3s3: {DEFAULT}: no program "sha256sums" in this system; did you mean "sha256sum"?\n'
    )


def test_dates(folder: Path) -> None:
    """`ls -l` knows what is recent, and what lies ahead, as the host's does: guests know what time it is."""
    top = folder / "dated"
    top.mkdir()
    now = time.time()
    for name, days in {"now": 0.0, "hour": -1 / 24, "soon": 1 / 24, "recent": -182, "old": -183}.items():
        (top / name).touch()
        os.utime(top / name, (now + days * 86400,) * 2)
    assert r3s3(folder, "image", "build", "dated", "-o", "dated.img").returncode == 0
    result = r3s3(folder, "run", DEFAULT, "--disk", "dated.img", "--", "ls", "-l", "/")
    host = subprocess.run(
        ["ls", "-ln", top], env=environment(folder, LC_ALL="C", TZ="UTC"), capture_output=True, check=True
    )
    assert result.stdout.splitlines()[1:] == host.stdout.splitlines()[1:]


def crimes(folder: Path, images: Path) -> Path:
    """A system file whose programs all do something wrong."""
    file = folder / "crimes.toml"
    file.write_text(
        f'[system]\nname = "crimes"\nmemory = "64 MiB"\nimages = "{images}"\n'
        f'[programs]\nfolders = ["{ROOT}/guests/misbehaving"]\n'
    )
    return file


@pytest.mark.parametrize(
    ("program", "number"),
    [
        ("null_read", signal.SIGSEGV),
        ("divide_by_zero", signal.SIGFPE),
        ("invalid_instruction", signal.SIGILL),
    ],
)
def test_status_of_a_program_that_dies(folder: Path, program: str, number: signal.Signals) -> None:
    result = r3s3(folder, "run", crimes(folder, ROOT / "build" / "guests"), "--", program)
    assert (result.returncode, result.stdout) == (128 + number, b"")
    assert result.stderr.startswith(f"r3s3: {program} died: ".encode())
    assert result.stderr.count(b"\n") == 1


def test_program_that_cannot_be_run(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "null_read.elf").write_bytes(b"\x7fELF, or so it says")
    result = r3s3(folder, "run", crimes(folder, tmp_path), "--", "null_read")
    assert (result.returncode, result.stdout) == (126, b"")
    assert result.stderr.startswith(f"r3s3: {tmp_path}/null_read.elf: ".encode())
    assert result.stderr.count(b"\n") == 1


def test_no_disk(folder: Path) -> None:
    result = r3s3(folder, "run", DEFAULT, "--", "ls", "/")
    assert (result.returncode, result.stdout) == (125, b"")
    assert b"r3s3 image build" in result.stderr


def test_kill_of_nobody(folder: Path) -> None:
    result = run(folder, "ls", "/", options=("--kill", "printer@1"))
    assert (result.returncode, result.stdout) == (125, b"")
    assert result.stderr.startswith(b"r3s3: --kill printer: no such component")


def test_report(folder: Path) -> None:
    options = ("--kill", "disk_driver@20", "--seed", "1", "--report", "out.json")
    assert run(folder, "sha256sum", *["/large"] * 8, options=options).returncode == 0
    report = json.loads((folder / "out.json").read_text())
    assert set(report) >= {
        "kills", "recoveries", "replayed", "failed_requests", "recovery_ms", "boot_ms", "bytes", "seconds",
        "exits_per_io",
    }  # fmt: skip
    assert set(report["recovery_ms"]) == {"n", "median", "p99", "max"}
    assert report["kills"] >= 1
    assert 1 <= report["recoveries"] <= report["kills"]  # hit again before it serves: once
    assert report["failed_requests"] == 0
    assert report["bytes"] == 8 * len(LARGE)


def test_verify_with_kills(folder: Path) -> None:
    result = r3s3(folder, "verify", "tree", "--kill", "disk_driver@20", "--json")
    answer = json.loads(result.stdout)
    assert (result.returncode, answer["equal"], answer["failed_requests"]) == (0, 2, 0)


def test_watching_and_killing(folder: Path, running: subprocess.Popen[bytes]) -> None:
    before = components(folder)
    assert set(before) == {"reincarnation_server", "console", "disk_driver", "file_server", "sha256sum"}
    assert r3s3(folder, "kill", "disk_driver").returncode == 0
    until(lambda: components(folder)["disk_driver"]["restarts"] == 1)
    after = components(folder)
    assert after["disk_driver"]["epoch"] > before["disk_driver"]["epoch"]
    assert after["disk_driver"]["pid"] != before["disk_driver"]["pid"]
    until(lambda: components(folder)["sha256sum"]["bytes"] > after["sha256sum"]["bytes"])
    records = [json.loads(line) for line in r3s3(folder, "log", "--json").stdout.splitlines()]
    assert any(each["component"] == "disk_driver" for each in records)
    unknown = r3s3(folder, "kill", "printer")
    assert unknown.returncode == 125
    assert b"disk_driver" in unknown.stderr
    policy = r3s3(folder, "policy", "show").stdout.decode()
    assert "file_server.blk" in policy
    edges = json.loads(r3s3(folder, "policy", "graph", "--json").stdout)["edges"]
    written = json.loads(r3s3(folder, "policy", "graph", "--json", DEFAULT).stdout)["edges"]
    others = {"cat", "ls", "reader", "sha256tree", "stat"}  # programs that do not run now
    expected = [each for each in written if not others & {each["source"], each["target"]}]
    assert sorted(edges, key=str) == sorted(expected, key=str)
    assert r3s3(folder, "policy", "reach", "sha256sum", "disk0").returncode == 0
    assert r3s3(folder, "policy", "reach", "sha256sum", "disk0", "--without", "file_server").returncode == 1


def test_socket_is_private(folder: Path, running: subprocess.Popen[bytes]) -> None:
    socket = folder / "sockets" / "default.sock"
    assert socket.stat().st_mode & 0o777 == 0o600
    assert socket.parent.stat().st_mode & 0o777 == 0o700


def test_several_systems(folder: Path, running: subprocess.Popen[bytes]) -> None:
    """A second one gets a name of its own; one that was asked for by name does not."""
    assert run(folder, "ls", "/").stdout == b"large\nsmall\n"
    assert run(folder, "ls", "/", options=("-s", "second")).stdout == b"large\nsmall\n"
    same = run(folder, "ls", "/", options=("-s", "default"))
    assert same.returncode == 125
    assert same.stderr == b'r3s3: a system "default" is already running; choose another with -s\n'


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_remains(folder: Path, running: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """However the command line ends: no process and no socket is left, at once."""
    family = descendants(running.pid)
    assert len(family) > 5
    running.send_signal(number)
    status = running.wait(END_SECONDS)
    assert status == (-number if number == signal.SIGKILL else 128 + number)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))
    assert not list((folder / "sockets").iterdir())


def test_killed_hypervisor_takes_everything_along(folder: Path, running: subprocess.Popen[bytes]) -> None:
    (hypervisor,) = map(int, Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split())
    family = descendants(running.pid)
    os.kill(hypervisor, signal.SIGKILL)
    assert running.wait(END_SECONDS) == 125
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))
    assert run(folder, "cat", "/small").stdout == b"small\n"  # its socket is in nobody's way
