"""`r3s3 image build` and `r3s3 verify`: the table, what counts as a difference, and the cached image."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from images import host_tree, image_command, sample
from images.image import ImageError
from images.verify_command import PASSES_MAX, cached_image, compare, parse_line
from tests.cli.conftest import Run
from vmm.cli.command import CommandError

CONTENT = {"a": b"alpha", "sub/b": b"", "sub/new\nline": b"n", "sub/back\\slash": b"b" * 5000}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    for name, content in CONTENT.items():
        file = top / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (top / "link").symlink_to("a")
    os.mkfifo(top / "pipe")
    return top


def test_equal(r3s3: Run, tree: Path) -> None:
    result = r3s3("verify", tree, "--seed", 3, FAKE_TREE=str(tree))
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    back, new = digests["sub/back\\slash"], digests["sub/new\nline"]
    assert lines[1:5] == [
        f"{digests['a']}             5  equal        a",
        f"{digests['sub/b']}             0  equal        sub/b",
        f"{back}          5000  equal        sub/back\\slash",
        f"{new}             1  equal        sub/new\\nline",
    ]
    assert lines[5:8] == ["", "not compared (1):", "  pipe: named pipe: it has no content to compare"]
    text = " ".join(result.stdout.split())
    assert "files equal to the host's 4 of 4" in text
    assert "kills 0 recoveries 3 requests replayed 7 requests failed 0" in text
    assert "recovery time median 1.25 ms, p99 2.50 ms, max 2.50 ms" in text


@pytest.mark.parametrize(
    ("change", "verdict"), [("flip", "different"), ("drop", "missing"), ("add", "extra")]
)
@pytest.mark.parametrize("passes", [1, 3])
def test_differences(r3s3: Run, tree: Path, change: str, verdict: str, passes: int) -> None:
    """In the last pass only, where there are several."""
    result = r3s3("verify", tree, "--json", "--passes", passes, FAKE_TREE=str(tree), FAKE_CHANGE=change)
    answer = json.loads(result.stdout)
    assert result.returncode == 1
    assert [row["verdict"] for row in answer["table"]].count(verdict) == answer[verdict] == 1
    files = 5 if change == "add" else 4
    first = "extra" if change == "add" else "a"
    assert result.stderr == f"r3s3: 1 of {files} files differ; the first: {first} is {verdict}\n"


def test_json(r3s3: Run, tree: Path, tmp_path: Path) -> None:
    answer = json.loads(
        r3s3("verify", tree, "--json", "--seed", 3, "--report", "r.json", FAKE_TREE=str(tree)).stdout
    )
    table = {row["path"]: row for row in answer.pop("table")}
    assert set(table) == set(CONTENT)
    assert table["a"] == {
        "path": "a",
        "bytes": 5,
        "digest": hashlib.sha256(b"alpha").hexdigest(),
        "host_digest": hashlib.sha256(b"alpha").hexdigest(),
        "equal": True,
        "verdict": "equal",
    }
    assert answer["files"] == answer["equal"] == 4
    assert answer["symlinks"] == 1
    assert answer["skipped"] == [{"path": "pipe", "why": "named pipe: it has no content to compare"}]
    assert answer["recovery_ms"]["median"] == 1.25
    assert answer["seed"] == 3
    assert json.loads((tmp_path / "r.json").read_text())["recoveries"] == 3


def test_launch_line(r3s3: Run, tree: Path, tmp_path: Path) -> None:
    assert r3s3("verify", tree, "--kill", "disk_driver@10", FAKE_TREE=str(tree)).returncode == 0
    request = json.loads((tmp_path / "request.json").read_text())
    assert request["arguments"] == ["sha256tree", *["/"] * PASSES_MAX]  # it is far from 1 GiB
    assert request["kill"] == [["disk_driver", 10.0]]
    assert request["system_file"].endswith("/images/default.toml")
    assert Path(request["disk"]).stat().st_size > 4096


@pytest.mark.parametrize(("options", "passes"), [((), 1), (("--kill", "a@0"), 1), (("--passes", "7"), 7)])
def test_passes(r3s3: Run, tree: Path, tmp_path: Path, options: tuple[str, ...], passes: int) -> None:
    assert r3s3("verify", tree, *options, FAKE_TREE=str(tree)).returncode == 0
    request = json.loads((tmp_path / "request.json").read_text())
    assert request["arguments"] == ["sha256tree", *["/"] * passes]


def test_no_number_of_passes(r3s3: Run, tree: Path) -> None:
    result = r3s3("verify", tree, "--passes", "0")
    assert (result.returncode, result.stdout) == (125, "")
    assert result.stderr == (
        "r3s3: argument --passes: '0' is not a number from 1 to 1000; see r3s3 verify --help\n"
    )


def test_changed_directory_is_noticed(r3s3: Run, tree: Path, tmp_path: Path) -> None:
    """The image is kept as long as the directory is as it was, and replaced when it is not."""

    def image() -> Path:
        assert r3s3("verify", tree, FAKE_TREE=str(tree)).returncode == 0
        return Path(json.loads((tmp_path / "request.json").read_text())["disk"])

    first = image()
    stamp = first.stat().st_mtime_ns
    assert image() == first
    assert first.stat().st_mtime_ns == stamp
    (tree / "a").write_bytes(b"ALPHA")
    second = image()
    assert second != first
    assert (first.exists(), second.exists()) == (False, True)
    second.unlink()


def test_no_room_for_the_image(
    r3s3: Run, tree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The place is another one than that of `image build`."""

    def refuse(*arguments: object) -> None:
        raise ImageError("/cache/x.img: no space left: make room, or choose another place with -o")

    monkeypatch.setattr(image_command, "build", refuse)
    monkeypatch.setenv("R3S3_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(CommandError, match=r"choose another place with R3S3_CACHE_DIR$"):
        cached_image(host_tree.walk(tree))


def test_no_such_directory(r3s3: Run) -> None:
    result = r3s3("verify", "nowhere")
    assert (result.returncode, result.stdout) == (125, "")
    assert result.stderr.endswith("/nowhere: no such directory; name one to verify\n")


def test_image_build(r3s3: Run, tree: Path, tmp_path: Path) -> None:
    result = r3s3("image", "build", tree, "-o", "out.img")
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "out.img").stat().st_size > 4096
    bad = r3s3("image", "build", "nowhere", "-o", "out.img")
    assert (bad.returncode, bad.stderr) == (125, "r3s3: nowhere: no such directory\n")


