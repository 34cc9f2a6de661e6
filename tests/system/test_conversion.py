"""State of an older schema under a newer version: tests/guests/counter and newer_counter, versions 1 to 3.

`states/` has the ledgers that versions 1 and 2 have left, as whole regions (compressed) and as the data in
them, which the converters' own tests read on the host; `python -m tests.system.states.make SCHEMA` made them.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images.guests import build
from tests.stateful.conductor import Conductor, Request, Use, done, prepare, state_of
from tests.system.plan import ROOT, Plan, Point, number_of
from tests.system.stage import IMAGES, Scene, Stage, is_stopped, strike
from tests.system.test_update import refused, renew

pytestmark = pytest.mark.kvm

USES = (
    Use("count", "count@1", ("add",), "relay.count"),
    Use("audit", "count@1", ("entry",), "counter.count"),
)
SYSTEM = """
[components.counter]
manifest = "{{manifests}}/counter.toml"

[components.relay]
manifest = "{{manifests}}/relay.toml"

[routes]
{routes}"relay.next" = "counter.count"
"program.log" = "console.log"
"""
STATES = Path(__file__).parent / "states"
SAVED = {1: [1, 2, 3, 0xFFFFFFFF // 2], 2: [5, 6, 0xFFFF0000]}  # schema -> the amounts in it
REGION = {1: 1 << 20, 2: 2 << 20, 3: 2 << 20}
PAGE, LOG_MAX = 4096, 64 << 10
# Where a new version dies, at which passage: reading the old state, between two steps of the conversion, with
# a state that is not in both copies yet, and with one that nothing says is valid.
DEATHS = (
    ("state.in_converter", 1),
    ("state.in_converter", 3),
    ("state.converted", 1),
    ("state.before_seal", 1),
)
CONVERTER_POINTS = {name for name, _ in DEATHS}
LEDGER = 'schema = {}\nsurvives = ["crash", "update"]'


class Chain:
    """A chain with a counter of some version: what it has been given, and what it has."""

    def __init__(self, stage: Stage, scene: Scene) -> None:
        self.stage, self.scene, self.conductor = stage, scene, Conductor(scene)

    def manifest(self, schema: int, survives: str = '"crash", "update"') -> str:
        """The manifest of a version."""
        text = (self.stage.manifests / ("counter.toml" if schema == 1 else "newer_counter.toml")).read_text()
        text = text.replace('name = "newer_counter"', 'name = "counter"').replace(
            'version = "3.', f'version = "{schema}.'
        )
        text = text.replace("schema = 3", f"schema = {schema}").replace('"crash", "update"', survives)
        file = self.stage.folder / f"counter-{schema}.toml"
        file.write_text(text)
        return str(file)

    def load(self, amounts: list[int], meanwhile: Callable[[], None] = lambda: None) -> None:
        """Counts them, several at a time, while something happens; nobody is told of anything."""
        first = self.entry(0) + 1
        numbers = [
            self.conductor.submit(Request("count", 1, struct.pack("<Q", amount))) for amount in amounts
        ]
        meanwhile()
        answers = self.conductor.settle()
        assert [answers[each] for each in numbers] == [
            done("Q", first + place) for place in range(len(numbers))
        ]

    def entry(self, number: int) -> int:
        """An entry of the ledger; 0: how many there are."""
        answer = self.conductor.call(Request("audit", 2, struct.pack("<Q", number)))
        assert answer.status == 0, str(answer)
        return int.from_bytes(answer.values[:8], "little")

    @property
    def ledger(self) -> list[int]:
        """All of it."""
        return [self.entry(number) for number in range(1, self.entry(0) + 1)]

    def put_back(self, schema: int, size: int) -> None:
        """Has the counter come back from a death and find a saved state in its region of `size` bytes."""
        region = state_of(self.scene, "ledger", size)
        tender = self.scene.tender("counter")
        strike(tender, signal.SIGSTOP)
        self.scene.until(lambda: is_stopped(tender), "it does not stop")
        saved = gzip.decompress((STATES / f"ledger-{schema}.region.gz").read_bytes())
        region[:] = saved.ljust(size, b"\0")
        self.scene.ask("kill", component="counter")


def data_of(region: bytes) -> bytes:
    """The data in a region: its live copy, without the zeros at the end."""
    (size,) = struct.unpack_from("<Q", region, 16)
    first = PAGE + 2 * min(LOG_MAX, len(region) // 16)
    return region[first : first + size].rstrip(b"\0")


@contextlib.contextmanager
def started(stage: Stage, plan: Plan | None = None) -> Iterator[Chain]:
    """A chain whose counter is of version 1."""
    build(["newer_counter", "conductor"], output=IMAGES, report=lambda _: None, cfgs=["kill_points"])
    for name in ("counter", "newer_counter", "relay"):
        stage.change(name)
    routes = prepare(stage, USES)
    with stage.play(SYSTEM.format(routes=routes), "conductor", plan=plan) as scene:
        chain = Chain(stage, scene)
        yield chain
        assert chain.conductor.end() == 0


@pytest.fixture
def chain(stage: Stage) -> Iterator[Chain]:
    """With a counter of version 1."""
    with started(stage) as chain:
        yield chain


def test_step_by_step(chain: Chain) -> None:
    """1 to 2 to 3 under load, then a kill, then what does not work: the ledger is what it should be."""
    amounts = list(range(1, 61))
    wanted: list[int] = []
    for schema in (1, 2, 3):
        chain.load(amounts, lambda: renew("counter", "--manifest", chain.manifest(schema)))  # noqa: B023
        wanted += amounts
        assert chain.ledger == wanted
    chain.load(amounts, lambda: chain.scene.ask("kill", component="counter"))
    wanted += amounts
    older = "counter: state ledger has schema 3, the new version knows schema 2"
    refused(["counter", "--manifest", chain.manifest(2)], older)
    refused(
        ["counter", "--manifest", chain.manifest(1)],
        "state ledger has schema 3, the new version knows schema 1",
    )
    lost = "not updated, and unchanged: counter died: panic: no version has schema Some(4)"
    chain.load(amounts, lambda: refused(["counter", "--manifest", chain.manifest(4)], lost))
    wanted += amounts
    assert chain.ledger == wanted


def test_a_converter_that_fails(chain: Chain) -> None:
    """In the middle, because of what is in the ledger, which the old version goes on with."""
    large = [7, 0xFFFFFFFF, 9]
    chain.load(large)
    why = "not updated, and unchanged: counter died: panic: the ledger's sum is more than version 3 can count"
    for schema in (1, 2):
        chain.load([schema] * 40, lambda: refused(["counter", "--manifest", chain.manifest(3)], why))
        large += [schema] * 40
        assert chain.ledger == large
        if schema == 1:
            renew("counter", "--manifest", chain.manifest(2))
    chain.scene.ask("kill", component="counter")
    assert chain.ledger == large


def test_a_converter_that_dies(stage: Stage) -> None:
    """Wherever it does, the old version goes on with the old state; else the new one has all of it."""
    numbered = list(enumerate(DEATHS, 2))  # by epoch; of what is planted for an instance the last counts
    plan = Plan(
        tuple(Point("counter", name, (passage,) * epoch) for epoch, (name, passage) in reversed(numbered))
    )
    with started(stage, plan) as chain:
        wanted: list[int] = []
        for epoch, (name, _) in numbered:
            assert chain.scene.row("counter")["epoch"] == epoch - 1
            why = "not updated, and unchanged: counter died: exception 14 (error code 0x6) "
            why += f"at address {number_of(name):#x},"
            amounts = [epoch] * 40
            chain.load(amounts, lambda: refused(["counter", "--manifest", chain.manifest(3)], why))  # noqa: B023
            wanted += amounts
            assert chain.ledger == wanted
            chain.load([7] * 10, lambda: chain.scene.ask("kill", component="counter"))
            wanted += [7] * 10
        chain.load([8] * 40, lambda: renew("counter", "--manifest", chain.manifest(3)))
        wanted += [8] * 40
        assert chain.ledger == wanted
        chain.scene.ask("kill", component="counter")
        assert chain.ledger == wanted


def test_a_converter_that_does_not_end(chain: Chain) -> None:
    """The old version goes on when the time is over."""
    build(["infinite_loop"], output=IMAGES, report=lambda _: None, cfgs=["kill_points"])
    words = ["counter", "--manifest", chain.manifest(2), "--image", str(IMAGES / "infinite_loop.elf")]
    chain.load([1, 2, 3] * 10, lambda: refused(words, "it took too long"))
    assert chain.ledger == [1, 2, 3] * 10


def test_saved_states(chain: Chain) -> None:
    """Each old schema by each newer version, at a restart, where the state is converted in place."""
    for version in (2, 3):
        renew("counter", "--manifest", chain.manifest(version))
        for schema in range(1, version):
            chain.put_back(schema, REGION[version])
            amounts = SAVED[schema]
            assert chain.ledger == amounts
            chain.scene.ask("kill", component="counter")
            assert chain.ledger == amounts, "converted once"
            saved = gzip.decompress((STATES / f"ledger-{schema}.region.gz").read_bytes())
            assert data_of(saved) == (STATES / f"ledger-{schema}.data").read_bytes()


@pytest.mark.parametrize("occasion", ["crash", "update", "none"])
def test_what_survives(chain: Chain, occasion: str) -> None:
    """State that survives only one of them is begun anew after the other."""
    survives = "" if occasion == "none" else f'"{occasion}"'
    renew("counter", "--manifest", chain.manifest(1, survives))
    first = 0  # of the version before everything has survived the update, but it says now what does
    for deed in ("crash", "update", "crash"):
        chain.load([3, 4])
        first += 2
        if deed == "crash":
            chain.scene.ask("kill", component="counter")
        else:
            renew("counter")
        first = first if deed == occasion else 0
        assert chain.entry(0) == first


def test_the_code_in_the_readme() -> None:
    """It is what is compiled, line for line."""
    source = "".join(file.read_text() for file in sorted((ROOT / "tests/guests/newer_counter/src").iterdir()))
    text = (ROOT / "guests/rt/README.md").read_text()
    section = text.partition("### A new version of the state\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```rust\n(.*?)```", section, re.DOTALL)
    parts = [part for block in blocks for part in block.split("\n\n")]
    assert len(parts) >= 6
    assert [part for part in parts if part.strip() not in source] == []
