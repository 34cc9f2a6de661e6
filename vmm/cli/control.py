"""Control sockets: where they are, making one for a new system, and speaking with a running one.

One JSON object a line, answered in order; `hypervisor/control.py` describes the commands.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vmm.cli.command import CommandError
from vmm.cli.faults import in_words

ANSWER_SECONDS = 30.0  # a test bed boots, and the system in it, before that answers
ANSWER_MAX = 64 << 20
BACKLOG = 16
PATH_MAX = 107  # bytes of a socket's address
SYSTEMS_MAX = 64  # of one name


class RefusedError(CommandError):
    """The system does not do that; `kind` is the class of its error."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def runtime_directory() -> Path:
    """The folder of control sockets: $R3S3_RUNTIME_DIR, or the usual place of this user."""
    if chosen := os.environ.get("R3S3_RUNTIME_DIR"):
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/run/r3s3")
    if session := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(session) / "r3s3"
    return Path(f"/tmp/r3s3-{os.geteuid()}")


def running() -> dict[str, Path]:
    """The control sockets of the systems that run, by name; one that nobody listens on is left out."""
    paths = sorted(runtime_directory().glob("*.sock"), key=lambda path: path.stem)
    return {path.stem: path for path in paths if _answers(path)}


def _answers(path: Path) -> bool:
    """Whether somebody listens there, be it with as many waiting as there may be (EAGAIN)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(str(path)) in (0, errno.EAGAIN)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else looks for a free name there, or frees one, meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def listen(name: str, chosen: bool) -> tuple[socket.socket, Path]:
    """A listening control socket for a new system `name`, which only this user may connect to, and its path.

    Where one of that name runs it is NAME-2 and so on, or an error if the user has `chosen` the name.
    """
    folder = runtime_directory()
    if len(os.fsencode(folder / f"{name}-{SYSTEMS_MAX}.sock")) > PATH_MAX:
        raise CommandError(f"{folder}: too long a path for a socket; set R3S3_RUNTIME_DIR to a shorter one")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        remedy = "set R3S3_RUNTIME_DIR to a folder of yours"
        raise CommandError(f"{folder}: no folder for control sockets: {error.strerror}; {remedy}") from None
    if folder.stat().st_uid not in (0, os.geteuid()):
        # He could put a socket of his own in the place of ours.
        raise PermissionError(errno.EPERM, "the folder belongs to another user", str(folder))
    with _locked(folder):
        for number in range(1, SYSTEMS_MAX + 1):
            path = folder / (f"{name}.sock" if number == 1 else f"{name}-{number}.sock")
            if not path.exists() or not _answers(path):
                path.unlink(missing_ok=True)  # left by one that was killed
                return _listener(path), path
            if chosen:
                raise CommandError(f'a system "{name}" is already running; choose another with -s')
    raise CommandError(f"{SYSTEMS_MAX} systems are running already; end one")


def forget(path: Path) -> None:
    """Remove the name of a control socket, unless a new system has it already."""
    with contextlib.suppress(FileNotFoundError), _locked(path.parent):
        if not _answers(path):
            path.unlink()


def _listener(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    listener.listen(BACKLOG)
    return listener


class Control:
    """A connection to the system `name`, or to the only one that runs, or to the one at `path`.

    A context manager.
    """

    def __init__(self, name: str | None, path: Path | None = None) -> None:
        path = path or _choose(name)
        self.name = path.stem
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_SECONDS)
        self._number = 0
        self._rest = b""
        try:
            self._socket.connect(str(path))
        except OSError as error:
            raise self._lost(error) from None

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def execute(self, command: str, **arguments: object) -> Any:
        """The answer of the system to `command`; RefusedError where it refuses."""
        return self.execute_with((), command, **arguments)

    def execute_with(self, fds: Sequence[int], command: str, **arguments: object) -> Any:
        """The same for a command that wants descriptors."""
        self._number += 1
        request = {"execute": command, "arguments": arguments, "id": self._number}
        try:
            line = json.dumps(request).encode() + b"\n"
            sent = socket.send_fds(self._socket, [line], fds) if fds else 0
            self._socket.sendall(line[sent:])
            answer = self._line()
        except OSError as error:
            raise self._lost(error) from None
        if "error" in answer:
            raise RefusedError(answer["error"]["class"], answer["error"]["desc"])
        return answer["return"]

    def _line(self) -> dict[str, Any]:
        while b"\n" not in self._rest:
            data = self._socket.recv(1 << 16)
            if not data or len(self._rest) > ANSWER_MAX:
                raise ConnectionResetError("it closed the connection")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line, object_hook=_readable)
        return answer

    def _lost(self, error: OSError) -> CommandError:
        if isinstance(error, TimeoutError):
            what = "is its hypervisor process stopped, or its test bed slow to start?"
            return CommandError(f'system "{self.name}" does not answer; {what}')
        return CommandError(f'system "{self.name}" has ended ({error.strerror or error})')


def _readable(answer: dict[str, Any]) -> dict[str, Any]:
    """An object of an answer, whose texts may tell of faults."""
    return {key: in_words(value) if isinstance(value, str) else value for key, value in answer.items()}


def _choose(name: str | None) -> Path:
    systems = running()
    if not systems:
        raise CommandError(f"no system is running (looked in {runtime_directory()}); start one with r3s3 run")
    names = ", ".join(systems)
    if name is None and len(systems) > 1:
        raise CommandError(f"several systems are running: {names}; choose one with -s NAME")
    if name is not None and name not in systems:
        raise CommandError(f'no system "{name}" is running; running: {names}')
    return systems[name or next(iter(systems))]
