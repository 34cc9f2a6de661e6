"""From a system file, manifests and images to what the hypervisor process is given: a policy and templates.

Whoever starts a system reads its files, with his own rights. They may be wrong or hostile: nothing that holds
a system together parses them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from hypervisor.policy import Component, Device, Policy
from vmm.cli.command import CommandError, say


def compile_policy(file: str, program: str | None, programs: int, kill: Sequence[str]) -> Policy:
    """The policy of the system in `file`, of which `kill` may be killed. CommandError says what is wrong."""
    from vmm import needs, rules, system  # while the hypervisor process starts
    from vmm.document import ConfigurationError

    try:
        needs.check(file)
        policy = system.compile(Path(file), program, programs)
        rules.check(Path(file), [policy])
    except ConfigurationError as error:
        from vmm.diagnosis import explain

        raise CommandError(explain(vars(error)), error.status) from None
    known = [component.name for component in policy.components]
    for victim in kill:
        if victim not in known:
            raise CommandError(f"--kill {victim}: no such component; this system has {', '.join(known)}")
    return policy


def check_sound(policy: Policy, sound: str | None) -> None:
    """CommandError unless `sound`, the file, is given just where there is a sound device that fills it."""
    plays = any(device.kind == "virtio-snd" for device in policy.devices)
    if plays and sound is None:
        raise CommandError("no file for the sound that this system plays; give one with --sound FILE.wav")
    if sound is not None and not plays:
        raise CommandError(f"--sound {sound}: this system has no sound device; leave it out")


class Files(NamedTuple):
    """What the devices of a system are given, which a jailed process cannot open: new descriptors of the disk
    (or the real device) and of the sound, the null device for what there is not; of a real device also of
    its group, of the IOMMU's container, and of the kernel's messages if they may be read. `pci`: its
    `address`, and `registers`, the offset of each BAR."""

    fds: list[int]
    pci: dict[str, Any] | None


def open_files(policy: Policy, disk: str | None, sound: str | None) -> Files:
    """Open them. CommandError unless `disk` is what the system drives and can be opened."""
    drives = [device for device in policy.devices if device.kind != "virtio-snd"]
    pci = disk.removeprefix("pci:") if disk is not None and disk.startswith("pci:") else None
    for device in drives:
        if (device.kind == "pci") != (pci is not None):
            wanted = "a PCI device: --disk pci:ADDRESS" if device.kind == "pci" else "a virtual disk"
            raise CommandError(f"disk {disk or 'none'}: {device.component} drives {wanted}")
    if drives and disk is None:
        remedy = "build it with r3s3 image build, give it with --disk"
        raise CommandError(f"no disk: this system drives one; {remedy}")
    files = Files([], None)
    try:
        if pci and drives:
            files = _open_pci(pci, drives[0])
        else:
            nothing = not drives or disk is None or disk.startswith("vhost-user:")
            mode = os.O_RDONLY if all(each.read_only for each in drives) else os.O_RDWR
            files.fds.append(os.open(os.devnull if nothing or disk is None else disk, mode))
    except (OSError, ValueError) as error:
        what = error if pci else f"{getattr(error, 'strerror', error)}; build one with r3s3 image build"
        raise CommandError(f"disk {disk}: {what}") from error
    try:
        files.fds.insert(1, os.open(sound or os.devnull, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666))
    except OSError as error:
        for fd in files.fds:
            os.close(fd)
        raise CommandError(f"{error.strerror}: {sound}") from error
    return files


def _open_pci(address: str, driven: Device) -> Files:
    from vmm.devices.pci_open import PciDevice

    device = PciDevice(address, driven.identity, driven.bars)
    fds = [device.fd, device.group, device.container]
    if device.messages >= 0:
        fds.append(device.messages)
    else:
        say(f"{device.why_deaf}: a DMA access that the IOMMU refuses is not blamed on its driver")
    return Files(fds, {"address": address, "registers": device.registers})


class Images(NamedTuple):
    """What the images of components have become: descriptors of their memory, what else is to be known of
    them in the same order, whose is which, and the components with the digests of theirs."""

    fds: list[int]
    templates: list[dict[str, Any]]
    numbers: dict[str, int]
    components: tuple[Component, ...]


def load_images(components: Sequence[Component]) -> Images:
    """Read the images of `components`, each once. CommandError says what is wrong with one."""
    from vmm import loader

    found: dict[tuple[str, int], tuple[int, str]] = {}
    images, complete = Images([], [], {}, ()), list[Component]()
    for component in components:
        key = component.image, component.memory
        if key not in found:
            try:
                template = loader.load(*key)
            except loader.LoadError as error:
                raise CommandError(str(error), 126 if component.is_program else 125) from error
            found[key] = len(images.fds), template.digest
            images.fds.append(template.fd)
            segments = [segment._asdict() for segment in template.segments]
            heap = {"heap_base": template.heap_base, "heap_size": template.heap_size}
            images.templates.append({"segments": segments, "entry": template.entry, **heap})
        images.numbers[component.name], digest = found[key]
        complete.append(replace(component, digest=digest))
    return images._replace(components=tuple(complete))


def as_json(value: object) -> object:
    """For json.dumps: what a policy has that JSON has not."""
    return value.hex() if isinstance(value, bytes) else sorted(value)  # type: ignore[call-overload]
