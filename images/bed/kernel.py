"""The bed's kernel: Debian's, taken out of its package and never installed.

Kept in build/bed ($R3S3_BED_DIR), a folder per version: `kernel`, `modules/NAME.ko`, `kernel.json`.
The newest one there is used; `build` fetches the newest that apt knows. R3S3_BED_KERNEL=/path/to/package.deb
names another package.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from images.bed import BedError
from images.bed.modules import Modules
from images.bed.vmlinux import unwrap
from vmm.cli.command import say, unit

REPOSITORY = Path(__file__).resolve().parents[2]
META_PACKAGE = "linux-image-amd64"
APT_SECONDS = 600

# What is loaded: for every bed, and for one with an IOMMU.
MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay", "kvm_amd")
# For tests that compare with the kernel's own reading of an image; erofs needs an implementation of crc32c.
OPTIONAL = ("crc32c_generic", "erofs", "loop")
IOMMU_MODULES = ("vfio", "vfio_iommu_type1", "vfio_pci_core", "vfio_pci")
IOMMU_OPTIONAL = ("vfio_virqfd",)  # part of vfio since Linux 6.2
_FORMAT = 2  # of kernel.json and what is kept with it


class Kernel(NamedTuple):
    """A kernel that is ready to boot."""

    folder: Path
    package: str
    version: str  # of the package, for example 6.1.192-2
    modules: list[str]  # in the order to load them
    iommu_modules: list[str]  # the same, for a bed with an IOMMU

    @property
    def image(self) -> Path:
        """The kernel itself."""
        return self.folder / "kernel"

    def module(self, name: str) -> bytes:
        """The content of a module of one of the lists."""
        return (self.folder / "modules" / f"{name}.ko").read_bytes()


def cache() -> Path:
    """Where kernels are kept."""
    return Path(os.environ.get("R3S3_BED_DIR") or REPOSITORY / "build/bed").absolute()


def find() -> Kernel:
    """The kernel to boot: the one named in R3S3_BED_KERNEL, else the newest kept, else one to be fetched."""
    named = os.environ.get("R3S3_BED_KERNEL")
    if named:
        return from_package(Path(named))
    kept = kernels()
    return kept[-1] if kept else build()


def kernels() -> list[Kernel]:
    """Those kept, the last fetched last."""
    files = sorted(cache().glob("*/kernel.json"), key=lambda file: file.stat().st_mtime_ns)
    return [kernel for file in files if (kernel := _load(file.parent))]


def build() -> Kernel:
    """The newest kernel that apt knows, downloaded unless it is there already."""
    with _locked():
        name, version, size = newest()
        folder = cache() / f"{name}_{version}"
        if kernel := _load(folder):
            return kernel
        say(f"downloading the test bed's kernel, package {name} {version} ({unit(size)}), into {cache()}")
        with tempfile.TemporaryDirectory(dir=cache(), prefix=".download-") as temporary:
            _tool(["apt-get", "download", f"{name}={version}"], Path(temporary), "is there a network?")
            packages = list(Path(temporary).glob("*.deb"))
            if len(packages) != 1:
                raise BedError(f"apt-get download {name} left no package in {temporary}")
            return _unpack(packages[0], folder, name, version)


def from_package(package: Path) -> Kernel:
    """The kernel of a package file."""
    if not package.is_file():
        raise BedError(f"R3S3_BED_KERNEL={package}: no such file; name the package file of a kernel")
    with _locked():
        fields = _tool(["dpkg-deb", "--showformat=${Package}\n${Version}", "--show", str(package)])
        name, _, version = fields.partition("\n")
        state = package.stat()
        folder = cache() / f"named/{name}_{version}_{state.st_size}_{state.st_mtime_ns}"
        return _load(folder) or _unpack(package, folder, name, version)


def newest() -> tuple[str, str, int]:
    """Package name, version and size in bytes of the newest kernel that apt knows."""
    meta = _fields(META_PACKAGE)
    name, _, condition = meta.get("Depends", "").split(",")[0].partition(" ")
    version = condition.strip("(= )")
    package = _fields(f"{name}={version}" if version else name)
    return name, package["Version"], int(package["Size"])


def _fields(package: str) -> dict[str, str]:
    """What apt knows of the newest version of a package."""
    remedy = "as root, run apt-get update, or name a kernel's package in R3S3_BED_KERNEL"
    try:
        text = _tool(["apt-cache", "--quiet=0", "show", "--no-all-versions", package])
    except BedError as error:
        raise BedError(f"{error}; {remedy}") from None
    lines = [line.partition(": ") for line in text.split("\n\n")[0].splitlines() if line[:1] != " "]
    fields = {key: value for key, _, value in lines}
    if not {"Version", "Size"} <= fields.keys():
        raise BedError(f"apt knows no package {package}; {remedy}")
    return fields


def _tool(words: Sequence[str], folder: Path | None = None, remedy: str = "") -> str:
    """The output of a tool of Debian's package management."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=APT_SECONDS, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise BedError(
            f"no {words[0]}, which takes the test bed's kernel from a Debian mirror; "
            "use a Debian host, or copy build/bed from one"
        ) from None
    except subprocess.TimeoutExpired:
        raise BedError(f"{' '.join(words)} took longer than {APT_SECONDS} s; {remedy}") from None
    if done.returncode:
        complaint = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise BedError(f"{' '.join(words)}: {complaint}" + (f"; {remedy}" if remedy else ""))
    return done.stdout


