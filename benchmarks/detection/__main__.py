"""Detection delay at matched false-alarm rates, ours and peers', and every check of the guarantee; seeds fixed."""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from benchmarks.detection import categories, engine, laws, peers
from benchmarks.detection.document import machine, write_part
from benchmarks.detection.external import external_rows
from benchmarks.detection.world import header

CACHE = Path.home() / ".cache" / "stationkeeper" / "benchmarks"
PARTS = ("matched", "peers", "external", "production", "laws", "categories", "onset", "speed", "days", "streams")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the replicates, no month")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=None, help="run these parts")
    parser.add_argument("--home", type=Path, default=CACHE, help="where peers' environments are kept")
    parser.add_argument(
        "--data", type=Path, default=None, help="folder with elec.csv and weather.csv, for part streams"
    )
    parser.add_argument("--document", type=Path, default=None, help="page to write each part into, between its markers")
    arguments = parser.parse_args()
    quick = arguments.quick
    chosen = arguments.only or [p for p in PARTS if p != "streams" or arguments.data]
    begin = time.monotonic()

    def part(name: str, title: str, lines: Callable[[], Iterable[str]]) -> None:
        if name not in chosen:
            return
        print(f"\n## {title}\n", flush=True)
        said = []
        for line in lines():
            print(line, flush=True)
            said.append(line)
        if arguments.document is not None:
            write_part(arguments.document, name, title, said)
        print(f"\n({time.monotonic() - begin:.0f} s so far)", flush=True)

    part(
        "matched",
        "One numeric feature, run length of about 10,000 events: median delay in events (share found)",
        lambda: [header("detector"), *engine.matched_rows(quick=quick)],
    )
    part("peers", "Peers in this environment", lambda: [header("detector"), *_peers(quick=quick)])
    part(
        "external",
        "Peers in environments of their own",
        lambda: [header("detector"), *external_rows(arguments.home.resolve(), quick=quick)],
    )
    part(
        "production",
        "At the production budget: 300 features, one false page in 30 days, one-minute panes of 50 events",
        lambda: [header("detector"), *engine.production_rows(quick=quick)],
    )
    part(
        "laws",
        "Run lengths in panes of 50 events",
        lambda: [*laws.run_lengths(quick=quick), "", *laws.many_features(quick=quick)],
    )
    part(
        "categories",
        "New categories (tuned / 200 panes / 1.3e7) and rates, median delay in events",
        lambda: [*categories.category_rows(quick=quick), "", *categories.rate_rows(quick=quick)],
    )
    part("onset", "Change point at the production threshold", lambda: laws.change_points(quick=quick))
    part("speed", f"Time of a pane, {machine()}", laws.pane_times)
    part("days", "Days without drift, 300 features", lambda: _days(quick=quick))
    if arguments.data:
        from benchmarks.detection.streams import stream_rows

        part("streams", "Real streams by the verification protocol", lambda: stream_rows(arguments.data))


def _peers(*, quick: bool) -> list[str]:
    return [*peers.river_rows(quick=quick), peers.kswin_row(quick=quick), *peers.window_rows(quick=quick)]


def _days(*, quick: bool) -> Iterator[str]:
    yield "| days | pane | budget | false pages | Poisson 95 % limit |\n|---|---|---|---|---|"
    yield laws.quiet_days(20 if quick else 100, 15, 1.0)
    if not quick:
        yield laws.quiet_days(30, 5, 1 / 30)


if __name__ == "__main__":
    main()
