"""Every model is explored completely and without an error, and each planted mistake is found."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

MODELS = Path(__file__).parent
MEMORY_MIB = 512
DEPTH = 200_000
SECONDS = 60  # for a machine that is busy; on an idle one each takes a few
ONE_DEATH = ("SERVER_DEATHS=1", "CLIENT_DEATHS=0", "REQUESTS=2")
BOTH_DIE = ("SERVER_DEATHS=1", "CLIENT_DEATHS=1", "REQUESTS=2")

SOUND = [
    ("channel", ("SERVER_DEATHS=2", "CLIENT_DEATHS=0", "REQUESTS=3")),
    ("channel", BOTH_DIE),
    ("channel", (*BOTH_DIE, "FRESH_CLIENT")),
    ("channel", (*ONE_DEATH, "IDEMPOTENT")),
    ("channel", ("SERVER_DEATHS=1", "CLIENT_DEATHS=0", "REQUESTS=3", "WAKE_AFTER=2")),
    ("chain", ()),
    ("update", ()),
    ("grants", ()),
]

# A mistake, and in which words the checker finds it.
LOST = "invalid end state"
MUTATIONS = [
    ("channel", (*ONE_DEATH, "NO_LOG"), r"executed\[.*==1"),
    ("channel", (*ONE_DEATH, "NOT_RELEASED"), r"executed\[.*==1"),
    ("channel", (*ONE_DEATH, "REPLY_FIRST"), r"executed\[.*>=1"),
    ("channel", (*BOTH_DIE, "FRESH_CLIENT", "SESSION_KEPT"), r"executed\[.*>=1"),
    ("channel", (*ONE_DEATH, "SAME_RINGS"), r"assertion violated \(?phase\[tag\]|reply_epoch"),
    ("channel", (*ONE_DEATH, "NO_SECOND_LOOK"), LOST),
    ("channel", (*ONE_DEATH, "NO_FENCE"), LOST),
    ("channel", (*ONE_DEATH, "SHARED_EDGE"), LOST),
    ("chain", ("PUBLISH_FIRST",), "total_kept>=next"),
    ("chain", ("TAGS_NOT_KEPT",), "total_kept"),
    ("chain", ("CALLER_FORGOTTEN",), "total_kept==what"),
    ("update", ("COPIED_EARLY",), "region==call"),
    ("update", ("OLD_SERVES_ON",), "assertion violated"),
    ("grants", ("ANSWERED_EARLY",), r"window\["),
    ("grants", ("HOLD_FORGOTTEN",), LOST),
]


def explore(
    folder: Path, model: str, defines: tuple[str, ...], compiler: str = "-DSAFETY", run: tuple[str, ...] = ()
) -> str:
    """What the checker says of `model`. Skips where there is no spin."""
    spin, cc = shutil.which("spin"), shutil.which("cc")
    if spin is None or cc is None:
        pytest.skip("spin or cc is not installed (apt-get install --no-install-recommends spin gcc)")
    flags = [f"-D{each}" for each in defines]
    build = [cc, "-O2", "-w", compiler, "-DCOLLAPSE", "-DVECTORSZ=2048", f"-DMEMLIM={MEMORY_MIB}"]
    for command in ([spin, *flags, "-a", str(MODELS / f"{model}.pml")], [*build, "-o", "pan", "pan.c"]):
        made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stdout + made.stderr
    command = [str(folder / "pan"), f"-m{DEPTH}", *run]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=SECONDS)
    return done.stdout


def assert_complete(said: str) -> None:
    """No error, and nothing was left out for want of memory or depth."""
    assert re.search(r"errors: 0$", said, re.MULTILINE), said
    for cut in ("Search not completed", "max search depth too small", "bound", "out of memory", "truncated"):
        assert cut not in said, said


def unreached(said: str) -> list[str]:
    """Steps that were never taken, but for the ends of loops that have none."""
    steps = re.findall(r"^\t(.+, state \d+, .+)$", said, re.MULTILINE)
    return [step for step in steps if '"-end-"' not in step]


@pytest.mark.parametrize(
    ("model", "defines"), SOUND, ids=lambda each: each if isinstance(each, str) else "-".join(each)
)
def test_sound(tmp_path: Path, model: str, defines: tuple[str, ...]) -> None:
    said = explore(tmp_path, model, defines)
    assert_complete(said)
    if defines in ((), BOTH_DIE):  # others leave out a part on purpose
        assert unreached(said) == []


def test_every_request_is_answered_under_weak_fairness(tmp_path: Path) -> None:
    said = explore(tmp_path, "channel", (*ONE_DEATH, "LIVENESS"), "-DNFAIR=3", ("-a", "-f"))
    assert_complete(said)


@pytest.mark.parametrize(
    ("model", "defines", "found"), MUTATIONS, ids=lambda each: each if isinstance(each, str) else each[-1]
)
def test_mistake_is_found(tmp_path: Path, model: str, defines: tuple[str, ...], found: str) -> None:
    said = explore(tmp_path, model, defines)
    assert re.search(r"errors: [1-9]", said), said
    assert re.search(found, said), said
