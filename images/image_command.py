"""`r3s3 image build`: any host directory becomes a disk image."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from images.image import Image, ImageError, build
from vmm.cli.command import CommandError, Parser, Progress, unit


def add_arguments(parser: Parser) -> None:
    """The arguments of `r3s3 image`."""
    parser.add_argument("action", choices=["build"], help="build it")
    parser.add_argument("directory", metavar="DIR", help="the directory that becomes / of the image")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the image file")


def run(options: argparse.Namespace) -> int:
    """Build it; returns the exit status."""
    image = build_image(options.directory, options.output)
    print(f"{options.output}: {unit(image.size)}")
    return 0


def build_image(directory: str, output: str, exclude: Sequence[bytes] = ()) -> Image:
    """Build an image, with a progress bar where there is a terminal. `exclude` are paths in `directory`."""
    options = [f"--exclude-path={os.fsdecode(path)}" for path in exclude]
    with Progress() as bar:
        try:
            return build(directory, output, bar.show, options)
        except ImageError as error:
            raise CommandError(str(error)) from None
