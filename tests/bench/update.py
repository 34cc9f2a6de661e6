"""Live updates of the file server under load: how long its client waits for an answer, and what fails.

Every second new version has a state of another layout, and converts what it is given: two builds take turns,
whose schema numbers only grow. Of every twenty new versions one dies before it is ready, on purpose.
"""

from __future__ import annotations

import tempfile
import threading
import tomllib
from pathlib import Path

from images.guests import OUTPUT, build
from tests.bench import systems
from tests.bench.budget import Budget
from tests.bench.data import READER, WHOLE, Data
from tests.bench.figures import Figure, NotMeasured, Target, figure
from tests.bench.plan import Plan
from tests.bench.recovery import ENDLESS
from tests.bench.systems import Progress
from vmm.cli import update
from vmm.cli.command import CommandError, Parser

TARGETS = {"update_blackout_ms": Target("<=", 3, 15), "update_failed_requests": Target("<=", 0)}
UNITS = {"update_blackout_ms": "ms", "update_failed_requests": "requests"}
SERVER = "file_server"
BAD = OUTPUT / "null_read.elf"
# Builds for the odd schemas and for the even ones; the first is the layout of the one that is shipped.
LAYOUTS = {1: "layout_a", 0: "layout_b"}
SCHEMA = "schema = 1\n"
BAD_EVERY = 20
PAUSE_S = 0.01


class _Updater:
    """Updates the file server again and again from a thread, `times` times."""

    def __init__(self, times: int, images: dict[int, Path], manifest: Path, folder: Path) -> None:
        self.done = self.refused = self.unexpected = self.conversions = 0
        self._times, self._images = times, images
        self._manifest, self._folder = manifest.read_text(), folder
        self._schema = 1
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more."""
        self._end.set()
        self._thread.join()

    def wait(self) -> None:
        """Until all are done."""
        self._thread.join()

    def _work(self) -> None:
        parser = Parser()
        update.add_arguments(parser)
        for number in range(1, self._times + 1):
            is_bad, converts = number % BAD_EVERY == 0, number % 2 == 1
            words = [SERVER, *(["--image", str(BAD)] if is_bad else self._converting() if converts else [])]
            try:
                update.run(parser.parse_args(words))
                self.done += 1
                self._schema += converts
                self.conversions += converts
                self.unexpected += is_bad
            except CommandError:
                self.refused += 1
                self.unexpected += not is_bad
            if self._end.wait(PAUSE_S):
                return

    def _converting(self) -> list[str]:
        """The arguments for a version with the next schema."""
        schema = self._schema + 1
        manifest = self._folder / "manifest.toml"
        manifest.write_text(self._manifest.replace(SCHEMA, f"schema = {schema}\n"))
        return ["--image", str(self._images[schema % 2]), "--manifest", str(manifest)]


def build_layouts() -> dict[int, Path]:
    """The image for odd schemas (1) and the one for even ones (0)."""
    folders = {rest: OUTPUT.with_name(f"guests-{cfg.replace('_', '-')}") for rest, cfg in LAYOUTS.items()}
    return {
        rest: build([SERVER], output=folders[rest], report=lambda _: None, cfgs=[cfg])[0]
        for rest, cfg in LAYOUTS.items()
    }


def measure(
    plan: Plan, data: Data, budget: Budget, progress: Progress, system_file: Path
) -> dict[str, Figure]:
    """Both figures, of one run of a program that reads without end."""
    progress(f"{plan.updates} updates of the file server")
    words = [*READER, f"--times={ENDLESS}", f"/{WHOLE}"]
    what = systems.request(words, data.erofs, system_file)
    updaters: list[_Updater] = []
    images = build_layouts()
    components = tomllib.loads(system_file.read_text())["components"]
    manifest = system_file.parent / components[SERVER]["manifest"]
    with tempfile.TemporaryDirectory() as folder:

        def begin() -> None:
            updaters.append(_Updater(plan.updates, images, manifest, Path(folder)))
            updaters[0].wait()

        outcome = systems.run(what, plan.run_s + plan.updates, meanwhile=begin)
    report, updater = outcome.report, updaters[0]
    samples = report["programs_waited_ms"]
    if not samples:
        raise NotMeasured("no update was seen", broken=plan.name != "tiny")
    beside = {
        "updates": updater.done, "conversions": updater.conversions,
        "rolled_back": updater.refused, "unexpected": updater.unexpected,
        "mb_per_s": round(report["bytes"] / 1e6 / report["seconds"], 1),
    }  # fmt: skip
    failed = figure(
        [float(report["failed_requests"])],
        UNITS["update_failed_requests"],
        TARGETS["update_failed_requests"],
        **beside,
    )
    blackout = figure(samples, UNITS["update_blackout_ms"], TARGETS["update_blackout_ms"], **beside)
    return {"update_blackout_ms": blackout, "update_failed_requests": failed}
