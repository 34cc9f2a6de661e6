"""The command line on hosts that give it less: an ordinary user, few open files, no namespaces, no room."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT
from tests.cli.test_system import DEFAULT, LARGE, command, environment, folder, r3s3, until

__all__ = ["folder"]
pytestmark = pytest.mark.kvm

USER, GROUP = "47110", "47111"  # nobody's
PROGRAMS = 32  # about 30 files each
ZYGOTES = 5


def run_in(folder: Path, *wrapper: str) -> subprocess.CompletedProcess[str]:
    """`r3s3 run ... ls /`, started by the commands of `wrapper`."""
    words = [*wrapper, *command("run", DEFAULT, "--disk", folder / "disk.img", "--", "ls", "/")]
    return subprocess.run(
        words, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=60, check=False
    )


# An ordinary user in the group of /dev/kvm, here a node of its own. Tree and Python are also where he can get
# to them, wherever they are; he has one place to write, for the sockets.
ORDINARY = f"""
mount -t tmpfs -o mode=755 none /mnt && cd /mnt && mkdir tree python sockets && touch disk.img
mount --bind {ROOT} tree && mount --bind {sys.base_prefix} python && mount --bind $DISK disk.img
mknod -m 660 kvm c 10 232 && chgrp {GROUP} kvm && mount --bind kvm /dev/kvm && chown {USER} sockets || exit 99
packages={":".join(each.replace(str(ROOT), "/mnt/tree") for each in sys.path if each.endswith("-packages"))}
exec env PYTHONPATH=/mnt/tree:$packages R3S3_RUNTIME_DIR=/mnt/sockets \
    LD_LIBRARY_PATH=/mnt/python/lib PYTHONDONTWRITEBYTECODE=1 \
    setpriv --reuid {USER} --regid {USER} --groups {GROUP} --bounding-set=-all \
    python/bin/python3 -m images.cli run tree/images/default.toml --disk disk.img "$@"
"""


def run_as_user(folder: Path, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`r3s3 run ... WORD ...` of `script`."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *words],
        env=environment(folder, DISK=str(folder / "disk.img")),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_ordinary_user(folder: Path) -> None:
    reading = ["--", "sha256sum", "/small", *["/large"] * 20]
    result = run_as_user(folder, ORDINARY, "--kill", "disk_driver@20", "--seed", "1", *reading)
    assert (result.returncode, result.stderr) == (0, "")
    digests = [f"{hashlib.sha256(each).hexdigest()}" for each in (b"small\n", LARGE)]
    assert result.stdout.splitlines() == [f"{digests[0]}  /small", *[f"{digests[1]}  /large"] * 20]


def test_a_user_outside_the_group(folder: Path) -> None:
    outside = ORDINARY.replace(f"--groups {GROUP}", "--clear-groups")
    result = run_as_user(folder, outside, "--bed", "here", "--", "ls", "/")
    assert (result.returncode, result.stdout) == (125, "")
    remedy = "join its group (sudo usermod -aG kvm $USER, then log in again) or run as root"
    assert result.stderr == f"r3s3: no permission for /dev/kvm; {remedy}\n"


def test_no_user_namespaces(folder: Path) -> None:
    """The host's limit, here that of a namespace around all: whoever is in it has no privileges."""
    script = (
        'echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --bounding-set=-all "$@"'
    )
    result = run_in(folder, "unshare", "-r", "sh", "-c", script, "sh")
    assert (result.returncode, result.stdout) == (125, "")
    assert result.stderr == (
        "r3s3: no jail for VMs: new namespaces: No space left on device; enable user namespaces "
        "(sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone) or run as root\n"
    )


def test_a_root_that_is_none(folder: Path) -> None:
    """The root of a user namespace with itself alone in it cannot become nobody."""
    result = run_in(folder, "unshare", "-r")
    assert (result.returncode, result.stdout) == (125, "")
    assert result.stderr.startswith("r3s3: no jail for VMs: cannot enter the jail: ")
    assert result.stderr.endswith(
        "; run on the host itself (not in a chroot), or in a container that allows namespaces\n"
    )


