"""Components that die again and again, of a request, of their state or at their start; what is tried then.

The client has 1, 2, 3, ... counted, several requests under way at any time. The planted bugs are about 7.
"""

from __future__ import annotations

import pytest

from hypervisor.abi import generated as abi
from images.guests import build
from tests.system.plan import ROOT, Plan, Point
from tests.system.stage import IMAGES, Scene, Stage
from tests.system.test_store import STORE

pytestmark = pytest.mark.kvm

COUNT = 200
PARTS = """
[components.{name}]
manifest = "{{manifests}}/{name}.toml"

[routes]
"program.count" = "{name}.count"
"program.audit" = "{name}.count"
"program.log" = "console.log"
"""
GROUP = """
[components.counter]
manifest = "{manifests}/counter.toml"

[components.relay]
manifest = "{manifests}/relay.toml"

[routes]
"relay.next" = "counter.count"
"program.count" = "relay.count"
"program.audit" = "counter.count"
"program.log" = "console.log"
"""


def prepare(stage: Stage, name: str, *cures: str) -> str:
    """The parts of a system with this bug, and these cures to try."""
    listed = ", ".join(f'"{cure}"' for cure in cures)
    stage.change("poisoned", name=name, restart=f'policy = "always"\npoisoned = [{listed}]')
    return PARTS.format(name=name)


def told(scene: Scene, name: str) -> list[str]:
    """What the log says of cures, in order: the hypervisor's word, then the component's."""
    words = ("poisoned: ", "quarantined", "begun anew", "undone")
    return [text for text in scene.texts(name) if any(word in text for word in words)]


def play(stage: Stage, name: str, *cures: str, lines: int = 2, depth: int = 1) -> tuple[list[str], int]:
    """What the log tells of the cures, so many lines, and how often the component has died."""
    parts = prepare(stage, name, *cures)
    with stage.play(parts, "front", str(COUNT), "3000", "on", str(depth)) as scene:
        scene.until(lambda: len(told(scene, name)) >= lines, "it is not cured")
        log = told(scene, name)
        worked = [row["working"] for row in scene.ask("history") if row["component"] == name and "why" in row]
        scene.end()
    assert all(each["kind"] == abi.Fault.PANIC for each in scene.deaths(name))
    assert worked[0] == worked[1] != 0  # the same request, both times
    return log, len(scene.deaths(name))


def counted(stage: Stage) -> tuple[int, int, int, int]:
    """(entries in the ledger, entries twice in it, failed requests, the first one's error)."""
    said = stage.said
    assert said["answered"] == COUNT
    return said["entries"], said["doubled"], said["failed"], said["error"]


def test_the_request_is_quarantined(stage: Stage) -> None:
    """Who asked is told so; the request is not done, all others are, once."""
    log, deaths = play(stage, "poisoned_request", "quarantine", depth=32)
    assert deaths == 2
    assert counted(stage) == (COUNT - 1, 0, 1, abi.Error.QUARANTINED)
    hypervisor, component = log
    number = hypervisor.removeprefix("poisoned: quarantine; it worked on request ")
    assert component == f"request {number} quarantined: operation 1 of front"


def test_what_the_manifest_of_the_data_store_says(stage: Stage) -> None:
    """As it is shipped: one request is refused, and what is asked besides is done, once."""
    build(["data_store", "store"], output=IMAGES, report=lambda _: None, cfgs=["kill_points"])
    shipped = (ROOT / "components/data_store/manifest.toml").read_text()
    (stage.manifests / "data_store.toml").write_text(shipped)
    script = "set a 1 , set b 2 , set c 3 , list , status"
    plan = Plan((Point("data_store", "state.before_commit", (2, 1)),))
    with stage.play(STORE, "store", *script.split(" "), plan=plan) as scene:
        assert scene.end() == 1
    assert len(scene.deaths("data_store")) == 2
    assert stage.lines == ["1", "store: set: quarantined", "2", "1 a = 1", "2 c = 3", "2 2 2 0"]


