"""The data store: names and values as told, each change told once to who subscribes, whoever dies meanwhile.

`publisher` sets numbers, the component `subscriber` says each once more, and the publisher hears what it
says: 1, 2, 3 and so on, if nothing is lost and nothing doubled on either way. The program `store` carries out
scripts.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from images.guests import build
from tests.bed import dose
from tests.system.plan import ROOT, Plan, Point, seeds
from tests.system.stage import IMAGES, Scene, Stage
from vmm.cli import update
from vmm.cli.command import Parser

pytestmark = pytest.mark.kvm

STORE = """
[components.data_store]
manifest = "{manifests}/data_store.toml"

[routes]
"program.store" = "data_store.store"
"""
REPUBLISHED = (
    STORE
    + """"subscriber.store" = "data_store.store"

[components.subscriber]
manifest = "{manifests}/subscriber.toml"
"""
)
GUESTS = ("data_store", "store", "subscriber", "publisher")
NAMES_MAX, CHANGES_MAX = 32, 512
COUNT = 400
PASSAGES = (100, 1, 2, 5)
# Where the store dies, and where the subscriber does.
POINTS = (
    ("state.after_log", "state.after_log"),
    ("state.before_commit", "state.before_commit"),
    ("state.after_commit", "state.after_commit"),
    ("state.in_copy", "client.before_submit"),
    ("server.before_dispatch", "client.before_doorbell"),
    ("server.before_publish", "client.before_replay"),
)


@pytest.fixture(scope="module", autouse=True)
def images() -> None:
    """The guests of these tests, with kill points."""
    build(GUESTS, output=IMAGES, report=lambda _: None, cfgs=["kill_points"])


@pytest.fixture
def place(stage: Stage) -> Stage:
    """All manifests are in place; `narrow` is the program `store` with less authority."""
    stage.change("data_store")
    stage.change("subscriber")
    narrow = (ROOT / "guests/programs/store/manifest.toml").read_text()
    narrow = narrow.replace('name = "store"', 'name = "narrow"')
    narrow = narrow.replace('read = "/"\nwrite = "/"', 'read = "/net"\nwrite = "/net/eth0"')
    for name, text in (
        ("publisher", (ROOT / "tests/guests/publisher/manifest.toml").read_text()),
        ("narrow", narrow),
    ):
        (stage.programs / name).mkdir()
        (stage.programs / name / "manifest.toml").write_text(text)
    return stage


def words(*commands: str) -> list[str]:
    """A script for the program `store`."""
    return " , ".join(commands).split(" ")


def check(stage: Stage, scene: Scene, count: int) -> None:
    """Each number was said once more, once."""
    assert stage.said | {"replayed": 0} == {
        "set": count, "failed": 0, "changes": count, "in_order": count, "doubled": 0, "replayed": 0,
    }  # fmt: skip
    assert scene.report["failed_requests"] == 0


def test_what_it_says(place: Stage) -> None:
    script = words(
        "set a 1", "set /a 2 if=1", "get a", "set a -2", "set net/eth0 -5", "set net/up +1", "set b hex:00fF",
        "set network text", "list", "list net", "delete net/up", "get net/up", "set net/up now", "list /net",
        "delete a if=1", "delete a if=2", "set a string:7 if=absent", "get /a", "status",
        "subscribe 1 net", "set c 1", "set net 9", "delete net", "next 1 0", "next 1 10", "acknowledge 1 11",
        "subscribe 1 net", "set net/x y", "next 1 0", "unsubscribe 1", "next 1 0", "watch a count=0",
    )  # fmt: skip
    with place.play(STORE, "store", *script) as scene:
        assert scene.end() == 1
    assert place.lines == [
        "1", "2", "2", "store: set: inval", "3", "4", "5",
        "6", "2 a = 2", "5 b = hex:00ff", "3 net/eth0 = -5", "4 net/up = +1", '6 network = "text"',
        "3 net/eth0 = -5", "4 net/up = +1",
        "7", "store: get: noent", "8", "3 net/eth0 = -5", '8 net/up = "now"',
        "store: delete: stale", "9", "10", '"7"', "10 5 5 0",
        "10", "11", "12", "13", "12 net = 9", "12 net = 9", "ok",
        "11", "14", "12 net = 9", "ok", "store: next: badf",
    ]  # fmt: skip


def test_bad_input(place: Stage) -> None:
    """Told so, and nothing has happened; a subscriber that is too far behind is told that."""
    quota = [f"set n/{number} 1" for number in range(NAMES_MAX)]
    busy = [f"set n/0 {number}" for number in range(CHANGES_MAX)]
    script = words(
        f"set {'n' * 65} 1", f"set {'n' * 64} 1", f"delete {'n' * 64}",
        f"set a {'v' * 257}", f"set a {'v' * 256}", "delete a",
        "set a//b 1", "set ä 1", "get /", "list a/", "subscribe 4 a", "next 3 0", "delete a", "status",
        *quota, "set more 1", "status",
        "subscribe 0 n", *busy, "next 0 0", "set n/0 1", "next 0 0", "next 0 600", "acknowledge 0 9999",
        "subscribe 0 n", "next 0 0", "subscribe 0 n anew", "set n/1 7", "next 0 0",
    )  # fmt: skip
    with place.play(STORE, "store", *script) as scene:
        assert scene.end() == 1
    lines = iter(place.lines)
    assert take(lines, 14) == [
        "store: set: nametoolong", "1", "2", "store: set: toobig", "3", "4",
        "store: set: inval", "store: set: inval",
        "store: get: inval", "store: list: inval", "store: subscribe: badf", "store: next: badf",
        "store: delete: noent", "4 0 0 0",
    ]  # fmt: skip
    assert take(lines, NAMES_MAX) == [str(5 + number) for number in range(NAMES_MAX)]
    last = 4 + NAMES_MAX
    assert take(lines, 3) == ["store: set: nospc", f"{last} {NAMES_MAX} {NAMES_MAX} 0", str(last)]
    assert take(lines, CHANGES_MAX)[-1] == str(last + CHANGES_MAX)
    gone = last + CHANGES_MAX + 1
    assert take(lines, 9) == [
        f"{last + 1} n/0 = 0", str(gone), *["store: next: gap"] * 2, "store: acknowledge: range", str(last),
        "store: next: gap", str(gone), str(gone + 1),
    ]  # fmt: skip
    assert list(lines) == [f"{gone + 1} n/1 = 7"]


def take(lines: Iterator[str], count: int) -> list[str]:
    """The next lines."""
    return [next(lines) for _ in range(count)]


def test_what_is_not_stated_is_denied(place: Stage) -> None:
    script = words(
        "set net/eth0/mtu 1500", "set net/lo 1", "set a 1", "delete net", "get net/eth0/mtu", "get a",
        "get network", "list", "list net",
        "subscribe 0 /", "subscribe 0 network", "subscribe 0 net/eth0", "status",
    )  # fmt: skip
    with place.play(STORE, "narrow", *script) as scene:
        assert scene.end() == 1
    assert place.lines == [
        "1", *["store: set: access"] * 2, "store: delete: access", "1500", *["store: get: access"] * 2,
        "store: list: access", "1 net/eth0/mtu = 1500", *["store: subscribe: access"] * 2, "1", "1 1 1 1",
    ]  # fmt: skip


@pytest.mark.parametrize(("store", "subscriber"), POINTS)
def test_both_die_at(place: Stage, store: str, subscriber: str) -> None:
    others = (1,) if subscriber == "client.before_replay" else PASSAGES
    plan = Plan((Point("data_store", store, PASSAGES), Point("subscriber", subscriber, others)))
    with place.play(REPUBLISHED, "publisher", str(COUNT), plan=plan) as scene:
        assert scene.end() == 0
    check(place, scene, COUNT)
    assert len(scene.deaths("data_store")) == len(PASSAGES)
    assert len(scene.deaths("subscriber")) == len(others)


def test_both_die_at_random(place: Stage) -> None:
    count = dose(1500)
    kill = (("data_store", 30.0), ("subscriber", 20.0))
    with place.play(REPUBLISHED, "publisher", str(count), "200", kill=kill) as scene:
        assert scene.end() == 0
    check(place, scene, count)
    assert scene.report["kills"] > 10


@pytest.mark.campaign
@pytest.mark.parametrize("seed", seeds(10))
def test_many_times(place: Stage, seed: int) -> None:
    count = 15_000
    kill = (("data_store", 25.0), ("subscriber", 15.0), ("reincarnation_server", 5.0))
    with place.play(REPUBLISHED, "publisher", str(count), "200", kill=kill, seed=seed) as scene:
        assert scene.end(180) == 0
    check(place, scene, count)


def renew() -> None:
    """`r3s3 update data_store`."""
    parser = Parser()
    update.add_arguments(parser)
    assert update.run(parser.parse_args(["data_store"])) == 0


def test_updates_under_load(place: Stage) -> None:
    count, times = dose(4000), 3
    with place.play(REPUBLISHED, "publisher", str(count), "500") as scene:
        for _ in range(times):
            served = scene.row("data_store")["served"]
            scene.until(lambda: bool(scene.row("data_store")["served"] > served), "nothing is said")  # noqa: B023
            renew()
        assert scene.end() == 0
    check(place, scene, count)
    assert len(scene.deaths("data_store")) == times


def test_a_subscriber_that_is_gone(place: Stage) -> None:
    """What was kept for it is freed; until then waiting for a change is no crime of the store."""
    place.change("subscriber", restart='policy = "never"')
    with place.play(REPUBLISHED, "store", *words(*["status", "pause 20"] * 1000)) as scene:
        scene.wait_started()
        scene.until(lambda: place.lines[-1:] == ["0 0 0 1"], "nobody subscribes")
        said = len(place.lines)
        scene.until(lambda: len(place.lines) > said + 20, "nobody asks")
        scene.ask("kill", component="subscriber")
        scene.until(lambda: place.lines[-1] == "0 0 0 0", "the subscription stays")
        assert scene.row("data_store")["epoch"] == 1


def test_watching(place: Stage) -> None:
    """The subscriber is away when it happens, and says it all when it is back."""
    place.change("subscriber", restart='policy = "backoff"\nbackoff_ms = [1500]')
    script = words(
        "again", "set in/x 1", "set in/y/z -2", "set in/x 3", "delete in/y/z", "watch out count=3", "status"
    )
    with place.play(REPUBLISHED, "store", *script) as scene:
        scene.until(lambda: place.lines == ["again"], "it does not begin")
        scene.until(lambda: scene.row("subscriber")["calls"] > 1, "nobody subscribes")
        scene.ask("kill", component="subscriber")
        scene.ask("kill", component="data_store")
        assert scene.end() == 0
    said = ["5 out/x = 1", "6 out/y/z = -2", "7 out/x = 3"]
    assert place.lines == ["again", "1", "2", "3", "4", *said, "7 3 1 1"]


class Model:
    """The store as one client sees it: what is said to each command."""

    def __init__(self) -> None:
        self.names: dict[str, tuple[int, int]] = {}  # version and value
        self.changes = 0

    def answer(self, command: str) -> list[str]:
        """What is printed; nothing is known of `again` but that."""
        verb, *rest = command.split(" ")
        if verb == "set":
            self.changes += 1
            self.names[rest[0]] = (self.changes, int(rest[1]))
            return [str(self.changes)]
        if verb == "list":
            return [f"{version} {name} = {value}" for name, (version, value) in sorted(self.names.items())]
        if verb == "again":
            return ["again"]
        if rest[0] not in self.names:
            return [f"store: {verb}: noent"]
        if verb == "get":
            return [str(self.names[rest[0]][1])]
        del self.names[rest[0]]
        self.changes += 1
        return [str(self.changes)]


def test_as_the_model_has_it(place: Stage) -> None:
    """A script by lot; at each `again` the store is killed or updated."""
    dice = random.Random(3)
    script, model = [], Model()
    for _ in range(8):
        for _ in range(10):
            name = f"{dice.choice('abc')}/{dice.randrange(4)}"
            script.append(dice.choice((f"set {name} {dice.randrange(9)}", f"get {name}", f"delete {name}")))
        script += ["again", "list"]
    with place.play(STORE, "store", *words(*script)) as scene:
        scene.wait_started()
        for number in range(1, 9):
            scene.until(lambda: place.lines.count("again") == number, "it does not get there")  # noqa: B023
            if number % 3:
                scene.ask("kill", component="data_store")
            else:
                renew()
        assert scene.end() == 1  # some name was not there
    assert place.lines == [line for command in script for line in model.answer(command)]
    assert len(scene.deaths("data_store")) == 8