def _unpack(package: Path, folder: Path, name: str, version: str) -> Kernel:
    """Take what a bed needs out of `package` and put it into `folder`, which is whole or not there at all."""
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache(), prefix=".unpack-") as temporary:
        tree, result = Path(temporary, "tree"), Path(temporary, "result")
        _tool(["dpkg-deb", "--extract", str(package), str(tree)])
        images = [*tree.glob("boot/vmlinuz-*"), *tree.glob("usr/lib/modules/*/vmlinuz")]
        folders = [*tree.glob("lib/modules/*/"), *tree.glob("usr/lib/modules/*/")]
        if not images or not folders:
            raise BedError(f"{package}: no kernel with its modules in this package")
        available = Modules(folders[0])
        modules = available.order(MODULES, OPTIONAL)
        iommu_modules = available.order([*MODULES, *IOMMU_MODULES], [*OPTIONAL, *IOMMU_OPTIONAL])
        (result / "modules").mkdir(parents=True)
        (result / "kernel").write_bytes(unwrap(images[0].read_bytes()))
        for each in {*modules, *iommu_modules}:
            (result / f"modules/{each}.ko").write_bytes(available.read(each))
        state = {
            "format": _FORMAT,
            "wanted": _wanted(),
            "package": name,
            "version": version,
            "modules": modules,
            "iommu_modules": iommu_modules,
        }
        (result / "kernel.json").write_text(json.dumps(state, indent=1) + "\n")
        if folder.exists():  # of another list of modules
            shutil.rmtree(folder)
        result.rename(folder)
    return Kernel(folder, name, version, modules, iommu_modules)


def _wanted() -> list[str]:
    return [*MODULES, *OPTIONAL, *IOMMU_MODULES, *IOMMU_OPTIONAL]


def _load(folder: Path) -> Kernel | None:
    """The kernel kept in `folder`, if one is, and with the modules now wanted."""
    try:
        state = json.loads((folder / "kernel.json").read_text())
    except FileNotFoundError:
        return None
    if (state["format"], state["wanted"]) != (_FORMAT, _wanted()):
        return None
    return Kernel(folder, *(state[key] for key in ("package", "version", "modules", "iommu_modules")))


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """One process at a time changes what is kept."""
    try:
        cache().mkdir(parents=True, exist_ok=True)
        lock = os.open(cache() / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise BedError(
            f"{cache()}: the test bed's kernel cannot be kept there ({error.strerror}); set R3S3_BED_DIR"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
