"""Building images and saying what is wrong with one, message by message."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from images import _crc as crc  # type: ignore[attr-defined]
from images import image as module
from images.image import BLOCK, ImageError, build, crc32c, inspect

AGAIN = "build it again with `r3s3 image build DIR -o {image}`"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "file").write_bytes(bytes(range(256)) * 100)
    return root


def message(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        inspect(path)
    return str(caught.value)


def test_an_image_is_sound_for_the_tools_of_erofs(tree: Path, tmp_path: Path) -> None:
    stages = []
    image = build(tree, tmp_path / "image", lambda stage, done, total: stages.append((stage, done, total)))
    subprocess.run(["fsck.erofs", str(image.path)], check=True, capture_output=True)
    assert image.path.stat().st_size == image.size
    assert image.path.stat().st_mode & 0o777 == 0o644
    assert stages[-1] == ("checksums", image.data_blocks * BLOCK, image.data_blocks * BLOCK)
    assert os.listdir(tmp_path) == ["tree", "image"] or sorted(os.listdir(tmp_path)) == ["image", "tree"]


def test_an_existing_image_is_replaced_whole(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "image"
    first = build(tree, path)
    (tree / "more").write_bytes(bytes(100_000))
    second = build(tree, path)
    assert second.size > first.size and inspect(path) == second


def test_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    assert build(tmp_path / "tree", tmp_path / "image").data_blocks == 1


@pytest.mark.parametrize("length", [1, 7, 8, 9, 63, 4095, 4096, 4097])
def test_both_ways_to_a_checksum(length: int) -> None:
    data = os.urandom(length)
    assert crc.lib.crc32c_portable(crc.ffi.from_buffer("uint8_t[]", data), length) == crc32c(data)
    assert crc32c(b"123456789") == 0xE3069283


def test_sources_that_are_refused(tree: Path, tmp_path: Path) -> None:
    for source, expected in {
        tmp_path / "nothing": "{source}: no such directory",
        tree / "file": "{source}: not a directory: name the directory that becomes / of the image",
    }.items():
        with pytest.raises(ImageError) as caught:
            build(source, tmp_path / "image")
        assert str(caught.value) == expected.format(source=source)
    assert not (tmp_path / "image").exists()


def test_places_that_are_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        build(tree, tree)
    assert str(caught.value) == f"{tree}: is a directory: name a file for the image"
    with pytest.raises(ImageError) as caught:
        build(tree, tmp_path / "no/image")
    place = tmp_path / "no"
    assert str(caught.value) == f"{place}/image: its directory {place} does not exist: create it first"


def test_a_complaint_of_mkfs(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["sh", "-c", "echo '<E> erofs: too bad' >&2; exit 1"]
    monkeypatch.setattr(module, "_mkfs_command", lambda options: command)
    with pytest.raises(ImageError) as caught:
        build(tree, tmp_path / "image")
    assert str(caught.value) == f"{tree}: mkfs.erofs could not make {tmp_path}/image of it: erofs: too bad"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_file_that_may_not_be_read(tree: Path, tmp_path: Path) -> None:
    (tree / "sub").mkdir()
    (tree / "sub/secret").write_text("secret")
    (tree / "sub/secret").chmod(0o600)
    code = (
        "import os; from images import image\n"
        "os.setuid(65534)\n"
        f"try: image._check_readable(image.Path({str(tree)!r}))\n"
        "except image.ImageError as error: print(error)"
    )
    top = Path(tempfile.gettempdir())
    for folder in (tree, *tree.parents):
        if top in folder.parents:
            folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(module.__file__).parents[1], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == f"{tree}/sub/secret: no permission to read it: run as its owner or as root"


def test_without_mkfs(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    with pytest.raises(ImageError) as caught:
        build(tree, tmp_path / "image")
    assert str(caught.value) == "mkfs.erofs is missing: `apt-get install erofs-utils`"


def test_a_name_too_long_for_this_mkfs(tree: Path, tmp_path: Path) -> None:
    """Debian 12's does not take it, newer ones do."""
    name = tree / ("n" * 255)
    name.touch()
    try:
        build(tree, tmp_path / "image")
    except ImageError as error:
        assert str(error) == (
            f"{name}: its name has 255 bytes, this mkfs.erofs takes 254: shorten it, "
            "or install a newer erofs-utils"
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_no_space_left(tree: Path, tmp_path: Path) -> None:
    (tree / "large").write_bytes(os.urandom(3 << 20))
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], check=True)
    try:
        with pytest.raises(ImageError) as caught:
            build(tree, place / "image")
        assert os.listdir(place) == []
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert str(caught.value) == (
        f"{place}/image: no space left for the image (1 MiB free in {place}): "
        "make room, or choose another place with -o"
    )