def test_the_last_commit_is_undone(stage: Stage) -> None:
    """What it had acknowledged is lost: 7."""
    log, deaths = play(stage, "poisoned_state", "undo")
    assert deaths == 2
    assert counted(stage) == (COUNT - 1, 0, 0, 0)
    assert log[0].startswith("poisoned: undo; ") and log[1:] == [
        "state ledger: poisoned, the last commit has been undone"
    ]


def test_the_state_begins_anew(stage: Stage) -> None:
    log, deaths = play(stage, "poisoned_state", "fresh")
    assert deaths == 2
    assert counted(stage) == (COUNT - 7, 0, 0, 0)
    assert log[0].startswith("poisoned: fresh; ") and log[1:] == ["state ledger: poisoned, begun anew"]


def test_one_cure_after_the_other(stage: Stage) -> None:
    """Quarantine is no help against a poisoned state: 8 is refused, then it dies of 9, and 7 is undone."""
    _, deaths = play(stage, "poisoned_state", "quarantine", "undo", lines=4)
    assert deaths == 3
    assert counted(stage) == (COUNT - 2, 0, 1, abi.Error.QUARANTINED)


def test_it_is_given_up(stage: Stage) -> None:
    """Its clients are told so."""
    with stage.play(prepare(stage, "poisoned_state", "give_up"), "front", str(COUNT)) as scene:
        assert scene.end() == 1
    assert len(scene.deaths("poisoned_state")) == 2
    assert stage.said["error"] == abi.Error.DEAD


def test_a_crash_loop_starves_nobody(stage: Stage) -> None:
    """One that never comes up, and is tried for ever, beside a chain that works: later and later."""
    stage.change("counter")
    stage.change("poisoned", name="poisoned_start")
    loop = '\n[components.poisoned_start]\nmanifest = "{manifests}/poisoned_start.toml"\n'
    with stage.play(loop + PARTS.format(name="counter"), "front", "2000", "200") as scene:
        scene.until(lambda: scene.row("poisoned_start")["deaths"] > 20, "it does not die")
        assert scene.row("poisoned_start")["deaths"] < 40
        assert scene.row("counter")["served"] > 0
        scene.ask("kill", component="counter")  # who dies beside it comes back at once
        scene.until(lambda: scene.row("counter")["restarts"] == 1, "the counter does not come back")
        scene.until(lambda: scene.row("front")["state"] == "exited 0", "the program does not end")
        life = [row for row in scene.ask("history") if row["component"] == "counter"]
    assert life[1]["ready_ns"] - life[0]["ended_ns"] < 500_000_000
    assert stage.said | {"replayed": 0, "longest_ms": 0} == {
        "answered": 2000, "failed": 0, "error": 0, "longest_ms": 0, "replayed": 0,
        "entries": 2000, "in_order": True, "doubled": 0,
    }  # fmt: skip
    assert stage.said["longest_ms"] < 1000


def await_restarts(scene: Scene, count: int) -> None:
    """Until both have been restarted so often."""
    for name in ("counter", "relay"):
        scene.until(lambda name=name: scene.row(name)["restarts"] == count, f"{name} does not come back")  # type: ignore[misc]


@pytest.mark.parametrize("victim", ["counter", "relay"])
def test_a_group_begins_anew(stage: Stage, victim: str) -> None:
    """All of it, the server first; the client notices nothing."""
    for name in ("counter", "relay"):
        stage.change(name, restart='policy = "always"\ngroup = "chain"')
    with stage.play(GROUP, "front", "1500", "200") as scene:
        scene.until(lambda: bool(scene.row("counter")["served"] > 100), "nothing is counted")
        for deaths in (1, 2, 3):
            scene.ask("kill", component=victim)
            await_restarts(scene, deaths)
        rows = scene.ask("history")
        assert scene.end() == 0
    lives = {name: [row for row in rows if row["component"] == name] for name in ("counter", "relay")}
    assert [len(each) for each in lives.values()] == [4, 4]
    for server, client in list(zip(lives["counter"], lives["relay"], strict=True))[1:]:
        assert server["ready_ns"] <= client["began_ns"]
    other = "relay" if victim == "counter" else "counter"
    assert {each["message"] for each in scene.deaths(other)} == {f"it begins anew with {victim}"}
    assert stage.said["failed"] == 0 and stage.said["in_order"] and stage.said["entries"] == 1500
