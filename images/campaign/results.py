"""Results of a campaign: one SQLite file which several starts continue, and what is summed up from it.

    plan      one row: what the campaign is, as JSON. A file belongs to one plan
    results   one row for each fault whose run has ended: id (from 0), its seed, component, fault type,
              description, outcome (images/campaign/outcome.py), observation as JSON, recovery in µs or NULL

A row is written when its run has ended, so whatever interrupts a campaign loses at most the runs under way,
which are then made again: ids say which faults are left.

Exceptions:
    ResultsError(Exception)
     +- OtherPlan      the file holds the results of another campaign
     +- NoResults      the file is not there, or not one of results
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from images.campaign.outcome import DEFECTS, MANIFESTED, Observation, Outcome, classify

_FORMAT = 1
_SCHEMA = """
CREATE TABLE plan (format INTEGER NOT NULL, content TEXT NOT NULL);
CREATE TABLE results (
    id INTEGER PRIMARY KEY, seed TEXT NOT NULL, component TEXT NOT NULL, fault_type TEXT NOT NULL,
    description TEXT NOT NULL, outcome TEXT NOT NULL, observation TEXT NOT NULL, recovery_us INTEGER
);
"""


class ResultsError(Exception):
    """A file of results that cannot be used. The message names it, and says what to do."""


class OtherPlan(ResultsError):
    """The file belongs to another campaign."""


class NoResults(ResultsError):
    """There are no results in this file."""


@dataclass(frozen=True)
class Result:
    """One fault and what came of it."""

    id: int  # number of the fault in its campaign, from 0
    seed: int
    component: str
    fault_type: str
    description: str
    observation: Observation
    recovery_us: int | None = None  # None: nothing was recovered

    @property
    def outcome(self) -> Outcome:
        return classify(self.observation)


class Results:
    """An open file of results; close it, or use it in a `with`."""

    def __init__(self, path: Path, plan: Mapping[str, Any] | None = None) -> None:
        """The results in `path`. With a plan (JSON) the file is made if it is not there, and must be that
        plan's if it is; without one it is only read. Raises ResultsError."""
        self.path = path
        if plan is None and not path.is_file():
            raise NoResults(f"{path}: no such file; run the campaign with -o {path}")
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            self.plan = self._opened(plan)
        except sqlite3.DatabaseError as error:
            what = "name a file of results, or one that does not exist yet"
            raise NoResults(f"{path}: {error}; {what}") from error

    def _opened(self, plan: Mapping[str, Any] | None) -> dict[str, Any]:
        database = self._database
        if plan is not None:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("BEGIN IMMEDIATE")  # two starts at once: one of them makes the tables
            if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _SCHEMA.split(";\n"):
                    database.execute(statement)
                content = json.dumps(plan, sort_keys=True)
                database.execute("INSERT INTO plan VALUES (?, ?)", (_FORMAT, content))
            database.execute("COMMIT")
        format_number, content = database.execute("SELECT format, content FROM plan").fetchone()
        if format_number != _FORMAT:
            raise NoResults(f"{self.path}: is of format {format_number}, not {_FORMAT}; start a new file")
        found: dict[str, Any] = json.loads(content)
        if plan is not None and content != json.dumps(plan, sort_keys=True):
            names = sorted(name for name in {*found, *plan} if found.get(name) != plan.get(name))
            what = f"has the results of another campaign ({', '.join(names)} differ)"
            raise OtherPlan(f"{self.path}: {what}; name another file, or repeat that campaign's options")
        return found

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    def add(self, result: Result) -> None:
        """Keep a result for good; sqlite3.IntegrityError if its fault has one already."""
        observation = json.dumps(asdict(result.observation))
        row = (result.id, str(result.seed), result.component, result.fault_type, result.description,
               result.outcome.value, observation, result.recovery_us)  # fmt: skip
        self._database.execute("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def missing(self, faults: int) -> list[int]:
        """Those of the first `faults` ids that have no result yet."""
        known = {row[0] for row in self._database.execute("SELECT id FROM results")}
        return [number for number in range(faults) if number not in known]

    def __iter__(self) -> Iterator[Result]:
        columns = "id, seed, component, fault_type, description, observation, recovery_us"
        for row in self._database.execute(f"SELECT {columns} FROM results ORDER BY id"):
            number, seed, component, fault_type, description, observation, recovery_us = row
            seen = json.loads(observation)
            seen["violations"] = tuple(seen["violations"])
            seen = Observation(**seen)
            yield Result(number, int(seed), component, fault_type, description, seen, recovery_us)

    def summary(self) -> dict[str, int | float | None]:
        """Counts of all outcomes, by their names, and what follows from them:

        injected = not_activated + activated, activated = masked + manifested, manifested = all others;
        invisible_ratio = recovered_invisible / manifested, None if nothing manifested.
        """
        rows = self._database.execute("SELECT outcome, count(*) FROM results GROUP BY outcome")
        counts = {Outcome(name): int(count) for name, count in rows}
        manifested = sum(counts.get(outcome, 0) for outcome in MANIFESTED)
        activated = manifested + counts.get(Outcome.MASKED, 0)
        invisible = counts.get(Outcome.RECOVERED_INVISIBLE, 0)
        return {
            "injected": activated + counts.get(Outcome.NOT_ACTIVATED, 0),
            "activated": activated,
            "manifested": manifested,
            **{outcome.value: counts.get(outcome, 0) for outcome in Outcome},
            "invisible_ratio": invisible / manifested if manifested else None,
        }


def exit_status(summary: Mapping[str, int | float | None]) -> int:
    """Of a campaign with this summary: 1 if there is a defect in it, otherwise 0."""
    return int(any(summary[outcome.value] for outcome in DEFECTS))
