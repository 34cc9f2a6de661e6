"""`python -m tests.vfio.inside FOLDER SYSTEM ADDRESS KILL PROGRAM [ARGUMENT ...]`: run in the bed by tests.

Runs a program in a system that drives the PCI device at ADDRESS; KILL is NAME@N, "keeper" (killed once, while
it runs), "lines:NAME,..." (each killed once, the first after the program's first line of output, and so on;
"keeper" may be among them) or "". Leaves in FOLDER, which the host sees: `output`, and `report.json`
(`status`, `error`, what `tests.vfio.process` reports, and `kernel`: the kernel's messages of that time).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.system.stage import family
from vmm.cli import launch
from vmm.cli.command import CommandError
from vmm.cli.control import Control, RefusedError
from vmm.cli.launch import Launch, Request
from vmm.cli.run import disk_argument

KEEPER_LIVES_S = 0.05
LOOK_S = 0.001


def main(folder: str, system: str, address: str, kill: str, *words: str) -> None:
    """See above."""
    launch.MODULE = "tests.vfio.process"
    result: dict[str, Any] = {"status": None, "error": None}
    kernel = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(kernel, 0, os.SEEK_END)
    name, at, rate = kill.partition("@")
    try:
        request = Request(
            system_file=os.path.abspath(system),
            program=words[0],
            arguments=list(words),
            disk=disk_argument(f"pci:{address}"),
            kill=[(name, float(rate))] if at else [],
            report=True,
            started_ns=time.monotonic_ns(),
        )
        path = Path(folder) / "output"
        with path.open("wb") as output, Launch(request, stdout=output) as running:
            for event in running.events():
                if event["event"] == "started" and kill == "keeper":
                    threading.Timer(KEEPER_LIVES_S, kill_keeper, [running.process.pid]).start()
                elif event["event"] == "started" and kill.startswith("lines:"):
                    arguments = path, kill.removeprefix("lines:").split(","), running.process.pid
                    threading.Thread(target=kill_at_lines, args=arguments, daemon=True).start()
                elif event["event"] == "error":
                    result["error"] = event["message"]
                elif event["event"] == "ended":
                    result |= event["report"] | {"status": event["status"]}
    except CommandError as error:
        result["error"] = str(error)
    result["kernel"] = messages(kernel)
    (Path(folder) / "report.json").write_text(json.dumps(result))


def kill_at_lines(output: Path, victims: list[str], hypervisor: int) -> None:
    """Kill victim N as soon as there are N lines of output."""
    keeper = find_keeper(hypervisor)
    with Control(None) as control:
        for lines, victim in enumerate(victims, 1):
            while output.read_bytes().count(b"\n") < lines:
                time.sleep(LOOK_S)
            if victim == "keeper":
                os.kill(keeper, signal.SIGKILL)
            else:
                kill_when_it_runs(control, victim)


def kill_when_it_runs(control: Control, victim: str) -> None:
    """Once; a victim that is just being replaced is waited for."""
    while True:
        try:
            control.execute("kill", component=victim)
        except RefusedError as error:
            if "not running just now" not in str(error):
                raise
            time.sleep(LOOK_S)
        else:
            return


def find_keeper(hypervisor: int) -> int:
    """The only process below the hypervisor's that has the device open: tenders map it, and close it."""
    (keeper,) = [pid for pid in family(hypervisor) if has_open(pid, "anon_inode:[vfio-device]")]
    return keeper


def kill_keeper(hypervisor: int) -> None:
    """Whoever it is just now."""
    os.kill(find_keeper(hypervisor), signal.SIGKILL)


def has_open(pid: int, what: str) -> bool:
    """Whether a process has a file of this name open."""
    with contextlib.suppress(OSError):
        return any(os.readlink(each) == what for each in Path(f"/proc/{pid}/fd").iterdir())
    return False


def messages(kernel: int) -> list[str]:
    """All lines there are."""
    lines = []
    while True:
        try:
            lines.append(os.read(kernel, 8192).decode().split(";", 1)[1].split("\n")[0])
        except BlockingIOError:
            return lines


if __name__ == "__main__":
    main(*sys.argv[1:])
