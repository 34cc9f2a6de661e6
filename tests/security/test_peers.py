"""A guest that breaks the rules of its channels: its peer breaks the connection off and lives on."""

from __future__ import annotations

import hashlib
import json
import random
import time

import pytest

from tests.security.conftest import FILES, MISDIRECTED, SERVER, Stage

pytestmark = pytest.mark.kvm

# Crime and what the complaint calls it.
CLIENTS = {
    "ring_index": "index",
    "forged_epoch": "epoch",
    "tag_reuse": "tag",
    "wrong_buffer": "buffer",
    "long_request": "length",
}
SERVERS = {
    "reply_to_nothing": "tag",
    "reply_twice": "tag",
    "reply_index": "index",
    "reply_epoch": "epoch",
    "reply_length": "length",
    "reply_status": "status",
    "reply_operation": "operation",
}


@pytest.mark.parametrize("crime", CLIENTS)
def test_client_is_broken_off(stage: Stage, crime: str) -> None:
    """The program waits to be broken off. Nobody dies, and the server says why it complained, once."""
    with stage.play(FILES, crime, "stay", "/file1") as scene:
        reason = f"complaint about {crime}: {CLIENTS[crime]}"
        scene.until(lambda: reason in scene.texts("file_server"), "no complaint")
        scene.ask("kill", component=crime)
        assert scene.end() == 137
        assert scene.report["deaths"] == {crime: 1}


def test_denied_operation(stage: Stage) -> None:
    with stage.play(FILES, "denied_operation") as scene:
        assert scene.end() == 0
    assert scene.report["deaths"] == {}


@pytest.mark.parametrize("crime", SERVERS)
def test_server_is_broken_off(stage: Stage, crime: str) -> None:
    """The client gets its answers in the end, from the same instance of the server: nobody dies."""
    with stage.play(SERVER, "caller", "plain", "20", server=crime) as scene:
        assert scene.end() == 0
    said = json.loads(stage.output)
    assert said["failed"] == 0 and said["reconnects"] == 1 and said["replayed"] >= 1
    assert scene.report["deaths"] == {}


def test_hung_server(stage: Stage) -> None:
    """It computes while a request waits: found out by the watch, replaced, and the request answered."""
    with stage.play(SERVER, "caller", "plain", "20", server="hung_server") as scene:
        assert scene.end() == 0
    assert json.loads(stage.output)["failed"] == 0
    assert scene.report["deaths"] == {"hung_server": 1}


def test_silent_server(stage: Stage) -> None:
    """It only waits, so it is not hung. Its client's deadline passes, and that is all."""
    with stage.play(SERVER, "caller", "plain", "1", server="silent_server") as scene:
        assert scene.end(30) == 1
    assert json.loads(stage.output)["failed"] == 2  # the warm-up's call and the one that counts
    assert scene.report["deaths"] == {}


@pytest.mark.parametrize("crime", ["exits", "ready_twice"])
def test_server_that_dies_of_its_own_call(stage: Stage, crime: str) -> None:
    with stage.play(SERVER, "caller", "plain", "20", server=crime) as scene:
        assert scene.end() == 0
    assert json.loads(stage.output)["failed"] == 0
    assert scene.report["deaths"] == {crime: 1}


def test_spares_that_do_not_wait(stage: Stage) -> None:
    """Each loses its place, and the log says why; who uses the component does not notice. After a death its
    successors do the same as running instances, until one serves."""
    server = "restless_spare"
    with stage.play(SERVER, "caller", "asleep", "12000", server=server) as scene:
        lost = [
            "it does not come to `start`",
            "its tender sent a record (30) that was not due",
            "it failed: ",
        ]
        scene.until(
            lambda: all(any(f"lost a spare: {why}" in text for text in scene.texts(server)) for why in lost),
            "not every kind of spare was lost",
        )
        assert scene.row(server)["deaths"] == 0 and scene.row(server)["epoch"] == 1
        assert not any("before the start" in text for text in scene.texts(server))
        scene.ask("kill", component=server)
        assert scene.end(30) == 0
    assert json.loads(stage.output)["failed"] == 0
    assert set(scene.report["deaths"]) == {server}
    assert scene.report["recoveries"] == scene.report["deaths"][server] <= 4


def test_use_of_a_revoked_grant(stage: Stage) -> None:
    """The borrower dies of touching it; the lender's page stays as it was when it was taken back."""
    with stage.play(SERVER, "lender", server="revoked_grant") as scene:
        assert scene.end() == 0
    assert scene.report["deaths"] == {"revoked_grant": 1}


def test_misdirected_dma(stage: Stage) -> None:
    """The driver dies as often as it tries, until its restart policy gives it up. Nobody else dies."""
    with stage.play(MISDIRECTED, "wait_forever") as scene:
        scene.until(lambda: scene.row("misdirected_dma")["state"] == "gave up", "the driver was not given up")
        died = [text for text in scene.texts("misdirected_dma") if text.startswith("died: dma")]
        assert len(died) == 4
        deaths = {row["name"]: row["deaths"] for row in scene.ask("ps") if row["deaths"]}
        assert deaths == {"misdirected_dma": 4}


def test_doorbell_storm(stage: Stage) -> None:
    """One program does nothing but ring. The server it rings rests in between, and the operator can act."""
    with stage.play(FILES, "doorbell_storm") as storm:
        storm.until(lambda: storm.row("doorbell_storm")["cpu_ms"] > 300, "no storm")
        before, begun = storm.row("file_server"), time.monotonic()
        time.sleep(0.5)
        after, seconds = storm.row("file_server"), time.monotonic() - begun
        assert after["state"] == "running"
        wakeups = (after["wakeups"] - before["wakeups"]) / seconds
        assert 200 < wakeups < 2500, "2,000 false alarms a second are put up with"
        assert after["cpu_ms"] - before["cpu_ms"] < 300 * seconds
        storm.ask("kill", component="doorbell_storm")
        assert storm.end() == 137
    assert storm.report["deaths"] == {"doorbell_storm": 1}


def test_digests_are_right_after_all_that(stage: Stage) -> None:
    """The stage's own disk, read by an honest program."""
    dice = random.Random(7)
    expected = [
        f"{hashlib.sha256(dice.randbytes(3 << 20)).hexdigest()}  /file{number}" for number in range(4)
    ]
    with stage.play(FILES, "sha256tree", "/") as scene:
        assert scene.end() == 0
    assert stage.output.decode().splitlines() == expected
