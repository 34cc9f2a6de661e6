"""The emulated machine of a bed: QEMU's words, and its process.

It needs no /dev/kvm: QEMU translates (TCG), and emulates AMD's SVM, of which the kernel inside makes its KVM.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from images.bed import BedError
from images.bed.agent import STREAMS
from images.bed.initramfs import ROOT_TAG

PROGRAM = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"
SLOW = 10.0
OWN_MIB = 256  # what QEMU takes beside the machine's memory
PORTS = ("control", "sockets", *STREAMS)
_CONSOLE_LINES = 15


class Hardware(NamedTuple):
    """What the machine is made of."""

    memory: int  # MiB
    vcpus: int
    slow: float  # times: how much longer a second of the machine is
    iommu: bool
    devices: tuple[str, ...]  # words of -device
    drives: tuple[str, ...]  # words of -drive


def find_qemu() -> tuple[str, str]:
    """Path and version of QEMU; BedError if there is none."""
    path = shutil.which(PROGRAM)
    if not path:
        remedy = f"install it: apt-get install --no-install-recommends {PACKAGE}"
        raise BedError(f"no {PROGRAM} for the test bed; {remedy}")
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"version ([\w.]+)", done.stdout)
    if done.returncode or not version:
        complaint = (done.stderr or done.stdout).strip()
        raise BedError(f"{path} does not run ({complaint or done.returncode}); install {PACKAGE} again")
    return path, version[1]


def check_memory(memory: int) -> None:
    """BedError unless the host has room for a machine of `memory` MiB."""
    text = Path("/proc/meminfo").read_text()
    found = re.search(r"^MemAvailable: +(\d+) kB", text, re.MULTILINE)
    available = int(found[1]) >> 10 if found else memory + OWN_MIB
    if available < memory + OWN_MIB:
        raise BedError(
            f"not enough memory for the test bed: {memory} MiB and {OWN_MIB} MiB for QEMU, of which "
            f"{available} MiB are available; end other programs or give it less (--memory)"
        )


def tsc_khz() -> int:
    """kHz of this host's time stamp counter, which the machine's is, too."""
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(bytes.fromhex("0f3148c1e2204809d0c3"))  # rdtsc; shl $32,%rdx; or %rdx,%rax; ret
        start = ctypes.c_char.from_buffer(page)
        rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(start))
        first, begin = _reading(rdtsc)
        time.sleep(0.05)
        last, end = _reading(rdtsc)
        del rdtsc, start  # so that the page can go
    return (last - first) * 1_000_000 // (end - begin)


def _reading(rdtsc: Callable[[], int]) -> tuple[int, int]:
    """The counter at a time in ns: of a few readings the one that was interrupted least."""
    tries = [(time.monotonic_ns(), rdtsc(), time.monotonic_ns()) for _ in range(5)]
    before, counter, after = min(tries, key=lambda each: each[2] - each[0])
    return counter, (before + after) // 2


def words(hardware: Hardware, image: Path, writable: Sequence[tuple[str, str]]) -> list[str]:
    """QEMU's arguments, but for those that name files this process has open. `writable`: tag and path.

    The kernel inside is told that its time stamp counter runs `slow` times as fast as it does, and takes all
    its time from it. (Untold, it measures the counter wrongly, or gives it up and reads its clock slowly.)
    Timers that fire too early by that it sets again. RCU is not to wait for the ticks of that clock, but to
    ask the CPUs.
    """
    kernel_words = "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable rcupdate.rcu_expedited=1"
    arguments = [
        *("-no-user-config", "-nodefaults", "-display", "none", "-no-reboot", "-M", "q35"),
        # Without erms: the kernel would copy and clear by `rep movsb`, which TCG does byte by byte.
        *("-accel", "tcg,thread=multi", "-cpu", "max,+svm,-erms"),
        *("-m", str(hardware.memory), "-smp", str(hardware.vcpus), "-kernel", str(image)),
    ]
    if hardware.iommu:
        kernel_words += " intel_iommu=on iommu=nopt"
        arguments += ["-device", "intel-iommu"]  # before what is behind it
    arguments += ["-append", f"{kernel_words} tsc_early_khz={int(tsc_khz() * hardware.slow)}"]
    for tag, path, more in [(ROOT_TAG, "/", ",readonly=on"), *((*each, "") for each in writable)]:
        shown = path.replace(",", ",,")
        arguments += ["-fsdev", f"local,id={tag},path={shown},security_model=none,multidevs=remap{more}"]
        arguments += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    arguments += ["-device", f"virtio-serial-pci,max_ports={len(PORTS) + 1}"]
    for port in PORTS:
        arguments += ["-device", f"virtserialport,chardev={port},name=r3s3.{port}"]
    for option, values in (("-drive", hardware.drives), ("-device", hardware.devices)):
        for value in values:
            arguments += [option, value]
    return arguments


class Machine:
    """A running machine. `close` it; it also ends with the thread that made it."""

    def __init__(self, qemu: str, arguments: Sequence[str], initrd: bytes, console: Path | None) -> None:
        """`console`: where to keep what the console says."""
        with contextlib.ExitStack() as stack:
            ends = {name: socket.socketpair() for name in PORTS}
            self.ports = {name: ours for name, (ours, _) in ends.items()}
            theirs = {name: stack.enter_context(each) for name, (_, each) in ends.items()}
            archive = stack.enter_context(open(os.memfd_create("initramfs"), "wb"))
            archive.write(initrd)
            archive.flush()
            self._said = _memory("qemu")
            self._log = _open_log(console)
            more = ["-initrd", f"/proc/self/fd/{archive.fileno()}"]
            # Append, or QEMU would write where we read
            more += ["-chardev", f"file,id=console,path=/proc/self/fd/{self._log.fileno()},append=on"]
            more += ["-serial", "chardev:console"]
            for name, end in theirs.items():
                more += ["-chardev", f"socket,id={name},fd={end.fileno()}"]
            fds = [archive.fileno(), self._log.fileno(), *(end.fileno() for end in theirs.values())]
            self.process = subprocess.Popen(
                # Nothing of ours may outlive us, however we end.
                ["setpriv", "--pdeathsig", "KILL", "--", qemu, *arguments, *more],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                pass_fds=fds,
                process_group=0,  # a terminal's Ctrl-C is for the command inside
            )

    def last_lines(self) -> str:
        """The last that the console and QEMU itself have said."""
        text = _content(self._log) + _content(self._said)
        printable = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1bc|\r", "", text.decode(errors="replace"))
        lines = [line for line in printable.split("\n") if line.strip()]
        return "\n".join(f"  {line}" for line in lines[-_CONSOLE_LINES:])

    def close(self) -> None:
        """End it."""
        for port in self.ports.values():
            port.close()
        self.process.send_signal(signal.SIGKILL)  # it holds nothing back: files are written when they are
        self.process.wait()
        self._log.close()
        self._said.close()


def _open_log(path: Path | None) -> BinaryIO:
    if path is None:
        return _memory("console")
    try:
        return open(path, "w+b")
    except OSError as error:
        raise BedError(f"{path}: the console cannot be kept there ({error.strerror}); name a file") from None


def _memory(name: str) -> BinaryIO:
    return open(os.memfd_create(name), "rb")


def _content(file: BinaryIO) -> bytes:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), 1 << 16, max(0, size - (1 << 16)))
