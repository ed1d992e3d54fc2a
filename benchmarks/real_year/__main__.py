"""Real streams from the first version to the end: pages, warnings, requests, and what new versions were worth.

``python -m benchmarks real_year [--data FOLDER] [--only NAME ...] [--pages] [--harm]``. Nothing is planted. Flights,
airports and shares come with packages; ``--data`` adds elec.csv, weather.csv and sea_stream.csv from a folder. Labels
come when they did in life; budgets are the defaults, one false page in 30 days. A *healed* request is one whose
incident was over before its new version; *better* were wrong less often than the version before on the following 30
days. ``--harm`` is ``page_on: harm`` with ``requests.when: harm``: drift warns until it has shown what it costs, and
asks only then.
"""

import argparse
import time
from pathlib import Path

from benchmarks.real_year.streams import streams
from benchmarks.real_year.year import Lived, live


def line(name: str, lived: Lived, seconds: float) -> str:
    """Return a stream's row of the table."""
    found = [f"{delay:.1f}" if delay is not None else "missed" for delay in lived.delays]
    return (
        f"| {name} | {lived.days:.0f} | {len(lived.pages)} | {len(lived.warnings)} | {lived.requests} | "
        f"{lived.healed} | {lived.better} of {lived.replaced} | {', '.join(found) or '-'} | {seconds:.0f} |"
    )


def main() -> None:
    """Print a line a stream."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks real_year", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with elec.csv, weather.csv and sea_stream.csv")
    parser.add_argument("--only", nargs="+", help="run these streams")
    parser.add_argument("--pages", action="store_true", help="print each page and warning")
    parser.add_argument("--harm", action="store_true", help="drift pages and asks once it does harm")
    chosen = parser.parse_args()
    print("| stream | days | pages | warnings | requests | healed | better | found after, days | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, read in streams(chosen.data):
        if chosen.only and name not in chosen.only:
            continue
        begin = time.process_time()
        lived = live(read(), harm=chosen.harm)
        print(line(name, lived, time.process_time() - begin), flush=True)
        for verdict in sorted([*lived.pages, *lived.warnings], key=lambda v: v.time) if chosen.pages else ():
            print(
                f"    {verdict.time:%Y-%m-%d %H:%M} v{verdict.version} {verdict.level.value:4} {verdict.kind.value}: "
                f"{verdict.subject.name}: {verdict.reason}"
            )


if __name__ == "__main__":
    main()
