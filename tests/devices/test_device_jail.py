"""The device serves everything from inside its jail, and the jail is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from tests.devices.conftest import Rig, Start
from tests.devices.queue_driver import DISCARD, FLUSH, IOERR, OK, RANGE, READ_REQUEST, WRITE_ZEROES, Piece
from vmm.tender import jail


def test_a_jailed_device_serves(start_device: Start, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_root = jail.privileged()
    monkeypatch.setattr(os, "fork", lambda: jail.fork(as_root=as_root))
    content = image.read_bytes()
    rig = Rig(start_device(jail=True, queues=2), queues=2)
    for _ in range(3):
        rig.start()
        for driver in rig.drivers:
            assert driver.read(0, 65536) == content[:65536]
            assert driver.write(1000, content[1000 * 512 :][:4096]) == OK
            assert driver.do(FLUSH, 0, []) == OK
            assert driver.do(READ_REQUEST, 0, [Piece(0x1000, 512, True)]) == IOERR
        for kind, sector in ((DISCARD, 1536), (WRITE_ZEROES, 1600)):
            RANGE.pack_into(rig.memory.pool, 0, sector, 64, 0)
            assert rig.driver.do(kind, 0, [Piece(abi.POOL_IOVA, 16)]) == OK
        assert rig.loop.finish(rig.backend.stop)
        rig.renew()
    assert image.read_bytes()[1536 * 512 : 1664 * 512] == bytes(128 * 512)
    status = Path(f"/proc/{rig.device.pid}/status").read_text()
    assert "Seccomp:\t2" in status
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status
    rig.backend.close()
    assert rig.device.wait_end() == 0
