"""Kills at random moments over all components: `python -m tests.crash.kills --kills 10000 --seed S`.

One system has them all: a program (`witness`) has amounts counted through two hops, reads a file, writes
lines and sets values in the data store, which a component that subscribes to them says once more, while
another plays sound; who dies, when and how is drawn by lot (tests/system/lottery.py). At the end it is
compared what was counted, read, written, heard and recorded: nothing may be lost, doubled, wrong, or never
end, and nobody may have died of anything else.

As many systems are run, one after another, as it takes; each has a seed of its own, from S on, and does the
same work. What each of them has seen, and the sum, is written to build/kills.json after each. With --resume
those that are in it already count; with --seconds it stops after so long.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from images.image import build as build_image
from tests.system.plan import ROOT, Lot, Plan
from tests.system.stage import ASKED, COMPONENTS, Scene, Stage, build_images
from tests.system.test_audio import AUDIO_POINTS, tone
from tests.system.test_exactly_once import COUNTER_POINTS, RELAY_POINTS
from tests.system.test_kill_points import POINTS
from tests.system.test_store import POINTS as BOTH_POINTS
from vmm.cli.command import CommandError

RESULTS = ROOT / "build/kills.json"
AMOUNTS = 12_000  # counted in each system; some 500 kills
WORDS = 3 << 20  # of eight bytes: more than the file server's cache holds
HUNG_S = 30.0  # without a single answer to the program
WAV_HEADER = 44
COMPARED_FRAMES = 200_000
# An instance of each lives for so many requests, on average, if nothing else happens to it.
REQUESTS = {
    "reincarnation_server": 25, "console": 12, "disk_driver": 60, "file_server": 100,
    "relay": 120, "counter": 150, "audio_driver": 120, "endless_player": 90, "data_store": 90,
    "subscriber": 60,
}  # fmt: skip
STORE_POINTS = tuple(dict.fromkeys(store for store, _ in BOTH_POINTS))
SUBSCRIBER_POINTS = tuple(dict.fromkeys(subscriber for _, subscriber in BOTH_POINTS))
PLAYER_POINTS = tuple(point for point in RELAY_POINTS if point.startswith("client."))
SERVER_POINTS = tuple(point for point in RELAY_POINTS if point.startswith("server."))
SYSTEM = """
[components.disk_driver]
manifest = "{manifests}/disk_driver.toml"

[components.file_server]
manifest = "{manifests}/file_server.toml"

[components.counter]
manifest = "{manifests}/counter.toml"

[components.relay]
manifest = "{manifests}/relay.toml"

[components.audio_driver]
manifest = "{manifests}/audio_driver.toml"

[components.endless_player]
manifest = "{manifests}/endless_player.toml"

[components.data_store]
manifest = "{manifests}/data_store.toml"

[components.subscriber]
manifest = "{manifests}/subscriber.toml"

[devices.disk0]
component = "disk_driver.disk"
read_only = true

[devices.sound0]
component = "audio_driver.sound"
read_only = false

