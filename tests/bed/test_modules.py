"""Kernel modules are found, read and put in order."""

from __future__ import annotations

import lzma
import subprocess
from pathlib import Path

import pytest

from images.bed import BedError
from images.bed.modules import Modules, Needs, in_order, needs


def module(folder: Path, name: str, *fields: str) -> Path:
    """An ELF file with these fields in .modinfo."""
    text = "\\0".join(fields) + "\\0"
    source = f'__attribute__((section(".modinfo"), used)) static const char text[] = "{text}";\n'
    path = folder / f"kernel/{name}.ko"
    path.parent.mkdir(parents=True, exist_ok=True)
    words = ["cc", "-c", "-x", "c", "-o", str(path), "-"]
    subprocess.run(words, input=source, text=True, check=True)
    return path


def test_each_comes_after_what_it_needs() -> None:
    known = {
        "9p": Needs(["9pnet", "netfs"], []),
        "9pnet": Needs([], []),
        "netfs": Needs([], []),
        "kvm_amd": Needs(["kvm", "ccp"], []),
        "kvm": Needs(["irqbypass"], []),
        "ccp": Needs([], ["rng-core", "not-there"]),
        "rng_core": Needs([], []),
        "irqbypass": Needs([], []),
    }

    def lookup(name: str) -> Needs:
        if name not in known:
            raise BedError(f"no module {name}")
        return known[name]

    expected = ["irqbypass", "kvm", "rng_core", "ccp", "kvm_amd", "9pnet", "netfs", "9p"]
    assert in_order(["kvm-amd", "9p", "kvm"], lookup) == expected
    with pytest.raises(BedError, match="no module overlay"):
        in_order(["overlay"], lookup)


def test_what_a_module_says(tmp_path: Path) -> None:
    said = ["license=GPL", "depends=kvm,ccp", "softdep=post: late", "softdep=pre: early first post: x"]
    assert needs(module(tmp_path, "a", *said).read_bytes()) == Needs(["kvm", "ccp"], ["early", "first"])
    assert needs(module(tmp_path, "b", "depends=").read_bytes()) == Needs([], [])


def test_a_folder_of_modules(tmp_path: Path) -> None:
    plain = module(tmp_path, "used-by", "depends=the_packed,built-in")
    packed = module(tmp_path, "the-packed", "depends=")
    content = packed.read_bytes()
    packed.with_name("the-packed.ko.xz").write_bytes(lzma.compress(content))
    packed.unlink()
    (tmp_path / "modules.builtin").write_text("kernel/drivers/built_in.ko\n")
    modules = Modules(tmp_path)
    assert modules.order(["used_by"], optional=["absent"]) == ["the_packed", "used_by"]
    assert modules.read("the_packed") == content
    assert modules.read("used_by") == plain.read_bytes()
    with pytest.raises(BedError) as caught:
        modules.order(["9p"])
    remedy = "name another in R3S3_BED_KERNEL"
    assert str(caught.value) == f"{tmp_path}: this kernel has no module 9p; {remedy}"
