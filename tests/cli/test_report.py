"""What the command line makes of what has been counted."""

from __future__ import annotations

from vmm.cli.report import summary


def test_summary() -> None:
    assert summary([]) == {"n": 0, "median": None, "p99": None, "max": None}
    assert summary([5.0]) == {"n": 1, "median": 5.0, "p99": 5.0, "max": 5.0}
    many = summary([float(n) for n in range(1000)])
    assert many == {"n": 1000, "median": 500.0, "p99": 990.0, "max": 999.0}