def test_nothing_remains_of_a_killed_build(tree: Path, tmp_path: Path) -> None:
    (tree / "large").write_bytes(bytes(200 << 20))
    code = f"from images.image import build; build({str(tree)!r}, {str(tmp_path / 'image')!r})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(module.__file__).parents[1])
    time.sleep(0.25)
    process.kill()
    process.wait()
    assert os.listdir(tmp_path) == ["tree"]


def test_images_that_are_refused(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "image"
    again = AGAIN.format(image=path)
    assert message(path) == f"{path}: no such image: make one with `r3s3 image build DIR -o {path}`"
    assert message(tree) == (
        f"{tree}: is a directory: make an image of it with `r3s3 image build {tree} -o disk.img`"
    )
    path.touch()
    assert message(path) == f"{path}: is empty: {again}"
    for contents in (b"x", bytes(100_000)):
        path.write_bytes(contents)
        assert message(path) == f"{path}: not an EROFS image (no magic number at byte 1024): {again}"
    image = build(tree, path)
    sound = path.read_bytes()
    data_bytes = image.data_blocks * BLOCK
    path.write_bytes(sound[:data_bytes])
    assert message(path) == f"{path}: EROFS, but without the checksum table that R3S3 needs: {again}"
    path.write_bytes(sound[:-BLOCK])
    assert message(path) == f"{path}: truncated: no checksum table ends at byte {len(sound) - BLOCK}: {again}"
    path.write_bytes(sound[:5000])
    assert message(path) == (
        f"{path}: truncated: its superblock names {data_bytes} bytes, the file has 5000: {again}"
    )
    path.write_bytes(sound[:-1])
    assert message(path).startswith(f"{path}: truncated: no checksum table ends at byte")
    path.write_bytes(sound + sound[-BLOCK:])
    assert message(path) == (
        f"{path}: truncated: its last block names {len(sound)} bytes, "
        f"the file has {len(sound) + BLOCK}: {again}"
    )
    for place, expected in {
        len(sound) - BLOCK + 16: f"{path}: damaged: the last block does not match its checksum: {again}",
        1024 + 36: f"{path}: damaged: checksums of {image.data_blocks} blocks, but its superblock names "
        f"{image.data_blocks - 1}: {again}",
    }.items():
        damaged = bytearray(sound)
        damaged[place] -= 1
        path.write_bytes(damaged)
        assert message(path) == expected
    path.write_bytes(sound)
    assert inspect(path) == image


def test_another_version(tree: Path, tmp_path: Path) -> None:
    path = build(tree, tmp_path / "image").path
    data = bytearray(path.read_bytes())
    data[-BLOCK + 8] = 2
    data[-4:] = crc32c(data[-BLOCK:-4]).to_bytes(4, "little")
    path.write_bytes(data)
    assert message(path) == (
        f"{path}: checksum table of version 2 with 4096-byte blocks, "
        f"this R3S3 reads version 1 with 4096: {AGAIN.format(image=path)}"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_image_that_may_not_be_read(tree: Path, tmp_path: Path) -> None:
    path = build(tree, tmp_path / "image").path
    path.chmod(0)
    assert message(path) == f"{path}: no permission to read it: `chmod u+r {path}`, or run as its owner"
