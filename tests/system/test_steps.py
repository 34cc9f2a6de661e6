"""Deaths between the steps of a recovery: of who is being recovered, of who decides, of who reconnects.

Each row: while the death of `of` is handled, `victim` is killed at `step`. The program that reads notices nothing,
and everybody is back at the end.
"""

from __future__ import annotations

import pytest

from hypervisor.abi import generated as abi
from tests.system.plan import STEPS, Plan, Point, Strike
from tests.system.stage import FILES, Stage

pytestmark = pytest.mark.kvm

# What makes `of` die in the first place, always in the middle of the work.
CAUSES = {
    "disk_driver": Point("disk_driver", "driver.before_reply", (40,)),
    "file_server": Point("file_server", "files.before_reply", (30,)),
    "console": Point("console", "server.before_publish", (1,)),
}
RS = "reincarnation_server"
SCENES: dict[str, tuple[str, tuple[Strike, ...]]] = {
    "supervisor between death and verdict": ("disk_driver", (Strike("died", "disk_driver", RS),)),
    "supervisor between death and verdict, by SIGKILL": (
        "disk_driver", (Strike("died", "disk_driver", RS, how="SIGKILL"),),
    ),
    "supervisor after its verdict": ("disk_driver", (Strike("verdict", "disk_driver", RS),)),
    "supervisor before the successor is ready": ("disk_driver", (Strike("adopted", "disk_driver", RS),)),
    "supervisor when the successor is ready": ("disk_driver", (Strike("ready", "disk_driver", RS),)),
    "supervisor dies again before it is ready": (
        "disk_driver", (Strike("died", "disk_driver", RS), Strike("ready", RS, RS)),
    ),
    "client between death and verdict": ("disk_driver", (Strike("died", "disk_driver", "file_server"),)),
    "client between verdict and adoption": ("disk_driver", (Strike("verdict", "disk_driver", "file_server"),)),
    "client between adoption and ready": ("disk_driver", (Strike("adopted", "disk_driver", "file_server"),)),
    "client during its reconnect": ("disk_driver", (Strike("reconnect", "disk_driver", "file_server"),)),
    "server during its client's reconnect": ("disk_driver", (Strike("reconnect", "disk_driver", "disk_driver"),)),
    "both during the reconnect": (
        "disk_driver",
        (Strike("reconnect", "disk_driver", "disk_driver"), Strike("reconnect", "disk_driver", "file_server")),
    ),
    "successor as soon as it is started": (
        "disk_driver",
        (Strike("adopted", "disk_driver", "disk_driver"), Strike("adopted", "disk_driver", "disk_driver", 2)),
    ),
    "successor by SIGKILL before it is ready": (
        "disk_driver", (Strike("adopted", "disk_driver", "disk_driver", how="SIGKILL"),),
    ),
    "successor when it is ready": ("disk_driver", (Strike("ready", "disk_driver", "disk_driver"),)),
    "driver while the file server is recovered": ("file_server", (Strike("died", "file_server", "disk_driver"),)),
    "driver when the file server's verdict comes": (
        "file_server", (Strike("verdict", "file_server", "disk_driver"),),
    ),
    "driver when the file server is started": ("file_server", (Strike("adopted", "file_server", "disk_driver"),)),
    "file server while its client reconnects": (
        "file_server", (Strike("reconnect", "file_server", "file_server"),),
    ),
    "everybody at once": (
        "disk_driver",
        tuple(Strike("died", "disk_driver", victim) for victim in ("file_server", "console", RS)),
    ),
    "console twice": ("console", (Strike("adopted", "console", "console"), Strike("ready", "console", "console"))),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENES)
def test_death_while(stage: Stage, digests: list[str], name: str) -> None:
    of, strikes = SCENES[name]
    with stage.play(FILES, "sha256tree", "/", plan=Plan((CAUSES[of],), strikes)) as scene:
        assert scene.end() == 0
    assert stage.lines == digests
    assert scene.report["failed_requests"] == 0
    assert scene.report["struck"] == [f"{each.step} {each.of}: {each.victim}" for each in strikes]
    first = scene.deaths(of)[0]
    assert (first["kind"], first["epoch"]) == (abi.FAULT_EXCEPTION, 1)
    for victim in {each.victim for each in strikes}:
        wanted = sum(each.victim == victim for each in strikes) + (victim == of)
        own = [record for record in scene.deaths(victim) if record["kind"] != abi.FAULT_REPLACED]
        assert len(own) == wanted
    assert scene.fully_recovered()


def test_every_step_is_covered() -> None:
    assert {strike.step for _, strikes in SCENES.values() for strike in strikes} == set(STEPS)
