"""All speed benchmarks one after another, minutes in all, and docs/performance.md from their figures."""

import argparse
import json
import subprocess
import sys
import time

from benchmarks.measure.results import RESULTS, load
from benchmarks.speed.page import PARTS, write

PAUSE_S = 2.0


def main() -> int:
    """Run what is asked for and write the page; returns 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks speed", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS), help="run these; none only writes")
    given = parser.parse_args()
    failed = []
    for part in given.only:
        print(f"\n=== {part}", flush=True)
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "benchmarks", part], check=False)
        print(f"({part}: {time.monotonic() - began:.0f} s)", flush=True)
        failed += [part] if done.returncode else []
        time.sleep(PAUSE_S)
    figures = {part: load(part) for part in PARTS}
    missing = [part for part, found in figures.items() if found is None]
    if missing:
        print(f"docs/performance.md is not written: no figures of {', '.join(missing)} yet", file=sys.stderr)
        return 1
    (RESULTS / "speed.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    write(figures)
    print(f"written: docs/performance.md, docs/figures/throughput.svg, {RESULTS / 'speed.json'}")
    if failed:
        print(f"failed: {', '.join(failed)}; the page holds their figures of before", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
