"""A system in the bed, reached from this host by its control socket as any other."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bed import needs_qemu, not_in_bed
from tests.cli.conftest import ROOT
from vmm.cli.control import Control

SECONDS = 120.0
pytestmark = [needs_qemu, not_in_bed]


def line(*words: object) -> list[str]:
    """The command line `r3s3 WORD...`."""
    return [sys.executable, "-m", "images.cli", *map(str, words)]


class System:
    """`r3s3 run` in a bed, with a program that goes on until it is interrupted."""

    def __init__(self, folder: Path) -> None:
        self.sockets = folder / "sockets"
        self.environment = {**os.environ, "R3S3_RUNTIME_DIR": str(self.sockets), "PYTHONPATH": str(ROOT)}
        (folder / "tree").mkdir()
        (folder / "tree" / "file").write_bytes(bytes(range(256)) * 4096)
        self.disk = folder / "disk.img"
        self.r3s3("image", "build", folder / "tree", "-o", self.disk)
        self.words = ["run", ROOT / "images/default.toml", "--disk", self.disk, "--bed", "stock"]
        self.process = subprocess.Popen(
            line(*self.words, "--", "reader", "--times=1000000", "/file"),
            env=self.environment, stdout=subprocess.PIPE,
        )  # fmt: skip

    def r3s3(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Another command, on this host."""
        return subprocess.run(
            line(*words), env=self.environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )

    def rows(self) -> dict[str, dict[str, Any]]:
        """What `ps` shows."""
        done = self.r3s3("ps", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return {row["name"]: row for row in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    made = System(tmp_path_factory.mktemp("reach"))
    until((made.sockets / "default.sock").exists)
    yield made
    made.process.kill()
    made.process.communicate()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_its_name(system: System) -> None:
    """It is taken before the machine has booted, and only for this user."""
    socket = system.sockets / "default.sock"
    assert [stat.S_IMODE(each.stat().st_mode) for each in (system.sockets, socket)] == [0o700, 0o600]
    again = system.r3s3(*system.words, "-s", "default", "--", "ls")
    said = 'r3s3: a system "default" is already running; choose another with -s\n'
    assert (again.returncode, again.stdout, again.stderr) == (125, "", said)


def test_ps_waits_for_its_boot(system: System) -> None:
    """Where that takes longer than it waits, it says so."""
    while (done := system.r3s3("ps")).returncode:
        assert system.process.poll() is None
        assert done.stderr.startswith('r3s3: system "default" does not answer; ')
    assert list(system.rows()) == ["reincarnation_server", "console", "disk_driver", "file_server", "reader"]


def test_kill_and_log(system: System) -> None:
    """The killed driver comes back, as `log -f` tells until the end."""
    until(lambda: system.rows()["disk_driver"]["state"] == "running")
    assert system.r3s3("kill", "-s", "default", "disk_driver").returncode == 0
    until(lambda: system.rows()["disk_driver"]["restarts"] == 1)
    assert system.rows()["disk_driver"]["epoch"] == 2
    done = system.r3s3("log")
    assert "died: killed: by the operator" in done.stdout
    refused = system.r3s3("kill", "nobody")
    assert refused.returncode == 125
    assert refused.stderr.startswith("r3s3: no component 'nobody' in this system; there are: reincarnation_")


def test_two_at_once(system: System) -> None:
    """Each gets its own answers, while a third takes none."""
    path = system.sockets / "default.sock"
    answers: dict[str, list[Any]] = {"ps": [], "policy": []}

    def ask(command: str) -> None:
        with Control(None, path) as control:
            answers[command] = [control.execute(command) for _ in range(5)]

    with Control(None, path) as lazy:
        for _ in range(100):
            lazy._socket.send(b'{"execute": "policy"}\n')
        threads = [threading.Thread(target=ask, args=[command]) for command in answers]
        for each in threads:
            each.start()
        for each in threads:
            each.join(SECONDS)
    names = set(system.rows())
    assert [{row["name"] for row in rows} for rows in answers["ps"]] == [names] * 5
    assert [policy["name"] for policy in answers["policy"]] == ["default"] * 5


def test_the_end(system: System) -> None:
    """Nothing is left of it after Ctrl-C, and whoever follows its log comes to the end, too."""
    following = subprocess.Popen(line("log", "-f"), env=system.environment, stdout=subprocess.PIPE, text=True)
    assert following.stdout
    assert following.stdout.readline()
    system.process.send_signal(signal.SIGINT)
    assert system.process.wait(SECONDS) == 130
    output = following.stdout.read()
    following.stdout.close()
    assert following.wait(SECONDS) == 0
    assert "recovered from killed: by the operator" in output
    assert list(system.sockets.iterdir()) == []
    assert system.r3s3("ps").stderr.startswith("r3s3: no system is running (looked in ")
