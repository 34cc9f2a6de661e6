"""Figures: what build/bench.json consists of. A figure is a JSON object; its keys are in README.md.

Samples are given as they were taken; here they become median, p99 and spread, and meet their target.

Exceptions: NotMeasured (the figure is null, with the reason).
"""

from __future__ import annotations

import operator
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Figure = dict[str, Any]


class NotMeasured(Exception):
    """Something cannot be measured. `broken`: because it failed, not because the host does not offer it."""

    def __init__(self, reason: str, *, broken: bool = False) -> None:
        super().__init__(reason)
        self.broken = broken


@dataclass(frozen=True)
class Target:
    """What a figure is to reach: `relation` is "<=" or ">="; `p99`: also at the 99th percentile."""

    relation: str
    median: float
    p99: float | None = None

    def __str__(self) -> str:
        tail = f", p99 {self.relation} {self.p99:,g}" if self.p99 is not None else ""
        return f"{self.relation} {self.median:,g}{tail}"

    def is_reached(self, median: float, p99: float) -> bool:
        """Does a figure of this median and 99th percentile reach it?"""
        holds = operator.le if self.relation == "<=" else operator.ge
        return bool(holds(median, self.median)) and (self.p99 is None or bool(holds(p99, self.p99)))


def percentile(samples: Sequence[float], part: float) -> float:
    """The smallest sample that `part` (0 to 1) of all are not above."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def rounded(value: float) -> float:
    """Four significant digits and all digits before the point: nothing here is measured better."""
    return float(f"{value:.4g}") if abs(value) < 1000 else round(value)


def spread(samples: Sequence[float]) -> Figure:
    """Median, p99, extremes and number of `samples`; null where there is none."""
    if not samples:
        return {"median": None, "p99": None, "min": None, "max": None, "n": 0}
    return {
        "median": rounded(statistics.median(samples)),
        "p99": rounded(percentile(samples, 0.99)),
        "min": rounded(min(samples)),
        "max": rounded(max(samples)),
        "n": len(samples),
    }


def figure(samples: Sequence[float], unit: str, target: Target | None = None, **more: object) -> Figure:
    """A figure of its own samples. `more` is taken over as it is: what belongs beside it."""
    if not samples:
        raise NotMeasured("no sample was taken", broken=True)
    result = spread(samples) | {"unit": unit}
    return _judged(result, target) | more


def summarised(
    medians: Sequence[float],
    p99s: Sequence[float],
    n: int,
    unit: str,
    target: Target | None = None,
    **more: object,
) -> Figure:
    """A figure of several runs, each of which has summarised its own samples: medians over the runs."""
    result = spread(medians) | {
        "p99": rounded(statistics.median(p99s)),
        "n": n,
        "runs": len(medians),
        "unit": unit,
    }
    return _judged(result, target) | more


def missing(reason: str, unit: str, target: Target | None = None, *, broken: bool = False) -> Figure:
    """A figure that could not be measured."""
    nothing: Figure = spread([]) | {"unit": unit, "target": str(target) if target else None, "reached": None}
    return nothing | {"reason": reason} | ({"broken": True} if broken else {})


def _judged(result: Figure, target: Target | None) -> Figure:
    reached = target.is_reached(result["median"], result["p99"]) if target else None
    return result | {"target": str(target) if target else None, "reached": reached}
