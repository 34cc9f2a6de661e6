"""Commands in a real bed, which is booted once for all tests of this file."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from images.bed import BedError
from images.bed.bed import Bed
from tests.bed import needs_qemu

ROOT = Path(__file__).parents[2]
pytestmark = needs_qemu
NOISE = os.urandom(3 << 20)
PATIENCE_S = 20


class Done(NamedTuple):
    """A command that has run."""

    status: int
    stdout: bytes
    stderr: bytes


Run = Callable[..., Done]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the bed may write to."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def bed(shared: Path) -> Iterator[Bed]:
    with Bed(writable=[shared]) as each:
        yield each


@pytest.fixture
def run(bed: Bed, tmp_path: Path) -> Run:
    """Runs a command in the bed; keywords go to Bed.run, `given` is its standard input."""

    def run_it(*words: str, given: bytes = b"", **options: object) -> Done:
        files = [tmp_path / name for name in ("stdin", "stdout", "stderr")]
        files[0].write_bytes(given)
        with files[0].open("rb") as stdin, files[1].open("wb") as stdout, files[2].open("wb") as stderr:
            fds = {"stdin": stdin.fileno(), "stdout": stdout.fileno(), "stderr": stderr.fileno()}
            status = bed.run(words, **{**fds, "time_limit": 60, **options})  # type: ignore[arg-type]
        return Done(status, files[1].read_bytes(), files[2].read_bytes())

    return run_it


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_kvm_is_there(run: Run) -> None:
    script = "import fcntl; f = open('/dev/kvm'); print([fcntl.ioctl(f, n, 0) for n in (0xAE00, 0xAE01)])"
    done = run(sys.executable, "-I", "-S", "-c", script)
    assert (done.status, done.stderr) == (0, b"")
    version, vm = json.loads(done.stdout)
    assert (version, vm > 2) == (12, True)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 77"], 77),
        (["sh", "-c", "kill -SEGV $$"], 139),
        (["no-such-command"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_status(run: Run, words: list[str], status: int) -> None:
    assert run(*words).status == status


def test_streams_are_apart_and_whole(run: Run, tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(NOISE)
    done = run("sh", "-c", "cat noise & cat noise noise >&2; wait", cwd=tmp_path)
    assert (done.status, done.stdout == NOISE, done.stderr == NOISE + NOISE) == (0, True, True)


def test_standard_input(run: Run) -> None:
    assert run("cat", given=NOISE).stdout == NOISE
    assert run("head", "-c", "10", given=NOISE).stdout == NOISE[:10]
    assert run("cat", given=b"the rest of the last was dropped").stdout == b"the rest of the last was dropped"
    assert run("cat", stdin=None).stdout == b""


def test_folder_and_environment(run: Run, bed: Bed, tmp_path: Path) -> None:
    odd = os.fsdecode(b"\xff \n")
    script = "import json, os; print(json.dumps([os.getcwd(), dict(os.environ)]))"
    done = run(
        sys.executable, "-I", "-S", "-c", script, cwd=tmp_path, env={"ODD": odd, "LC_CTYPE": "C.UTF-8"}
    )
    folder, environment = json.loads(done.stdout)
    assert folder == str(tmp_path)
    assert environment["ODD"] == odd
    assert environment["R3S3_BED"] == bed.name == f"QEMU {bed.qemu_version}, Linux {bed.kernel_version}"
    assert float(environment["R3S3_DILATION"]) == pytest.approx(bed.dilation, abs=0.01)
    assert environment.keys() == {"ODD", "LC_CTYPE", "R3S3_BED", "R3S3_DILATION"}
    assert bed.dilation > 1
    with pytest.raises(
        BedError, match="/no/such/folder: the bed does not see this folder; start from another"
    ):
        run("cat", cwd="/no/such/folder", given=b"not to be read by the next command")


def test_limit_of_open_files(run: Run) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert run("bash", "-c", "ulimit -Sn; ulimit -Hn") == (0, f"{soft}\n{hard}\n".encode(), b"")


def test_what_is_written_stays_inside(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("host's")
    script = "echo bed >file && echo new >new && rm -f stdin && cat file new && touch /etc/r3s3-was-here"
    assert run("sh", "-c", script, cwd=tmp_path) == (0, b"bed\nnew\n", b"")
    assert (tmp_path / "file").read_text() == "host's"
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "stdin").exists()
    assert not Path("/etc/r3s3-was-here").exists()


def test_a_writable_folder(run: Run, shared: Path) -> None:
    (shared / "file").write_text("host's")
    script = "cat file && echo more >>file && mkdir sub && cp file sub && rm file && mv sub/file sub/moved"
    assert run("sh", "-c", script, cwd=shared) == (0, b"host's", b"")
    assert [each.name for each in shared.iterdir()] == ["sub"]
    assert (shared / "sub/moved").read_text() == "host'smore\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_passed_on(run: Run, shared: Path, number: signal.Signals) -> None:
    started = shared / "started"

    def strike() -> None:
        until(started.exists)
        os.kill(os.getpid(), number)

    striking = threading.Thread(target=strike)
    striking.start()
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo trapped; exit 9' {name}; touch started; while :; do sleep 0.1; done"
    done = run("bash", "-c", script, cwd=shared)
    striking.join()
    started.unlink()
    assert done[:2] == (9, b"trapped\n")


def test_left_behind_processes_hold_nobody_up(run: Run) -> None:
    assert run("sh", "-c", "sleep 1000 & echo done", time_limit=PATIENCE_S) == (0, b"done\n", b"")
    assert run("sh", "-c", "yes & echo done", time_limit=PATIENCE_S).status == 0


def test_nobody_reads(bed: Bed) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert bed.run(["yes"], stdin=None, stdout=writing, time_limit=PATIENCE_S) == 128 + signal.SIGPIPE
    finally:
        os.close(writing)


def test_namespaces_as_on_a_host(run: Run) -> None:
    """What jails need; a root that is merely chrooted into would not allow it."""
    assert run("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "true") == (0, b"", b"")


def qemu_of(pid: int) -> int | None:
    """The QEMU that process `pid` has started."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if b"qemu-system" in words[0] and b"-kernel" in words:
            return int(child)
    return None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_command_line(number: signal.Signals) -> None:
    words = [sys.executable, "-m", "images.cli", "bed", "run", "--", "sleep", "1000"]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE) as process:
        until(lambda: qemu_of(process.pid))
        qemu = qemu_of(process.pid)
        process.send_signal(number)
        status = process.wait(PATIENCE_S)
        assert process.stderr
        said = process.stderr.read().decode()
    until(lambda: not Path(f"/proc/{qemu}").exists())
    expected = (
        (-9, "") if number == signal.SIGKILL else (130, "r3s3: interrupted while the test bed booted\n")
    )
    assert (status, said) == expected


def test_vfio_and_a_time_limit(tmp_path: Path) -> None:
    """A device behind an IOMMU, given to vfio-pci; the time limit ends the bed."""
    console = tmp_path / "console"
    words = [
        "--iommu",
        "--device",
        "edu",
        "--vfio",
        "1234:11e8",
        "--time-limit",
        "2",
        "--console",
        str(console),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "images.cli", "bed", "run", *words, "--",
         "sh", "-c", "ls /dev/vfio; exec sleep 99"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    group, vfio = done.stdout.split()
    assert (group.isdecimal(), vfio) == (True, "vfio")
    assert done.stderr.startswith("r3s3: not ended within 2 s in the test bed, which was ended instead")
    assert done.returncode == 124
    assert console.exists()
