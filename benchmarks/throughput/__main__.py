"""Events a second of one core, decoding and tally with dedupe, beside decoding alone and every peer; same events."""

import argparse
import platform
import resource
from collections.abc import Iterator
from dataclasses import asdict
from statistics import median
from typing import Any

from benchmarks.measure.results import save, table
from benchmarks.measure.timing import in_turn, one_core, ratio
from benchmarks.throughput import ours
from benchmarks.throughput.events import events
from benchmarks.throughput.peers import REQUIREMENTS, EventFiles, PeerRate, peer_rates

WHOLE, COLUMNS, PARSER = "decode and tally", "decode to columns", "JSON parser alone"
BARS = (("decode_only", 0.8), ("fastest_distance", 2.0), ("evidently", 40.0))


def main() -> None:
    """Measure, print the table, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks throughput", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", nargs="*", choices=list(REQUIREMENTS), default=list(REQUIREMENTS))
    given = parser.parse_args()
    one_core()
    values = events(given.events)
    print(f"{platform.machine()}, one core; {given.events} events of {len(b''.join(values)) / len(values):.0f} bytes")
    rates, ratios = own_rates(values, given.batch, given.rounds)
    found: list[dict[str, Any]] = []
    if given.peers:
        with EventFiles(events(10_000, 0), events(30_000, 1)) as files:
            for peer in given.peers:
                for rate in beside(peer, files, values, given.batch):
                    found.append(rate)
                    print(f"  {rate['peer']} {rate['way']}: {rate['failed'] or round(rate['rate'])}", flush=True)
    print("\n" + table(HEADER, rows_of(rates, ratios, found)))
    bars = bars_of(ratios, found)
    for name, bar in BARS:
        print(f"{name}: {bars.get(name, float('nan')):.2f} (bar {bar})")
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    shape = {"events": given.events, "batch": given.batch, "bytes": len(b"".join(values)) / len(values)}
    save("throughput", {**shape, "rates": rates, "ratios": ratios, "peers": found, "bars": bars, "rss_mib": rss})


def own_rates(values: list[bytes], batch: int, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return our rates and polars', and of each the median of its ratio to the whole in the same round."""
    parts = ours.batches(values, batch)
    works = {
        WHOLE: lambda stage: ours.absorb(stage, parts),
        COLUMNS: lambda stage: ours.decoding(stage, parts),
        PARSER: lambda stage: ours.parsing(stage, parts),
        **ours.polars_ways(values, batch),
    }
    in_turn(works, 1, ours.tally)
    seconds = in_turn(works, rounds, ours.tally)
    rates = {name: len(values) / median(times) for name, times in seconds.items()}
    return rates, {name: ratio(times, seconds[WHOLE]) for name, times in seconds.items()}


def beside(peer: str, files: EventFiles, values: list[bytes], batch: int) -> Iterator[dict[str, Any]]:
    """Yield a peer's rates with our own rate just before and just after, and the ratio to their mean."""
    parts = ours.batches(values, batch)
    work = {WHOLE: lambda stage: ours.absorb(stage, parts)}
    before = in_turn(work, 2, ours.tally)[WHOLE]
    found: list[PeerRate] = list(peer_rates(peer, files))
    after = in_turn(work, 2, ours.tally)[WHOLE]
    own = len(values) / median([*before, *after])
    for rate in found:
        yield asdict(rate) | {"ours": own, "ratio": None if rate.rate is None else own / rate.rate}


HEADER = ("what", "way", "events/s of one core", "ours is faster by", "distance of every feature")


def rows_of(rates: dict[str, float], ratios: dict[str, float], peers: list[dict[str, Any]]) -> list[list[object]]:
    """Return the rows of the table, ours first, then peers from the fastest."""
    own = {WHOLE: "yes", COLUMNS: "-", PARSER: "-", "polars": "-", "polars and histograms": "no (counts only)"}
    rows: list[list[object]] = [
        ["Stationkeeper" if not name.startswith("polars") else "polars", name, rate, ratios[name], own[name]]
        for name, rate in rates.items()
    ]
    for one in sorted(peers, key=lambda one: -(one["rate"] or 0)):
        if one["rate"] is None:
            rows.append([one["peer"], f"failed: {one['failed']}", None, None, "-"])
            continue
        every = "yes" if one["features"] == 16 else f"of {one['features']} of 16"
        rows.append([one["peer"], one["way"], one["rate"], one["ratio"], every if one["distance"] else "no"])
    return rows


def bars_of(ratios: dict[str, float], peers: list[dict[str, Any]]) -> dict[str, float]:
    """Return the ratios that are promised: to decoding alone, to the fastest full comparison, and to Evidently."""
    found = {"decode_only": ratios[COLUMNS]}
    full = [one["ratio"] for one in peers if one["ratio"] and one["distance"] and one["features"] == 16]
    partial = [one["ratio"] for one in peers if one["ratio"] and one["distance"]]
    found |= {"fastest_distance": min(full)} if full else {}
    found |= {"fastest_partial": min(partial)} if partial else {}
    presets = {one["way"]: one["ratio"] for one in peers if one["ratio"] and one["peer"].startswith("evidently")}
    names = {"DataDriftPreset": "evidently", "DataDriftPreset, PSI": "evidently_psi"}
    return found | {names[way]: value for way, value in presets.items()}


if __name__ == "__main__":
    main()
