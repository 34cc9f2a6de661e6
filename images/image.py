"""Disk images: an EROFS file system followed by the checksums of all its blocks.

`build` makes one from a directory, `inspect` says before a start what is wrong with one.
Format: images/README.md. All integers are little-endian, a block has 4,096 bytes.

Exceptions: ImageError (the only one; its message says what is wrong, where, and what to do).
"""

from __future__ import annotations

import errno
import importlib
import itertools
import os
import shutil
import stat
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

BLOCK = 4096
CHUNK_BLOCKS = 1024  # one table block names 1,024 data blocks: checksums are made 4 MiB at a time
EROFS_MAGIC = 0xE0F5E1E2
EROFS_SUPERBLOCK = 1024  # its offset in bytes
SEAL_MAGIC = b"R3S3SUMS"
SEAL_VERSION = 1
# magic, version, bytes of a block, data blocks, table: block and blocks, roots: block and blocks,
# checksum of the roots. The last 4 bytes of the block are the checksum of those before.
SEAL = struct.Struct("<8sIIQQQQQI")
SEAL_CHECKSUM = BLOCK - 4
NAME_MAX = 255  # bytes of a file name
IMAGE_BYTES_MAX = 1 << 40  # what one file server can keep the roots of

Progress = Callable[[str, int, int], None]  # stage ("copying" or "checksums"), bytes done, bytes in all


class ImageError(Exception):
    """An image cannot be built or used."""


@dataclass(frozen=True)
class Image:
    """What a sound image holds; positions and sizes in blocks."""

    path: Path
    data_blocks: int  # EROFS, from block 0
    table_block: int  # checksums of the data blocks
    table_blocks: int
    roots_block: int  # checksums of the table blocks
    roots_blocks: int

    @property
    def size(self) -> int:
        """Bytes of the whole image, the seal included."""
        return (self.roots_block + self.roots_blocks + 1) * BLOCK


def build(
    directory: str | Path,
    output: str | Path,
    progress: Progress | None = None,
    extra_options: Sequence[str] = (),
) -> Image:
    """Make an image of `directory` in the file `output`, which appears whole or not at all.

    `extra_options` go to mkfs.erofs.
    """
    source, target = Path(directory), Path(output)
    _check_source(source)
    if target.is_dir():
        raise ImageError(f"{target}: is a directory: name a file for the image")
    if not target.parent.is_dir():
        raise ImageError(f"{target}: its directory {target.parent} does not exist: create it first")
    total, longest = _survey(source)
    if longest:
        _check_long_names(longest)
    try:
        with _new_file(target) as descriptor:
            report = progress or (lambda stage, done, total: None)
            command = [*_mkfs_command(extra_options), f"/dev/fd/{descriptor}", os.path.abspath(source)]
            detail = _run(command, descriptor, lambda done: report("copying", done, total))
            if detail:
                _check_readable(source)
                raise ImageError(f"{source}: mkfs.erofs could not make {target} of it: {detail}")
            append_checksums(descriptor, report)
    except OSError as error:
        raise ImageError(_explain(error, target)) from error
    return inspect(target)


