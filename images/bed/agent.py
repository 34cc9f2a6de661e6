"""The bed's process 1 once its root stands: runs commands for the host, one after the other.

Started as a script by the bed's init; standard library only, and little of it, because everything here is
slow. Virtio ports r3s3.stdin, r3s3.stdout and r3s3.stderr carry the bytes of the command's streams and
nothing else; r3s3.sockets connects the host with UNIX sockets in here (images.bed.carrier); r3s3.control
carries JSON lines. From the host:
    {"run": [WORD...], "cwd": PATH, "environment": {...}, "files": [SOFT, HARD]}    the limit of open files
    {"signal": NUMBER}                  for the command's process group
    {"stdin_end": N}                    after N bytes for this command there are no more
    {"unread": "stdout" | "stderr"}     nobody reads this stream any more
To the host:
    {"alive": true}                     every BEAT_SECONDS of the host, whatever else happens
    {"booted": VERSION, "spawn": s, "loop": s}
    {"started": true}                   or {"error": MESSAGE} and nothing else: it was not even tried
    {"exited": STATUS, "stdout": N, "stderr": N}    as a shell gives it; bytes written to the streams
    {"ready": true}                     for the next command, once all bytes for the last one are consumed
When the host is gone, the machine is switched off.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

CHUNK = 1 << 16
STREAMS = ("stdin", "stdout", "stderr")
NOT_FOUND, NOT_RUNNABLE = 127, 126
TIMES, LOOPS = 2, 100_000  # of the reference work
BEAT_SECONDS = 1.0


def reference_work(python: str, times: int) -> tuple[float, float]:
    """Seconds of the reference work, on the host and in the bed: a Python that is started and ends, and a
    loop in Python. The quickest of some `times`."""
    spawns, loops = [], []
    for _ in range(times):
        begin = time.monotonic()
        os.waitpid(os.posix_spawn(python, [python, "-I", "-S", "-c", "pass"], {}), 0)
        between, total = time.monotonic(), 0
        for number in range(LOOPS):
            total += number & 7
        spawns.append(between - begin)
        loops.append(time.monotonic() - between)
    return min(spawns), min(loops)


def open_port(name: str, flags: int) -> int:
    """The virtio port r3s3.`name`; it may take a moment to appear."""
    while True:
        for folder in Path("/sys/class/virtio-ports").glob("*"):
            if (folder / "name").read_text().strip() == f"r3s3.{name}":
                return os.open(f"/dev/{folder.name}", flags | os.O_CLOEXEC)
        time.sleep(0.01)


def switch_off() -> NoReturn:
    """End the machine, at once."""
    Path("/proc/sysrq-trigger").write_text("o")
    while True:
        time.sleep(1)


def write_all(fd: int, data: bytes) -> None:
    """All of `data`, however long it takes."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


class Output:
    """One stream of a command, from a pipe to a port."""

    def __init__(self, pipe: int, port: int, ended: int) -> None:
        """`ended` becomes readable when the command has ended."""
        self.bytes = 0
        self._pipe, self._port, self._ended = pipe, port, ended
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._carry, daemon=True)
        self.thread.start()

    def _carry(self) -> None:
        # A process that the command has left behind may hold the pipe, and even go on writing: after the
        # command's end only what it can have left in the pipe counts.
        left = fcntl.fcntl(self._pipe, fcntl.F_GETPIPE_SZ)
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        poll.register(self._ended, select.POLLIN)
        while left > 0:
            ready = dict(poll.poll())
            if self._pipe not in ready:
                break
            with self._lock:
                data = os.read(self._pipe, min(CHUNK, left)) if self._pipe >= 0 else b""
            if not data:
                break
            if self._ended in ready:
                left -= len(data)
            write_all(self._port, data)
            self.bytes += len(data)
        self.close()

    def close(self) -> None:
        """Whoever writes from now on gets SIGPIPE."""
        with self._lock:
            if self._pipe >= 0:
                os.close(self._pipe)
                self._pipe = -1