[routes]
"file_server.blk" = "disk_driver.blk"
"relay.next" = "counter.count"
"endless_player.audio" = "audio_driver.audio"
"subscriber.store" = "data_store.store"
"program.store" = "data_store.store"
"program.count" = "relay.count"
"program.audit" = "counter.count"
"program.fs" = "file_server.fs"
"program.log" = "console.log"
"""
Figures = dict[str, Any]
Say = Callable[[str], None]


def points() -> dict[str, list[str]]:
    """Where in its code each component may die."""
    found = {who: [name for name, owner in POINTS if owner == who] for who in COMPONENTS}
    found |= {"relay": list(RELAY_POINTS), "counter": list(COUNTER_POINTS)}
    return found | {
        "audio_driver": [*AUDIO_POINTS, *SERVER_POINTS],
        "endless_player": list(PLAYER_POINTS),
        "data_store": list(STORE_POINTS),
        "subscriber": list(SUBSCRIBER_POINTS),
    }


def prepare(folder: Path) -> Path:
    """Build the guests, and an image with the file that the program reads; where that is."""
    build_images()
    (folder / "source").mkdir()
    (folder / "source/words").write_bytes(array("Q", range(WORDS)).tobytes())
    build_image(folder / "source", folder / "words.img")
    return folder / "words.img"


def run(folder: Path, image: Path, seed: int, amounts: int) -> Figures:
    """One system, until its program ends: what was killed, and what came of it. `folder` is new."""
    folder.mkdir()
    stage = Stage(folder, image)
    dice = random.Random(seed)
    for name in list(REQUESTS)[1:]:  # some restarts are foreseen, some asked about
        restart = dice.choice(('policy = "always"', ASKED))
        if name == "endless_player":
            stage.change("player", name=name, restart=restart)
        else:
            stage.change(name, restart=restart)
    sound = folder / "sound.wav"
    begin = time.monotonic()
    plan = Plan(lot=Lot(seed, REQUESTS, points()))
    with stage.play(SYSTEM, "witness", str(amounts), plan=plan, sound=sound) as scene:
        hangs = hung(scene)
        if not hangs:
            scene.end()
    figures: Figures = {"seed": seed, "seconds": round(time.monotonic() - begin, 1), "hung": int(bool(hangs))}
    if hangs:
        return figures | {"kills": {}, "trouble": [hangs]}
    report = scene.report
    lines = stage.lines
    said: Figures = json.loads(lines.pop()) if lines else {"problem": "nothing said"}
    deaths = {name: count for name, count in report["deaths"].items() if name != "witness"}
    wrong = {
        "problem": said.pop("problem"),
        "status": scene.status,
        "misnumbered": said.get("misnumbered"),
        "wrong reads": said.get("wrong_reads"),
        "lines": [said.get("lines"), len(lines)] if lines != [str(n) for n in range(len(lines))] else "",
        "sound": wrong_sound(sound),
        "failed requests": report["failed_requests"],
        "deaths not meant": report["unmeant"],
        "deaths not recovered": sum(deaths.values()) - report["recoveries"],
    }
    sound.unlink()
    return figures | {
        "kills": report["by_lot"],
        "deaths": sum(deaths.values()),
        "recoveries": report["recoveries"],
        "overlapping": report["overlapping"],
        "before_ready": report["before_ready"],
        "replayed": report["replayed"],
        "answered": said.get("answered", 0),
        "reads": said.get("reads", 0),
        "heard": said.get("heard", 0),
        "lost": said.get("lost", 0) + max(0, said.get("lines", 0) - len(lines)),
        "doubled": said.get("doubled", 0) + max(0, len(lines) - said.get("lines", 0)),
        "trouble": [f"{what}: {value}" for what, value in wrong.items() if value],
    }


def hung(scene: Scene) -> str:
    """Wait for the program's end; if it gets no answer any more, what everybody was doing."""
    answered, since = -1, time.monotonic()
    while not scene.ended(0.5):
        with contextlib.suppress(CommandError, StopIteration):  # it has just ended
            if (now := scene.row("witness")["calls"]) != answered:
                answered, since = now, time.monotonic()
            elif time.monotonic() - since > HUNG_S:
                return scene.state()
    return ""