def inspect(path: str | Path) -> Image:
    """The layout of a finished image. Reads three blocks; the contents are checked when they are used."""
    image = Path(path)
    rebuild = f"build it again with `r3s3 image build DIR -o {image}`"
    try:
        with open(image, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size == 0:
                raise ImageError(f"{image}: is empty: {rebuild}")
            file.seek(EROFS_SUPERBLOCK)
            superblock = file.read(128)
            file.seek(max(0, size // BLOCK - 1) * BLOCK)
            seal = file.read(BLOCK)
    except FileNotFoundError:
        message = f"{image}: no such image: make one with `r3s3 image build DIR -o {image}`"
        raise ImageError(message) from None
    except IsADirectoryError:
        message = f"{image}: is a directory: make an image of it with `r3s3 image build {image} -o disk.img`"
        raise ImageError(message) from None
    except PermissionError:
        message = f"{image}: no permission to read it: `chmod u+r {image}`, or run as its owner"
        raise ImageError(message) from None
    except OSError as error:
        raise ImageError(f"{image}: cannot be read: {os.strerror(error.errno or 0)}") from error
    if len(superblock) < 128 or struct.unpack_from("<I", superblock)[0] != EROFS_MAGIC:
        raise ImageError(f"{image}: not an EROFS image (no magic number at byte 1024): {rebuild}")
    blocks = struct.unpack_from("<I", superblock, 36)[0]
    if blocks * BLOCK > size:
        raise ImageError(
            f"{image}: truncated: its superblock names {blocks * BLOCK} bytes, the file has {size}: {rebuild}"
        )
    if len(seal) < BLOCK or not seal.startswith(SEAL_MAGIC):
        if size == blocks * BLOCK:
            raise ImageError(f"{image}: EROFS, but without the checksum table that R3S3 needs: {rebuild}")
        raise ImageError(f"{image}: truncated: no checksum table ends at byte {size}: {rebuild}")
    return _read_seal(image, seal, size, blocks, rebuild)


def _read_seal(image: Path, seal: bytes, size: int, blocks: int, rebuild: str) -> Image:
    _, version, block, data, table, table_blocks, roots, roots_blocks, _ = SEAL.unpack_from(seal)
    if crc32c(seal[:SEAL_CHECKSUM]) != struct.unpack_from("<I", seal, SEAL_CHECKSUM)[0]:
        raise ImageError(f"{image}: damaged: the last block does not match its checksum: {rebuild}")
    if (version, block) != (SEAL_VERSION, BLOCK):
        raise ImageError(
            f"{image}: checksum table of version {version} with {block}-byte blocks, "
            f"this R3S3 reads version {SEAL_VERSION} with {BLOCK}: {rebuild}"
        )
    found = Image(image, data, table, table_blocks, roots, roots_blocks)
    if found.size != size:
        raise ImageError(
            f"{image}: truncated: its last block names {found.size} bytes, the file has {size}: {rebuild}"
        )
    if data != blocks:
        raise ImageError(
            f"{image}: damaged: checksums of {data} blocks, but its superblock names {blocks}: {rebuild}"
        )
    return found


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """CRC32C of at least one byte; fast enough for a block, `crc32c_blocks` is for many."""
    return int.from_bytes(crc32c_blocks(data, len(data)), "little")


def crc32c_blocks(data: bytes | bytearray | memoryview, block_bytes: int = BLOCK) -> bytes:
    """The CRC32C of each block of `data`, 4 bytes little-endian each. Releases the GIL."""
    try:
        _crc = importlib.import_module("images._crc")
    except ImportError:
        raise ImageError("the checksum module is not built: run `python -m images.build_crc`") from None
    blocks = len(data) // block_bytes
    result = _crc.ffi.new("uint32_t[]", blocks)
    _crc.lib.crc32c_blocks(_crc.ffi.from_buffer("uint8_t[]", data), blocks, block_bytes, result)
    return bytes(_crc.ffi.buffer(result))


def _check_source(source: Path) -> None:
    try:
        if not stat.S_ISDIR(source.stat().st_mode):
            raise ImageError(f"{source}: not a directory: name the directory that becomes / of the image")
        os.scandir(source).close()
    except FileNotFoundError:
        raise ImageError(f"{source}: no such directory") from None
    except PermissionError:
        raise ImageError(f"{source}: no permission to read it: run as its owner or as root") from None


def _survey(source: Path) -> tuple[int, str]:
    """Bytes of all files below `source`, and a path whose last name has NAME_MAX bytes (or nothing).

    What cannot be read is left for mkfs.erofs to report.
    """
    total, longest, folders = 0, "", [os.fspath(source)]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if len(os.fsencode(entry.name)) == NAME_MAX:
                    longest = entry.path
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    total += entry.stat(follow_symlinks=False).st_size
    return total, longest


def _check_readable(source: Path) -> None:
    """mkfs.erofs does not say which file it may not read."""
    top: tuple[str, list[str], list[str]] = (str(source.parent), [source.name], [])
    for folder, folders, files in itertools.chain([top], os.walk(source)):
        for name in folders + files:
            path = os.path.join(folder, name)
            mode = os.R_OK | os.X_OK if name in folders else os.R_OK
            if not os.path.islink(path) and not os.access(path, mode):
                raise ImageError(f"{path}: no permission to read it: run as its owner or as root")


def _check_long_names(path: str) -> None:
    """mkfs.erofs 1.5 drops the last byte of a name of 255 bytes: see whether this one does."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as image:
        (Path(folder) / ("x" * NAME_MAX)).touch()
        if _run([*_mkfs_command(()), f"/dev/fd/{image.fileno()}", folder], image.fileno(), lambda size: None):
            raise ImageError(
                f"{path}: its name has {NAME_MAX} bytes, this mkfs.erofs takes {NAME_MAX - 1}: shorten it, "
                "or install a newer erofs-utils"
            )


@contextmanager
def _new_file(target: Path) -> Iterator[int]:
    """A descriptor whose file becomes `target` when the block ends well.

    The file has no name until then (where the file system allows that), so that nothing is left
    behind by a SIGKILL.
    """
    temporary = target.parent / f".{target.name}.{os.getpid()}.new"
    try:
        descriptor = os.open(target.parent, os.O_TMPFILE | os.O_RDWR, 0o644)
        named = False
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        named = True
    try:
        yield descriptor
        if not named:
            # A src_dir_fd makes Python call linkat(AT_SYMLINK_FOLLOW), which alone takes the file itself.
            os.link(f"/proc/self/fd/{descriptor}", temporary, src_dir_fd=0)
            named = True
        os.replace(temporary, target)
        named = False
    finally:
        os.close(descriptor)
        if named:
            temporary.unlink(missing_ok=True)


def _mkfs_command(extra_options: Sequence[str]) -> list[str]:
    program = shutil.which("mkfs.erofs", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if program is None:
        raise ImageError("mkfs.erofs is missing: `apt-get install erofs-utils`")
    # setpriv: it ends when we are killed. -x-1: no extended attributes, the file server serves none.
    return ["setpriv", "--pdeathsig", "KILL", program, "--quiet", "-x-1", "--preserve-mtime", *extra_options]


def _run(command: list[str], descriptor: int, report: Callable[[int], None]) -> str:
    """Run the command, which may use the descriptor; what went wrong, or nothing. `report`: size so far."""
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            command, pass_fds=[descriptor],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=messages,
        )  # fmt: skip
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
                report(os.fstat(descriptor).st_size)
        finally:
            process.kill()
            process.wait()
        messages.seek(0)
        lines = messages.read().decode(errors="replace").splitlines()
    errors = "; ".join(line.removeprefix("<E> ") for line in lines if line.startswith("<E>"))
    if process.returncode and ("No space left" in errors or "Error 28" in errors):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return (errors or f"status {process.returncode}") if process.returncode else ""


def append_checksums(descriptor: int, progress: Progress) -> None:
    """Append table, roots and seal to the file, which holds EROFS and nothing else."""
    size = os.fstat(descriptor).st_size
    data_blocks = -(-size // BLOCK)
    if data_blocks * BLOCK > IMAGE_BYTES_MAX:
        raise ImageError(f"an image of {size} bytes is too large: the limit is {IMAGE_BYTES_MAX} bytes")
    os.ftruncate(descriptor, data_blocks * BLOCK)
    chunk = bytearray(CHUNK_BLOCKS * BLOCK)
    view = memoryview(chunk)
    table_block = data_blocks
    table_blocks = -(-data_blocks // CHUNK_BLOCKS)
    roots = bytearray()
    shown = time.monotonic()
    for index in range(table_blocks):
        blocks = min(CHUNK_BLOCKS, data_blocks - index * CHUNK_BLOCKS)
        _read_exactly(descriptor, view[: blocks * BLOCK], index * CHUNK_BLOCKS * BLOCK)
        table = crc32c_blocks(view[: blocks * BLOCK]).ljust(BLOCK, b"\0")
        _write_exactly(descriptor, table, (table_block + index) * BLOCK)
        roots += crc32c_blocks(table)
        if time.monotonic() - shown > 0.1:
            shown = time.monotonic()
            progress("checksums", index * CHUNK_BLOCKS * BLOCK, size)
    roots_blocks = -(-len(roots) // BLOCK)
    padded = bytes(roots).ljust(roots_blocks * BLOCK, b"\0")
    roots_block = table_block + table_blocks
    seal = SEAL.pack(
        SEAL_MAGIC, SEAL_VERSION, BLOCK,
        data_blocks, table_block, table_blocks, roots_block, roots_blocks, crc32c(padded),
    ).ljust(SEAL_CHECKSUM, b"\0")  # fmt: skip
    _write_exactly(descriptor, padded + seal + struct.pack("<I", crc32c(seal)), roots_block * BLOCK)
    progress("checksums", size, size)


def _read_exactly(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.preadv(descriptor, [view], offset)
        if count == 0:
            raise ImageError("the new image became shorter while its checksums were made: start again")
        view, offset = view[count:], offset + count


def _write_exactly(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


def _explain(error: OSError, target: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        free = shutil.disk_usage(target.parent).free >> 20
        return (
            f"{target}: no space left for the image ({free} MiB free in {target.parent}): "
            "make room, or choose another place with -o"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{target}: no permission to write in {target.parent}: choose another place with -o"
    return f"{target}: cannot be written: {os.strerror(error.errno or 0)}"