class Input:
    """The command's standard input, from the port to a pipe; what the command does not read is dropped."""

    def __init__(self, port: int, pipe: int, ended: int) -> None:
        self._port, self._pipe, self._ended = port, pipe, ended
        self._end: int | None = None
        self._wake = os.eventfd(0)
        os.set_blocking(pipe, False)
        self.thread = threading.Thread(target=self._carry, daemon=True)
        self.thread.start()

    def end(self, count: int) -> None:
        """There are `count` bytes altogether."""
        self._end = count
        os.eventfd_write(self._wake, 1)

    def _carry(self) -> None:
        done, pipe = 0, self._pipe
        while self._end is None or done < self._end:
            ready, _, _ = select.select([self._port, self._wake], [], [])
            if self._wake in ready:
                os.eventfd_read(self._wake)
            elif data := os.read(self._port, CHUNK if self._end is None else min(CHUNK, self._end - done)):
                done += len(data)
                if pipe >= 0 and not self._pass_on(data):
                    os.close(pipe)
                    pipe = -1
            else:  # the host is gone, as the control port will say
                break
        if pipe >= 0:
            os.close(pipe)

    def close(self) -> None:
        """After its end; whoever calls `end` must not do so meanwhile."""
        self.thread.join()
        os.close(self._wake)

    def _pass_on(self, data: bytes) -> bool:
        """Write it; whether there is still somebody to read."""
        rest = memoryview(data)
        while rest:
            ready, writable, _ = select.select([self._ended], [self._pipe], [])
            try:
                if writable:
                    rest = rest[os.write(self._pipe, rest) :]
            except BlockingIOError:
                pass
            except BrokenPipeError:
                return False
            if ready:
                return False
        return True


class Agent:
    """Runs what the host says."""

    def __init__(self) -> None:
        self._ports = {
            name: open_port(name, os.O_RDONLY if name == "stdin" else os.O_WRONLY) for name in STREAMS
        }
        self._control = open_port("control", os.O_RDWR)
        self._lock = threading.Lock()
        self._group = 0  # the command's process group
        self._input: Input | None = None
        self._outputs: dict[str, Output] = {}
        self._started = threading.Semaphore(0)
        self._ended: tuple[int, int] = (-1, -1)  # closing the second makes the first readable

    def tell(self, **message: object) -> None:
        """A line to the host."""
        write_all(self._control, json.dumps(message).encode() + b"\n")

    def live(self, seconds: float) -> NoReturn:
        """Say again and again that this machine does something, however busy it is."""
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # of this thread
        while True:
            self.tell(alive=True)
            time.sleep(seconds)

    def listen(self) -> NoReturn:
        """Take what the host says, until it is gone."""
        rest = b""
        while data := os.read(self._control, CHUNK):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
        switch_off()

    def _take(self, message: dict[str, Any]) -> None:
        with self._lock:
            if "run" in message:
                try:
                    self._start(message)
                    self.tell(started=True)
                    self._started.release()
                except OSError as error:
                    self.tell(error=str(error))
            elif "signal" in message and self._group:
                try:
                    os.killpg(self._group, message["signal"])
                except ProcessLookupError:
                    pass
            elif "stdin_end" in message and self._input:
                self._input.end(message["stdin_end"])
            elif "unread" in message and (output := self._outputs.get(message["unread"])):
                output.close()

    def _start(self, message: dict[str, Any]) -> None:
        if not os.path.isdir(message["cwd"]):
            raise OSError(f"{message['cwd']}: the bed does not see this folder; start from another")
        self._ended = os.pipe2(os.O_CLOEXEC)
        (to_read, stdin), (stdout, out), (stderr, err) = (os.pipe2(os.O_CLOEXEC) for _ in STREAMS)
        executed, executing = os.pipe2(os.O_CLOEXEC)
        self._group = os.fork()
        if self._group == 0:
            become(message, (to_read, out, err))
        for fd in (to_read, out, err, executing):
            os.close(fd)
        os.read(executed, 1)  # the end of the file: it has become the command, and signals are the command's
        os.close(executed)
        self._input = Input(self._ports["stdin"], stdin, self._ended[0])
        self._outputs = {
            "stdout": Output(stdout, self._ports["stdout"], self._ended[0]),
            "stderr": Output(stderr, self._ports["stderr"], self._ended[0]),
        }

    def serve(self) -> NoReturn:
        """See one command after the other to its end."""
        while True:
            self._started.acquire()
            status = self._wait(self._group)
            os.close(self._ended[1])
            for output in self._outputs.values():
                output.thread.join()
            os.sync()  # what is written to the host's folders is there before the status is
            self.tell(exited=status, **{name: output.bytes for name, output in self._outputs.items()})
            assert self._input
            self._input.thread.join()  # the host answers with the number of bytes
            with self._lock:
                self._input.close()
                os.close(self._ended[0])
                self._input, self._outputs = None, {}
            self.tell(ready=True)

    def _wait(self, pid: int) -> int:
        """The command's status, as a shell gives it; orphans are buried on the way."""
        while True:
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            assert info is not None
            with self._lock:  # until it is buried, its number is its own
                if info.si_pid == pid:
                    self._group = 0
                os.waitpid(info.si_pid, 0)
            if info.si_pid == pid:
                return info.si_status if info.si_code == os.CLD_EXITED else 128 + info.si_status