def test_few_open_files_are_raised(folder: Path) -> None:
    result = run_in(folder, "prlimit", "--nofile=64:4096")
    assert (result.returncode, result.stdout, result.stderr) == (0, "large\nsmall\n", "")


def test_too_few_open_files(folder: Path) -> None:
    result = run_in(folder, "prlimit", "--nofile=512:512")
    assert (result.returncode, result.stdout) == (125, "")
    assert result.stderr == "r3s3: at most 512 open files; raise the limit: ulimit -Hn 4096\n"


def test_too_few_open_files_for_a_large_system(folder: Path, tmp_path: Path) -> None:
    """Said at the start, and not when a death wants more of them."""
    file = tmp_path / "many.toml"
    text = DEFAULT.read_text().replace("2 GiB", "4 GiB").replace('"../', f'"{ROOT}/')
    for name in ("console", "file_server"):
        manifest = ROOT / "components" / name / "manifest.toml"
        (tmp_path / name).write_text(manifest.read_text().replace("clients = 16", "clients = 64"))
        text = text.replace(str(manifest), str(tmp_path / name))
    file.write_text(text)
    script = (
        "import sys; from vmm.cli.launch import Launch, Request\n"
        f"request = Request({str(file)!r}, 'ls', ['ls', '/'], 'disk.img', programs={PROGRAMS})\n"
        "with Launch(request) as launch: sys.exit(launch.wait().status)"
    )
    for limit, status in (("1024:1024", 125), ("1024:4096", 0)):
        result = subprocess.run(
            ["prlimit", f"--nofile={limit}", sys.executable, "-c", script],
            cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert result.returncode == status, result.stderr
        if status:
            message = "1024 open files are too few for this system; raise the limit: ulimit -Hn 4096"
            assert (result.stdout, result.stderr) == ("", f"r3s3: {message}\n")
        else:
            assert result.stdout == "large\nsmall\n" * PROGRAMS


def test_no_room_for_the_report(folder: Path) -> None:
    """The program has run all the same, and nothing half-written is left."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a file system without room")
    words = command(
        "run", DEFAULT, "--disk", folder / "disk.img", "--report", "/mnt/r.json", "--", "cat", "/small"
    )
    script = (
        "mount -t tmpfs -o size=4k none /mnt && head -c 4096 /dev/zero >/mnt/full\n"
        f"{shlex.join(words)}; status=$?; ls -A /mnt; exit $status"
    )
    result = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (125, "small\nfull\n")
    problem = "the report was not written: No space left on device"
    assert result.stderr == f"r3s3: /mnt/r.json: {problem}; make room or choose another place\n"


def children(pid: int) -> list[int]:
    """The child processes of `pid`; none if it has ended."""
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@pytest.fixture
def complaining(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A system that has a lot to read, and whose messages are kept."""
    words = command("run", DEFAULT, "--disk", "disk.img", "--", "sha256sum", *["/large"] * 400)
    with subprocess.Popen(
        words,
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until(lambda: r3s3(folder, "ps").returncode == 0)
        yield process
        process.send_signal(signal.SIGTERM)


def test_a_zygote_that_dies_at_once_again_and_again(complaining: subprocess.Popen[str]) -> None:
    """Is not started for ever: the system ends, and says why."""
    (hypervisor,) = children(complaining.pid)
    killed: set[int] = set()

    def ended() -> bool:
        for zygote in set(children(hypervisor)) - killed:
            os.kill(zygote, signal.SIGKILL)
            killed.add(zygote)
        return complaining.poll() is not None

    until(ended)
    assert complaining.returncode == 125
    assert complaining.stderr is not None
    assert complaining.stderr.read() == (
        "r3s3: the process that starts all others dies at once (no reason given); run r3s3 doctor\n"
    )
    assert len(killed) == ZYGOTES + 1  # the first had worked