def wrong_sound(path: Path) -> str:
    """Where the recording of so many frames as are there differs from the tone; empty if nowhere."""
    data = path.read_bytes()[WAV_HEADER : WAV_HEADER + 2 * COMPARED_FRAMES]
    wanted = tone(len(data) // 2, seed=7, channels=1, volumes=(32768,))
    if not data:
        return "nothing"
    differences = (at for at in range(len(data)) if data[at : at + 1] != wanted[at : at + 1])
    return f"differs from byte {next(differences)} on" if data != wanted else ""


def total(figures: Figures) -> int:
    """How many kills there were in a run."""
    return sum(sum(ways.values()) for ways in figures["kills"].values())


def summary(runs: list[Figures]) -> Figures:
    """The sum of all runs."""
    added = ("deaths", "recoveries", "overlapping", "before_ready", "replayed", "answered", "reads", "heard")
    names = sorted({name for each in runs for name in each["kills"]})
    ways = sorted({way for each in runs for one in each["kills"].values() for way in one})
    return {
        "seeds": [each["seed"] for each in runs],
        "kills": sum(map(total, runs)),
        "by_component": {name: sum(sum(r["kills"].get(name, {}).values()) for r in runs) for name in names},
        "by_way": {
            way: sum(one.get(way, 0) for each in runs for one in each["kills"].values()) for way in ways
        },
        **{name: sum(each.get(name, 0) for each in runs) for name in added},
        "lost": sum(each.get("lost", 0) for each in runs),
        "doubled": sum(each.get("doubled", 0) for each in runs),
        "hung": sum(each["hung"] for each in runs),
        "trouble": {str(each["seed"]): each["trouble"] for each in runs if each["trouble"]},
        "seconds": round(sum(each["seconds"] for each in runs), 1),
    }


def campaign(
    kills: int,
    seed: int,
    folder: Path,
    say: Say,
    *,
    amounts: int = AMOUNTS,
    results: Path | None = None,
    resume: bool = False,
    seconds: float = float("inf"),
) -> Figures:
    """Run systems until there were so many kills, or for so long; the summary. Needs $R3S3_RUNTIME_DIR."""
    image = prepare(folder)
    runs: list[Figures] = json.loads(results.read_text())["runs"] if results and resume else []
    begin = time.monotonic()
    while sum(map(total, runs)) < kills and time.monotonic() - begin < seconds:
        number = max((each["seed"] for each in runs), default=seed - 1) + 1
        runs.append(run(folder / str(number), image, number, amounts))
        last = runs[-1]
        trouble = "".join(f"\n    {each}" for each in last["trouble"])
        done = f"{sum(map(total, runs)):,} of {kills:,} kills"
        say(f"seed {number}: {total(last)} kills in {last['seconds']} s; {done}{trouble}")
        if results:
            results.write_text(json.dumps({"sum": summary(runs), "runs": runs}, indent=1), encoding="ascii")
    return summary(runs)


def described(figures: Figures) -> str:
    """A summary in lines."""
    parts = [", ".join(f"{k.replace('_', ' ')} {v:,}" for k, v in figures[key].items()) for key in
             ("by_component", "by_way")]  # fmt: skip
    first, last = min(figures["seeds"], default=0), max(figures["seeds"], default=0)
    return "\n".join(
        [
            f"seeds       {first} to {last}, {figures['seconds']} s",
            f"kills       {figures['kills']:,}: {parts[0]}",
            f"            {parts[1]}",
            f"            {figures['overlapping']:,} while another component was away, "
            f"{figures['before_ready']:,} before the successor was ready",
            f"recoveries  {figures['recoveries']:,} of {figures['deaths']:,} deaths",
            f"requests    {figures['answered']:,} amounts, {figures['reads']:,} reads, "
            f"{figures['heard']:,} values heard; {figures['replayed']:,} repeated",
            f"lost {figures['lost']}, doubled {figures['doubled']}, hung {figures['hung']}, "
            f"other trouble with {len(figures['trouble'])} seeds",
        ]
    )


def is_flawless(figures: Figures) -> bool:
    """Nothing lost, doubled, hung or wrong."""
    return not (figures["lost"] or figures["doubled"] or figures["hung"] or figures["trouble"])


def main() -> int:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--kills", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--amounts", type=int, default=AMOUNTS, help="the work that each system does")
    parser.add_argument("--resume", action="store_true", help="go on after the last seed in the file")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no system after that")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["R3S3_RUNTIME_DIR"] = name
        figures = campaign(
            options.kills, options.seed, Path(name), lambda line: print(line, flush=True),
            amounts=options.amounts, results=RESULTS, resume=options.resume, seconds=options.seconds,
        )  # fmt: skip
    print(described(figures))
    return 0 if is_flawless(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
