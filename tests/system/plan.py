"""What is to die when, in a system under test: written by a test, carried out by its hypervisor process.

Two kinds of moments can be named. A *point* is a place in guest code (`kill_point!` in crate rt): the VM
itself dies there, at a chosen passage. A *step* is a place in the hypervisor's handling of a death: somebody
is killed just there, before anything else happens. No moment is hit by waiting for some time. A *lot* draws
moments of both kinds, and kills after so many requests.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = "R3S3_TEST_PLAN"  # names the file that holds the plan
# Offsets in the telemetry page, see guests/rt/src/kill_point.rs.
TRAIL_COUNT = 0xC00
TRAIL = 0xC10
TRAIL_SLOTS = 256
SEEN = 0xE10
SEEN_SLOTS = 64
PLANTED = 0xF00
HANG = 1 << 31
STEPS = ("died", "verdict", "adopted", "reconnect", "ready")
UPDATE_STEPS = ("spawned", "rests", "converted", "switched")
_POINT = re.compile(r'^ *(?:(?:rt::)?kill_point!|R3S3_KILL_POINT)\("([^"]+)"\)', re.MULTILINE)
_GUEST_CODE = ("guests/rt/src", "components", "guests/programs", "tests/guests")


def seeds(count: int) -> range:
    """So many seeds of a campaign, from $R3S3_SEED on."""
    first = int(os.environ.get("R3S3_SEED", "1"))
    return range(first, first + count)


@dataclass(frozen=True)
class Point:
    """`component` dies at `name`: its first instance at passage passages[0], its second at passages[1] and so
    on; further instances do not. With `hang` it does not die there, but never goes on."""

    component: str
    name: str
    passages: tuple[int, ...]
    hang: bool = False


@dataclass(frozen=True)
class Strike:
    """At `step` number `number` (from 1) in the handling of deaths of component `of`, `victim` is killed.

    Steps: `died` the death has been recorded and reported, `verdict` what is to happen is known (before
    `died` if it was foreseen), `adopted` the successor was started, `reconnect` a client's request for the
    new rings has come, `ready` the successor has said so.
    `how`: "kill" by the hypervisor, "SIGKILL" to the tender from outside.
    """

    step: str
    of: str
    victim: str
    number: int = 1
    how: str = "kill"


@dataclass(frozen=True)
class Lot:
    """Everybody dies, as drawn from `seed`, until the program ends (see `lottery.py`). `requests`: component
    -> how many requests an instance serves or makes, on average; `points`: where in its code it may die.
    """

    seed: int
    requests: dict[str, int]
    points: dict[str, list[str]]


@dataclass(frozen=True)
class Plan:
    """Everything that is to happen. The default: nothing."""

    points: tuple[Point, ...] = ()
    strikes: tuple[Strike, ...] = ()
    lot: Lot | None = None
    trace: bool = False  # note which of the hypervisor's functions a death goes through
    # How soon after its start the reincarnation server dies "at once", ns; 0: as always. Many a machine that
    # tests is slow.
    hasty_ns: int = 0

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="ascii")

    @classmethod
    def read(cls, path: str) -> Plan:
        """What `write` has written."""
        data: dict[str, Any] = json.loads(Path(path).read_text(encoding="ascii"))
        return cls(
            tuple(Point(**(each | {"passages": tuple(each["passages"])})) for each in data["points"]),
            tuple(Strike(**each) for each in data["strikes"]),
            Lot(**data["lot"]) if data["lot"] else None,
            data["trace"],
            data["hasty_ns"],
        )


def number_of(point: str) -> int:
    """The number of a point: FNV-1a of its name, folded to 16 bits, as in crate rt."""
    value = 0x811C9DC5
    for byte in point.encode("ascii"):
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return (value ^ value >> 16) & 0xFFFF


@dataclass(frozen=True)
class Points:
    """All points of the tree: name -> the file it is in, relative to the repository."""

    files: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_tree(cls) -> Points:
        """Found by reading the source."""
        files: dict[str, str] = {}
        for folder in _GUEST_CODE:
            for path in sorted((ROOT / folder).rglob("*.[rc]*")):
                for name in _POINT.findall(path.read_text()):
                    assert name not in files, f"two points are called {name}"
                    files[name] = str(path.relative_to(ROOT))
        return cls(files)

    def named(self, number: int) -> str:
        """The name of point `number`."""
        return next(name for name in self.files if number_of(name) == number)
