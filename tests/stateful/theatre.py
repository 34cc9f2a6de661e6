"""What is done to a running system beside calls: deaths, updates, and useless new versions."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.stateful.conductor import Answer, Conductor, Request
from tests.stateful.models import Intent, Model
from tests.system.stage import IMAGES, Scene
from vmm.cli import history, update
from vmm.cli.command import CommandError, Parser
from vmm.cli.control import RefusedError

SYSTEM = """
[components.counter]
manifest = "{manifests}/counter.toml"

[components.relay]
manifest = "{manifests}/relay.toml"

[components.audio_driver]
manifest = "{manifests}/audio_driver.toml"

[components.data_store]
manifest = "{manifests}/data_store.toml"

[devices.sound0]
component = "audio_driver.sound"
read_only = false

[routes]
"relay.next" = "counter.count"
"program.log" = "console.log"
"""


@dataclass
class Theatre:
    """The system, and what has been done to it: word -> how often."""

    scene: Scene
    conductor: Conductor
    models: dict[str, Model]
    done: Counter[str] = field(default_factory=Counter)

    def play(self, model: Model, steps: list[Intent]) -> None:
        """Takes the steps: calls without waiting for answers, and what happens meanwhile. Then compares."""
        model.begin(self.conductor)
        expected: dict[int, tuple[int, Request, Answer]] = {}
        answers: dict[int, Answer] = {}
        for number, (word, *values) in enumerate(steps):
            if word == "call":
                if model.is_alone(values[0]):
                    answers |= self.conductor.settle()
                for request, answer in model.requests(values[0]):
                    expected[self.conductor.submit(request)] = number, request, answer
            else:
                self.done[word if getattr(self, word)(*values) else f"{word} refused"] += 1
        answers |= self.conductor.settle()
        for each, (number, request, answer) in expected.items():
            got = answers[each]
            assert got == answer, f"step {number}, {request}: {got} instead of {answer}"
        model.check(self.conductor)

    # -- steps ----------------------------------------------------------------------------------------

    # Each is true if it has happened, and not if the component was dead just then, or died meanwhile.

    def kill(self, component: str) -> bool:
        """By the hypervisor, wherever it is."""
        with contextlib.suppress(RefusedError):
            self.scene.ask("kill", component=component)
            return True
        return False

    def update(self, component: str) -> bool:
        """To a new version that is good."""
        return self._renew(component, component)

    def update_and_kill(self, component: str, victim: str) -> bool:
        """The victim dies while the component is updated."""
        updating = threading.Thread(target=self.update, args=(component,))
        updating.start()
        killed = self.kill(victim)
        updating.join()
        return killed

    def roll_back(self, component: str) -> bool:
        """To a version that does not come up: nothing changes."""
        assert not self._renew(component, "null_read"), f"{component} was replaced by something useless"
        return True

    def fall_back(self, component: str) -> bool:
        """To a version that dies soon; then the one before comes back."""
        before = self._lives(component)[-1]["digest"]
        if not self._renew(component, "hasty"):
            return False
        self.scene.until(lambda: self._is_back(component, before), f"{component} is not what it was")
        return True

    @staticmethod
    def _renew(component: str, image: str) -> bool:
        """`r3s3 update`; false where it says why not."""
        parser = Parser()
        update.add_arguments(parser)
        words = [component, "--image", str(IMAGES / f"{image}.elf")]
        try:
            return update.run(parser.parse_args(words)) == 0
        except CommandError:
            return False

    def _lives(self, component: str) -> list[dict[str, Any]]:
        return [row for row in history.with_times(self.scene.ask("history")) if row["component"] == component]

    def _is_back(self, component: str, digest: str) -> bool:
        last = self._lives(component)[-1]
        return bool(last["digest"] == digest and last["ready_ns"] > 0)
