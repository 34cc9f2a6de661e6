"""From a system file, manifests and images to what the hypervisor process is given: a policy and templates.

Whoever starts a system reads its files, with his own rights. They may be wrong or hostile: nothing that holds
a system together parses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypervisor.policy import Policy
from vmm.cli.command import CommandError


def compile_policy(file: str, program: str | None, programs: int, kill: Sequence[str]) -> Policy:
    """The policy of the system in `file`, of which `kill` may be killed. CommandError says what is wrong."""
    from vmm import needs, system  # while the hypervisor process starts
    from vmm.document import ConfigurationError

    try:
        needs.check(file)
        policy = system.compile(Path(file), program, programs)
    except ConfigurationError as error:
        from vmm.diagnosis import explain

        raise CommandError(explain(vars(error)), error.status) from None
    known = [component.name for component in policy.components]
    for victim in kill:
        if victim not in known:
            raise CommandError(f"--kill {victim}: no such component; this system has {', '.join(known)}")
    return policy


def load_images(policy: Policy) -> tuple[dict[str, Any], list[int]]:
    """The fields of the launch line about images, and the descriptors of their memory, in the same order."""
    from vmm import loader

    found: dict[tuple[str, int], int] = {}
    templates, fds, images = list[dict[str, Any]](), list[int](), dict[str, int]()
    for component in policy.components:
        key = component.image, component.memory
        if key not in found:
            try:
                template = loader.load(*key)
            except loader.LoadError as error:
                raise CommandError(str(error), 126 if component.is_program else 125) from error
            found[key] = len(templates)
            fds.append(template.fd)
            segments = [segment._asdict() for segment in template.segments]
            templates.append(
                {
                    "segments": segments,
                    "entry": template.entry,
                    "heap_base": template.heap_base,
                    "heap_size": template.heap_size,
                }
            )
        images[component.name] = found[key]
    return {"templates": templates, "images": images}, fds


def as_json(value: object) -> object:
    """For json.dumps: what a policy has that JSON has not."""
    return value.hex() if isinstance(value, bytes) else sorted(value)  # type: ignore[call-overload]
