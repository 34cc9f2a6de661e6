"""Servers that stay away for long, for ever, or do not answer; and clients that do not want a replay."""

from __future__ import annotations

import re
import signal
import time

import pytest

from hypervisor.abi import generated as abi
from tests.bed import IN_BED, dose
from tests.system.plan import Plan, Point
from tests.system.stage import FILES, Stage, strike
from tests.system.test_exactly_once import CHAIN, COUNT, check

pytestmark = pytest.mark.kvm

AWAY_S = 1 if IN_BED else 3
DEATH = Plan((Point("counter", "server.before_publish", (100,)),))
BACKOFF = f'policy = "backoff"\nbackoff_ms = [{AWAY_S * 1000}]'
NEVER = 'policy = "never"'
SHORT = ("deadline_ms = 10000", "deadline_ms = 500")
LONE = """
[components.silent_server]
manifest = "{manifests}/silent_server.toml"

[components.counter]
manifest = "{manifests}/counter.toml"

[routes]
"program.count" = "silent_server.blk"
"program.audit" = "counter.count"
"program.log" = "console.log"
"""


def test_a_server_that_is_away_for_longer_than_every_deadline(stage: Stage) -> None:
    """Deadlines of its own client stand still while it is known to be dead: all requests are answered when it
    is back. (The client's client, whose server lives and is late, has a deadline long enough for that.)"""
    stage.change("counter", restart=BACKOFF)
    stage.change("relay", SHORT)
    with stage.play(CHAIN, "front", str(COUNT), plan=DEATH) as scene:
        assert scene.end() == 0
    check(stage, COUNT)
    assert stage.said["replayed"] == 0  # by the front: its server was there all the time, and late
    # When the counter died, some of its last answers were still on their way.
    assert stage.said["longest_ms"] >= AWAY_S * 1000 - 100
    assert len(scene.deaths("counter")) == 1


def test_a_driver_that_is_away(stage: Stage, digests: list[str]) -> None:
    stage.change("disk_driver", restart=BACKOFF)
    stage.change("file_server", SHORT)
    death = Plan((Point("disk_driver", "driver.before_reply", (40,)),))
    with stage.play(FILES, "sha256tree", "/", plan=death) as scene:
        assert scene.end() == 0
    assert stage.lines == digests
    assert scene.report["failed_requests"] == 0
    assert scene.report["seconds"] >= AWAY_S


def test_given_up(stage: Stage) -> None:
    """The requests under way fail with `dead`, and so does every further one: nobody waits."""
    stage.change("counter", restart=NEVER)
    stage.change("relay")
    with stage.play(CHAIN, "front", str(COUNT), plan=DEATH) as scene:
        assert scene.end() == 1
    said = stage.said
    assert (said["error"], said["answered"] < COUNT) == (abi.Error.DEAD, True)
    assert said["entries"] == 0  # the front's own channel to the counter says the same
    assert scene.report["deaths"] == {"counter": 1}


def test_given_up_after_so_many_restarts(stage: Stage) -> None:
    stage.change("counter", restart='policy = "always"\ngive_up = { restarts = 3, within_s = 60 }')
    stage.change("relay")
    death = Plan((Point("counter", "server.before_publish", (20,) * 10),))
    with stage.play(CHAIN, "front", str(COUNT), plan=death) as scene:
        assert scene.end() == 1
    assert stage.said["error"] == abi.Error.DEAD
    assert scene.report["deaths"] == {"counter": 4}


@pytest.mark.parametrize(
    ("component", "point"), [("file_server", "files.before_reply"), ("disk_driver", "driver.before_reply")]
)
def test_programs_say_so(stage: Stage, capfd: pytest.CaptureFixture[str], component: str, point: str) -> None:
    """A program whose server, or whose server's server, is given up ends with a message about each file."""
    stage.change(component, restart=NEVER)
    plan = Plan((Point(component, point, (20,)),))
    with stage.play(FILES, "sha256tree", "/", plan=plan) as scene:
        assert scene.end() == 1
    messages = capfd.readouterr().err.splitlines()
    assert messages
    for line in messages:
        assert re.fullmatch(r"sha256tree: /\w+: (The server died|Input/output error)", line)
    assert scene.report["deaths"] == {component: 1}


def test_no_disk_from_the_beginning(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    """The driver is given up before the file server has mounted the image: that stays up and says so."""
    stage.change("disk_driver", restart=NEVER)
    plan = Plan((Point("disk_driver", "driver.before_reply", (1,)),))
    with stage.play(FILES, "sha256tree", "/", plan=plan) as scene:
        assert scene.end() == 1
    assert "Input/output error" in capfd.readouterr().err
    assert scene.report["deaths"] == {"disk_driver": 1}


def test_a_machine_that_stands_still(stage: Stage) -> None:
    """Every process is stopped for longer than a deadline and goes on, the clients first: nobody is late or
    silent, for nobody had the time."""
    stage.change("file_server", SHORT)
    with stage.play(FILES, "sha256tree", *["/"] * dose(40)) as scene:
        for _ in range(1 if IN_BED else 3):
            read = int(scene.row("sha256tree")["bytes"])
            while int(scene.row("sha256tree")["bytes"]) == read:
                time.sleep(0.001)
            tenders = [scene.tender(name) for name in ("file_server", "disk_driver", "sha256tree")]
            everybody = [scene.hypervisor, *tenders, scene.device]
            for pid in everybody:
                strike(pid, signal.SIGSTOP)
            time.sleep(1.5)
            for pid in everybody[1:]:
                strike(pid, signal.SIGCONT)
                time.sleep(0.1)
            strike(scene.hypervisor, signal.SIGCONT)
        texts = scene.texts("file_server")
        assert scene.end() == 0
    assert not [text for text in texts if "in time" in text or "complaint" in text]
    assert scene.report["deaths"] == {}
    assert scene.report["failed_requests"] == 0


def test_no_replay_where_the_manifest_says_so(stage: Stage) -> None:
    """on_restart = "fail": what was under way fails with `dead`, what comes later is served."""
    stage.change("counter")
    stage.change("relay", SHORT, ("deadline_ms = 500", 'deadline_ms = 500\non_restart = "fail"'))
    with stage.play(CHAIN, "front", str(COUNT), plan=DEATH) as scene:
        assert scene.end() == 1
    said = stage.said
    assert said["error"] == abi.Error.DEAD
    assert 0 < said["failed"] <= 16  # the relay's slots
    assert said["entries"] > 0  # the counter is back
    assert said["doubled"] == 0
    assert scene.fully_recovered()


def test_a_server_that_never_answers(stage: Stage) -> None:
    """It waits, so it is not hung, and nobody kills it. Its client is told `timeout` at its deadline."""
    stage.change("silent_server", ('"blk@1"', '"count@1"'), ('"flush"]', '"add"]'))
    stage.change("counter")
    stage.change("front", SHORT)
    with stage.play(LONE, "front", "10") as scene:
        assert scene.end() == 1
    said = stage.said
    assert said["error"] == abi.Error.TIMEOUT
    assert 500 <= said["longest_ms"] < 5000
    assert scene.report["deaths"] == {}
