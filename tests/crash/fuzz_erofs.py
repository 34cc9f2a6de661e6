"""Mutated images for the file server: `python -m tests.crash.fuzz_erofs --count 10000 --seed S`.

The file server's own modules run on the host (tests/file_server/harness), with overflow checks and
assertions. Each image must be refused or served: no panic, no endless loop, no read outside the disk.
A failure prints the command that writes the image of that iteration to a file.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from images.image import build
from tests.file_server.harness import build as build_harness

SECONDS_PER_IMAGE = 0.5  # far above what one takes
SPECIMENS = {
    "default": (),
    "extended": ("-E", "force-inode-extended"),
    "chunks": ("--chunksize=4096",),
}


def specimen_tree(root: Path) -> None:
    """A small tree of every kind, so that mutations hit something that is then looked at; always the same."""
    numbers = random.Random(3)
    for folder in ("a/b/c", "wide"):
        (root / folder).mkdir(parents=True)
    for index in range(60):
        (root / "wide" / f"{'long name ' * 8}{index}").touch()
    for size in (0, 1, 4000, 4095, 4096, 4097, 9000, 140_000):
        (root / "a" / f"size{size}").write_bytes(numbers.randbytes(size))
    links = {"up": "..", "absolute": "/a/b/c", "loop": "loop", "far": "../../wide/../a/b/up/b/../size1"}
    for name, target in links.items():
        (root / "a/b" / name).symlink_to(target)
    os.link(root / "a/size9000", root / "hard")
    os.mkfifo(root / "pipe")
    for path in (*root.rglob("*"), root):
        os.utime(path, (1_700_000_000, 1_700_000_000), follow_symlinks=False)


def campaign(count: int, seed: int, folder: Path) -> str:
    """Run `count` images, shared among the specimens; what happened. Raises AssertionError on a failure."""
    harness = build_harness()
    root = folder / "tree"
    specimen_tree(root)
    mounted = 0
    for number, (name, options) in enumerate(SPECIMENS.items()):
        image = folder / f"{name}.img"
        build(root, image, extra_options=options)
        share = count // len(SPECIMENS) + (number < count % len(SPECIMENS))
        command = [str(harness), "fuzz", str(image), str(share), str(seed)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30 + share * SECONDS_PER_IMAGE, check=False
        )
        words = done.stdout.split()
        if done.returncode or words[:2] != ["passed", str(share)]:
            iteration = words[1] if len(words) > 1 else "?"
            keep = Path(tempfile.mkdtemp(prefix="fuzz_erofs_")) / image.name
            keep.write_bytes(image.read_bytes())
            raise AssertionError(
                f"{name}, seed {seed}: {done.stdout.strip()}\n{done.stderr.strip()}\n"
                f"its image: {harness} fuzz {keep} 0 {seed} {iteration} mutated.img"
            )
        mounted += int(words[3])
    return f"{count} images, {mounted} of them mounted, no crash, no hang"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            print(campaign(options.count, options.seed, Path(folder)))
        except AssertionError as failure:
            print(failure, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
