"""Speaks the launch protocol in place of `vmm.start`; the program's name says how to behave.

The launch line it got goes to the file $FAKE_REQUEST. "tree" prints the digests of the files below
$FAKE_TREE, changed as $FAKE_CHANGE says.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

_COMPONENT = {"name": "disk_driver", "is_program": False, "deaths": 3, "restarts": 3, "exits": 9, "bytes": 0}
_COMPONENT |= {"replayed": 0, "failed": 0, "cpu_ms": 8, "spins": 2000}
_PROGRAM = _COMPONENT | {"name": "good", "is_program": True, "deaths": 0, "restarts": 0, "exits": 5}
COUNTED = {
    "components": [_COMPONENT, _PROGRAM | {"replayed": 7, "bytes": 2 << 20}],
    "first_ns": 1_000_000_000,
    "last_ns": 1_500_000_000,
    "exits_at_first": 2,
    "recovery_ms": [1.25, 0.5, 2.5],
    "ready_us": [2000],
}


def send(link: socket.socket, event: str, **fields: object) -> None:
    """One event line, if anybody listens."""
    with contextlib.suppress(OSError):
        link.sendall(json.dumps({"event": event, **fields}).encode() + b"\n")


def escaped(path: str) -> str:
    """A name as coreutils write it, with the mark in front of the line."""
    if not set(path) & set("\\\n\r"):
        return path
    return path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def print_tree(top: Path, change: str) -> None:
    """What sha256tree prints, as far as `change` lets it."""
    for file in sorted(top.rglob("*")):
        if not file.is_file() or file.is_symlink():
            continue
        path = "/" + str(file.relative_to(top))
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if change == "drop":
            change = ""
            continue
        if change == "flip":
            change, digest = "", "0" * 64
        mark = "\\" if escaped(path) != path else ""
        os.write(1, os.fsencode(f"{mark}{digest}  {escaped(path)}\n"))
    if change == "add":
        os.write(1, b"0" * 64 + b"  /extra\n")


def run(link: socket.socket, request: dict[str, Any]) -> None:
    """One behaviour."""
    word, _, value = request["program"].partition("=")
    if word in ("error", "not-found", "not-runnable"):
        status = {"error": 125, "not-found": 127, "not-runnable": 126}[word]
        send(link, "error", message=f"{request['system_file']}: something is wrong; mend it", status=status)
        return
    send(link, "started", name="fake")
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "leave":
        return
    elif word == "deaf":
        signal.pause()
    elif word == "wait":
        Path(os.environ["FAKE_REQUEST"] + ".started").touch()
        line = link.recv(100)
        Path(os.environ["FAKE_REQUEST"] + ".stopped").write_bytes(line)
        if line:
            send(link, "ended", status=130, report={})
        return
    elif word == "output":
        os.write(1, b"bytes\xff\n")
        os.write(2, b"complaint\n")
    elif word == "sha256tree":
        for _ in request["arguments"][2:]:
            print_tree(Path(os.environ["FAKE_TREE"]), "")
        print_tree(Path(os.environ["FAKE_TREE"]), os.environ.get("FAKE_CHANGE", ""))
    send(link, "exited")
    send(link, "ended", status=int(value or 0), report=COUNTED)


def main() -> None:
    """The process's entry."""
    with socket.socket(fileno=int(sys.argv[1])) as link:
        line = b""
        while not line.endswith(b"\n"):
            line += link.recv(1 << 16)
        if "FAKE_REQUEST" in os.environ:
            Path(os.environ["FAKE_REQUEST"]).write_bytes(line)
        run(link, json.loads(line))
    time.sleep(0.01)


if __name__ == "__main__":
    main()
