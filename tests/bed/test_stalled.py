"""A machine that stands still is told from one that has much to do, and from a command that hangs."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from images.bed import BedStalled
from images.bed import bed as bed_module
from images.bed.bed import Bed
from tests.bed import needs_qemu, not_in_bed

pytestmark = [needs_qemu, not_in_bed]
STALLED_S = 5.0
BUSY = 'for each in 1 2 3 4 5 6 7 8; do (while :; do :; done) & all="$all $!"; done; sleep "$0"; kill $all'


def test_a_machine_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than its CPU can do, and nothing said, is not enough; and a time limit does not hide it."""
    monkeypatch.setattr(bed_module, "STALLED_SECONDS", STALLED_S)
    with Bed() as bed:
        begun = time.monotonic()
        assert bed.run(["sh", "-c", BUSY, str(1.3 * STALLED_S / bed.slow)], stdin=None) == 0
        assert time.monotonic() - begun > 1.2 * STALLED_S
        stopping = threading.Timer(0.5, os.kill, (bed.pid, signal.SIGSTOP))
        stopping.start()
        with pytest.raises(BedStalled) as caught:
            bed.run(["sleep", "1000"], stdin=None, time_limit=STALLED_S)
        stopping.join()
    first = str(caught.value).splitlines()[0]
    assert first == f"the test bed stands still (no sign of life for {STALLED_S:g} s); run it again"