def test_unreadable_entries_are_left_out_and_explained(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root can read everything, so the answer to the question is made up here."""
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("sub/b'"))
    monkeypatch.setenv("R3S3_CACHE_DIR", str(tmp_path / "cache"))
    found = host_tree.walk(tree)
    why = "no permission to read it on the host: run as its owner or as root"
    assert (b"sub/b", why) in found.skipped
    assert b"sub/b" not in found.files
    image = cached_image(found)
    for path, status in (("/a", True), ("/sub/b", False)):
        listing = subprocess.run(
            ["dump.erofs", f"--path={path}", str(image)], capture_output=True, text=True, check=False
        )
        assert (f"File : {path}" in listing.stdout) == status


def test_unreadable_directory(tree: Path) -> None:
    found = host_tree.HostTree(tree, unreadable=[b""])
    with pytest.raises(CommandError, match=r"tree: 1 entries cannot be read, the first: \.; run as"):
        cached_image(found)


def test_lines_as_coreutils_write_them() -> None:
    assert parse_line(b"00ff  /a b") == (b"a b", "00ff")
    assert parse_line(b"\\00ff  /new\\nline\\\\n\\r") == (b"new\nline\\n\r", "00ff")


def test_vanished(tmp_path: Path) -> None:
    tree = host_tree.HostTree(tmp_path, files={b"gone": 1})
    (verdict,) = compare(tree, {}, {b"gone": ["00"]}, 1)
    assert verdict.text == "vanished"


def test_sample(tmp_path: Path) -> None:
    """The sample is larger than a cache, awkward, and made once."""
    top = sample.make(tmp_path)
    tree = host_tree.walk(top)
    assert tree.bytes > 48 << 20
    assert len(tree.files) > 3000
    assert {why.partition(":")[0] for _, why in tree.skipped} == {"named pipe", "socket"}
    assert tree.fingerprint == host_tree.walk(sample.make(tmp_path)).fingerprint
    digests = host_tree.digests(tree, lambda done: None)
    assert digests.keys() == tree.files.keys()
