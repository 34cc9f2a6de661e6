"""One system for all tests of this folder: every stateful component, and the conductor as their client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from images.guests import build
from tests.stateful.conductor import NAME, Conductor, prepare
from tests.stateful.models import AudioModel, CountModel, Model, StoreModel
from tests.stateful.theatre import SYSTEM, Theatre
from tests.system.stage import IMAGES, Stage, build_images

BUILT = (NAME, "data_store", "null_read", "hasty")


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    """The system, running; it has to end well."""
    build_images()
    build(BUILT, output=IMAGES, report=lambda _: None, cfgs=["kill_points"])
    folder = tmp_path_factory.mktemp("stateful")
    stage, sound = Stage(folder, folder / "no disk"), folder / "sound.wav"
    for name in ("counter", "relay", "audio_driver", "data_store"):
        stage.change(name)
    models: tuple[Model, ...] = (CountModel(), AudioModel(sound), StoreModel())
    routes = prepare(stage, [use for model in models for use in model.uses])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("R3S3_RUNTIME_DIR", str(folder))
        with stage.play(SYSTEM.replace("[routes]\n", f"[routes]\n{routes}"), NAME, sound=sound) as scene:
            conductor = Conductor(scene)
            yield Theatre(scene, conductor, {type(model).__name__: model for model in models})
            assert conductor.end() == 0
