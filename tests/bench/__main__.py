"""`python -m tests.bench [--quick] [--only GROUP,...] [-o FILE]`: measures, writes the file, prints a table.
`python -m tests.bench --markdown` prints the table of the last run as it goes into a README.

Exit status 1 if something that should work could not be measured; a target that is missed is no failure.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.bench import plan, report
from tests.bench.host import ROOT
from vmm.cli.command import say


def main() -> int:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Measures the figures of the README."
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a first look in a minute, with the same keys")
    size.add_argument(
        "--tiny", action="store_true", help="next to nothing, to test the benchmarks themselves"
    )
    parser.add_argument("--only", metavar="GROUP,...", help=f"only these groups: {', '.join(report.GROUPS)}")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build/bench.json", metavar="FILE")
    parser.add_argument("--markdown", action="store_true", help="measure nothing, print FILE as a table")
    options = parser.parse_args()
    if options.markdown:
        print(report.markdown(json.loads(options.output.read_text(encoding="utf-8"))))
        return 0
    groups = tuple(options.only.split(",")) if options.only else report.GROUPS
    if unknown := set(groups) - set(report.GROUPS):
        parser.error(f"no group {', '.join(sorted(unknown))}; there are: {', '.join(report.GROUPS)}")
    chosen = plan.QUICK if options.quick else plan.TINY if options.tiny else plan.FULL
    result = report.measure(chosen, groups, lambda text: print(f"bench: {text}", file=sys.stderr, flush=True))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    report.show(result, options.output)
    for key in report.broken(result):
        say(f"{key} could not be measured: {result[key]['reason']}")
    return 1 if report.broken(result) else 0


if __name__ == "__main__":
    sys.exit(main())
