"""Archives as the kernel reads them."""

from __future__ import annotations

import pytest

from images.bed.cpio import archive


def entries(data: bytes) -> list[tuple[str, int, bytes]]:
    """Name, mode and content of every entry, read independently of the writer."""
    found, at = [], 0
    while at < len(data):
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        at += 110 + name_size + 3 & ~3
        found.append((name[:-1].decode(), mode, data[at : at + size]))
        at += size + 3 & ~3
    return found


def test_files_and_their_folders() -> None:
    data = archive({"init": b"12345", "modules/a/b.ko": b"", "modules/c.ko": b"\0" * 8})
    assert entries(data) == [
        ("init", 0o100755, b"12345"),
        ("modules", 0o040755, b""),
        ("modules/a", 0o040755, b""),
        ("modules/a/b.ko", 0o100755, b""),
        ("modules/c.ko", 0o100755, b"\0" * 8),
        ("TRAILER!!!", 0, b""),
    ]
    assert len(data) % 4 == 0


@pytest.mark.parametrize("path", ["/init", "a//b", "../a", "", "TRAILER!!!"])
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(ValueError, match="is not a path"):
        archive({path: b""})
