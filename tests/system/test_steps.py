"""Deaths between the steps of a recovery: of who is being recovered, of who decides, of who reconnects.

Each row: while the death of `of` is handled, `victim` is killed at `step`. The program that reads notices
nothing, and everybody is back at the end. All of it twice: where the restart was foreseen and happens before
anything else does, and where the reincarnation server has to be asked.
"""

from __future__ import annotations

import pytest

from hypervisor.abi import generated as abi
from tests.system.plan import STEPS, Plan, Point, Strike
from tests.system.stage import ASKED, COMPONENTS, FILES, Stage

pytestmark = pytest.mark.kvm

RS, CONSOLE, DRIVER, SERVER = COMPONENTS

# What makes `of` die in the first place, always in the middle of the work.
CAUSES = {
    DRIVER: Point(DRIVER, "driver.before_reply", (40,)),
    SERVER: Point(SERVER, "files.before_reply", (30,)),
    CONSOLE: Point(CONSOLE, "server.before_publish", (1,)),
}
SCENES: dict[str, tuple[str, tuple[Strike, ...]]] = {
    "supervisor between death and verdict": (DRIVER, (Strike("died", DRIVER, RS),)),
    "supervisor between death and verdict, by SIGKILL": (
        DRIVER, (Strike("died", DRIVER, RS, how="SIGKILL"),),
    ),
    "supervisor after its verdict": (DRIVER, (Strike("verdict", DRIVER, RS),)),
    "supervisor before the successor is ready": (DRIVER, (Strike("adopted", DRIVER, RS),)),
    "supervisor when the successor is ready": (DRIVER, (Strike("ready", DRIVER, RS),)),
    "supervisor dies again before it is ready": (
        DRIVER, (Strike("died", DRIVER, RS), Strike("ready", RS, RS)),
    ),
    "client between death and verdict": (DRIVER, (Strike("died", DRIVER, SERVER),)),
    "client between verdict and adoption": (DRIVER, (Strike("verdict", DRIVER, SERVER),)),
    "client between adoption and ready": (DRIVER, (Strike("adopted", DRIVER, SERVER),)),
    "client during its reconnect": (DRIVER, (Strike("reconnect", DRIVER, SERVER),)),
    "server during its client's reconnect": (DRIVER, (Strike("reconnect", DRIVER, DRIVER),)),
    "both during the reconnect": (
        DRIVER,
        (Strike("reconnect", DRIVER, DRIVER), Strike("reconnect", DRIVER, SERVER)),
    ),
    "successor as soon as it is started": (
        DRIVER,
        (Strike("adopted", DRIVER, DRIVER), Strike("adopted", DRIVER, DRIVER, 2)),
    ),
    "successor by SIGKILL before it is ready": (
        DRIVER, (Strike("adopted", DRIVER, DRIVER, how="SIGKILL"),),
    ),
    "successor when it is ready": (DRIVER, (Strike("ready", DRIVER, DRIVER),)),
    "driver while the file server is recovered": (SERVER, (Strike("died", SERVER, DRIVER),)),
    "driver when the file server's verdict comes": (
        SERVER, (Strike("verdict", SERVER, DRIVER),),
    ),
    "driver when the file server is started": (SERVER, (Strike("adopted", SERVER, DRIVER),)),
    "file server while its client reconnects": (
        SERVER, (Strike("reconnect", SERVER, SERVER),),
    ),
    "everybody at once": (
        DRIVER,
        tuple(Strike("died", DRIVER, victim) for victim in (SERVER, CONSOLE, RS)),
    ),
    "console twice": (CONSOLE, (Strike("adopted", CONSOLE, CONSOLE), Strike("ready", CONSOLE, CONSOLE))),
}  # fmt: skip


@pytest.mark.parametrize("restart", ["", ASKED], ids=["foreseen", "asked"])
@pytest.mark.parametrize("name", SCENES)
def test_death_while(stage: Stage, digests: list[str], name: str, restart: str) -> None:
    of, strikes = SCENES[name]
    stage.change(of, restart=restart)
    with stage.play(FILES, "sha256tree", "/", plan=Plan((CAUSES[of],), strikes)) as scene:
        assert scene.end() == 0
    assert stage.lines == digests
    assert scene.report["failed_requests"] == 0
    assert scene.report["struck"] == [f"{each.step} {each.of}: {each.victim}" for each in strikes]
    first = scene.deaths(of)[0]
    assert (first["kind"], first["epoch"]) == (abi.Fault.EXCEPTION, 1)
    for victim in {each.victim for each in strikes}:
        wanted = sum(each.victim == victim for each in strikes) + (victim == of)
        own = [record for record in scene.deaths(victim) if record["kind"] != abi.Fault.REPLACED]
        assert len(own) == wanted
    assert scene.fully_recovered()


def test_every_step_is_covered() -> None:
    assert {strike.step for _, strikes in SCENES.values() for strike in strikes} == set(STEPS)