def become(message: dict[str, Any], streams: tuple[int, ...]) -> NoReturn:
    """In the forked child: be the command. 127 and 126 as a shell has it."""
    status = NOT_RUNNABLE
    try:
        os.setsid()
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        # Python ignores these, and what is ignored stays so
        for name in ("SIGPIPE", "SIGXFSZ"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_NOFILE, message["files"])
        os.chdir(message["cwd"])
        environment = message["environment"]
        os.execvpe(message["run"][0], message["run"], environment)
    except (OSError, ValueError) as error:
        status = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE
        os.write(
            2,
            f"r3s3: {message['run'][0]}: {getattr(error, 'strerror', error)}\n".encode(
                errors="surrogateescape"
            ),
        )
    finally:
        os._exit(status)


def complete_host() -> None:
    """What every host has: names for the open files, the address 127.0.0.1."""
    for name, target in (("fd", ""), *((name, f"/{number}") for number, name in enumerate(STREAMS))):
        os.symlink(f"/proc/self/fd{target}", f"/dev/{name}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        up, set_flags = 0x1, 0x8914  # IFF_UP, SIOCSIFFLAGS
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH14x", b"lo", up))


def give_to_vfio(wanted: list[str]) -> None:
    """Bind every PCI device "vendor:device" (hexadecimal, 4 digits) of `wanted` to vfio-pci."""
    missing = set(wanted)
    for folder in sorted(Path("/sys/bus/pci/devices").glob("*")):
        name = ":".join((folder / each).read_text().strip()[2:] for each in ("vendor", "device"))
        if name in wanted:
            (folder / "driver_override").write_text("vfio-pci")
            if (folder / "driver").exists():
                (folder / "driver/unbind").write_text(folder.name)
            Path("/sys/bus/pci/drivers_probe").write_text(folder.name)
            if (folder / "driver/module").exists():
                missing.discard(name)
    if missing:
        raise OSError(f"no PCI device {', '.join(sorted(missing))} that vfio-pci takes")


def kernel_version() -> str:
    """The kernel's own version; Debian's release names only its series."""
    words = os.uname().version.split()
    if "Debian" in words:
        return words[words.index("Debian") + 1].split("-")[0]
    return os.uname().release


def connect_sockets() -> None:
    """The host reaches sockets in here."""
    sys.path.append(os.path.dirname(__file__))  # a script that is started in isolation has no folder
    carrier = importlib.import_module("carrier")
    carrier.Inside(open_port("sockets", os.O_RDWR | os.O_NONBLOCK)).run()


def main(python: str, slow: str, *vfio: str) -> None:
    """The agent. `python` is the Python of the reference work; a second in here takes `slow` of the host."""
    complete_host()
    agent = Agent()
    threading.Thread(target=agent.live, args=[BEAT_SECONDS / float(slow)], daemon=True).start()
    threading.Thread(target=agent.listen, daemon=True).start()
    threading.Thread(target=connect_sockets, daemon=True).start()
    give_to_vfio(list(vfio))
    spawn, loop = reference_work(python, TIMES)
    agent.tell(booted=kernel_version(), spawn=spawn, loop=loop)
    agent.serve()


def fail(error: BaseException | None) -> NoReturn:
    """Say on the console what has happened; the host sees the end."""
    print(f"agent: {error!r}", file=sys.stderr, flush=True)
    switch_off()


if __name__ == "__main__":
    threading.excepthook = lambda failure: fail(failure.exc_value)
    try:
        main(*sys.argv[1:])
    except BaseException as error:
        fail(error)
