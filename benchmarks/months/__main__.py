"""Pages and warnings of months without drift, by the default budgets, and hours until shifts among seasons page.

``python -m benchmarks months [--months 100] [--first 0] [--delays-only]``. A month follows four weeks of reference, an
hour a pane: two numbers, a category and a score whose mixes have a rhythm of the day and of the week, days that move by
.05 sd, about 100 rows an hour, fewer at night and on weekends. Of every four months one has a holiday (a working day
with the weekend's rows), one brings all rows of a day in one hour. Shifts are of 300 rows an hour, weekends .5 sd
higher, after two weeks of reference that `profile` learned, or an adoption period.
"""

import argparse
import sys
from collections import Counter

import numpy as np
from scipy.stats import poisson

from benchmarks.detection.world import Floats
from stationkeeper.contracts.column import Column, categories, numbers
from stationkeeper.contracts.messages import Level, Verdict
from stationkeeper.monitor.core.budget import WARNINGS_A_PAGE
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.reference import Reference
from stationkeeper.monitor.core.watch import Watch, WatchSettings
from stationkeeper.monitor.profiling import profile

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# 2001-01-01 00:00 UTC.
MONDAY_MS = 978_307_200_000
REFERENCE_DAYS, MONTH_DAYS = 28, 30
KINDS = ("usual", "usual", "holiday", "one burst a day")
Columns = dict[str, np.ndarray]


class Traffic:
    """Rows of one stream by hour; ``weekend`` and ``night`` are its rhythms, in standard deviations."""

    def __init__(self, seed: int, kind: str) -> None:
        self.rng = np.random.default_rng([seed, 11])
        self.kind = kind
        days = REFERENCE_DAYS + MONTH_DAYS
        self.moves: Floats = self.rng.normal(size=(days, 3)) * 0.05
        self.holiday = REFERENCE_DAYS + int(self.rng.integers(MONTH_DAYS)) if kind == "holiday" else -1
        while self.holiday >= 0 and self.holiday % 7 >= 5:
            self.holiday += 1
        # A stream that the weekday decides strongly is another than one that hardly knows it.
        self.weekend, self.night = self.rng.uniform(0.1, 0.6, 2)

    def hour(self, at: int) -> Columns:
        """Return the rows of an hour since the first Monday."""
        day, clock = divmod(at, 24)
        free = day % 7 >= 5 or day == self.holiday
        usual = 100 * (0.6 if free else 1.0)
        if self.kind == "one burst a day":
            rows = int(self.rng.poisson(24 * usual)) if clock == 3 else 0
        else:
            rows = int(self.rng.poisson(usual * (0.2 if clock < 6 else 1.2)))
        swing = self.night * np.sin(2 * np.pi * clock / 24)
        x = self.rng.normal(size=rows) + swing + self.weekend * free + self.moves[day, 0]
        amount = np.exp(0.8 * self.rng.normal(size=rows) + 0.3 * swing + 0.8 * self.moves[day, 1])
        shares = np.array([0.5, 0.25, 0.15, 0.07, 0.03]) * np.exp(
            np.array([0, 1, 0, -1, 0]) * (swing + self.weekend * free + self.moves[day, 2])
        )
        city = np.array(["a", "b", "c", "d", "e"], object)[self.rng.choice(5, rows, p=shares / shares.sum())]
        score = 1 / (1 + np.exp(-(0.7 * x + 0.7 * self.rng.normal(size=rows) - 1)))
        return {"x": x, "amount": amount, "city": city, "score": score}


def pane(reference: Reference, at: int, columns: Columns) -> Pane:
    """Return the closed pane of an hour since the first Monday."""
    rows = len(next(iter(columns.values())))
    read: dict[str, Column] = {}
    for name, values in columns.items():
        subject = "prediction" if name == "score" else name
        read[subject] = categories(values) if values.dtype == object else numbers(values)
    (vector,) = reference.layout.tally(read, np.zeros(rows, np.int64), np.array([rows]))
    return Pane(MONDAY_MS + at * HOUR_MS, HOUR_MS, rows, vector)


def month(seed: int, kind: str) -> list[Verdict]:
    """Return what is said in a month without drift."""
    traffic = Traffic(seed, kind)
    past = [traffic.hour(at) for at in range(REFERENCE_DAYS * 24)]
    times = np.concatenate([np.full(len(c["x"]), MONDAY_MS + at * HOUR_MS) for at, c in enumerate(past)])
    data = {name: np.concatenate([c[name] for c in past]) for name in past[0]}
    reference = profile({**data, "time": times}, time="time", pane="1h", prediction="score")
    watch = Watch(reference, settings=WatchSettings(learn_traffic=14 * DAY_MS))
    said: list[Verdict] = []
    for at in range(REFERENCE_DAYS * 24, (REFERENCE_DAYS + MONTH_DAYS) * 24):
        said += watch.step(pane(reference, at, traffic.hour(at))).verdicts
    return said


def delay(shift: float, seed: int, *, adopted: bool, move: float) -> int | None:
    """Return the hours until a shift pages that begins within the week after the reference; None: not in nine days."""
    rng = np.random.default_rng([seed, 12])
    rows, first = 300, 14 * 24
    days = rng.normal(size=14 + 7 + 9) * move

    def hour(at: int) -> Floats:
        return np.asarray(rng.normal(size=rows) + 0.5 * (at // 24 % 7 >= 5) + days[at // 24], np.float64)

    past = [hour(at) for at in range(first)]
    settings = WatchSettings()
    if adopted:
        reference = profile({"x": rng.permutation(np.concatenate(past))})
        watch = Watch(reference, settings=WatchSettings(adoption=14 * DAY_MS))
        for at, values in enumerate(past):
            watch.step(pane(reference, at, {"x": values}))
    else:
        times = MONDAY_MS + np.repeat(np.arange(first), rows) * HOUR_MS
        reference = profile({"x": np.concatenate(past), "time": times}, time="time", pane="1h")
        watch = Watch(reference, settings=settings)
    onset = first + int(rng.integers(1, 7 * 24))
    for at in range(first, onset + 9 * 24):
        said = watch.step(pane(reference, at, {"x": hour(at) + shift * (at >= onset)})).verdicts
        if any(verdict.level is Level.PAGE for verdict in said):
            return at + 1 - onset
    return None


def delays(seeds: int) -> None:
    """Print hours to a page by shift; a page before the shift counts as negative hours."""
    print("\n| reference | days move by | shift | found | before | median hours | slowest |")
    print("|---|---|---|---|---|---|---|")
    for adopted in (False, True):
        for move in (0.0, 0.05):
            for shift in (0.25, 0.5):
                got = [delay(shift, seed, adopted=adopted, move=move) for seed in range(seeds)]
                late = [float(hours) if hours is not None else np.inf for hours in got if hours is None or hours > 0]
                found = sum(np.isfinite(late))
                name = "adoption of 14 days" if adopted else "profile of 14 days"
                print(
                    f"| {name} | {move:g} sd | {shift:g} sd | {found} of {seeds} | {seeds - len(late)} | "
                    f"{np.median(late):.0f} | {max(late):.0f} |",
                    flush=True,
                )


def main() -> int:
    """Print both tables; 1 where a budget does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks months", description=__doc__)
    parser.add_argument("--months", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=10, help="seeds of each shift")
    parser.add_argument("--delays-only", action="store_true", help="the shifts alone")
    chosen = parser.parse_args()
    held = True
    if not chosen.delays_only:
        print("| months | number | pages | at most (95 %) | warnings | at most (95 %) | what paged |")
        print("|---|---|---|---|---|---|---|")
        said: dict[str, list[list[Verdict]]] = {}
        for seed in range(chosen.first, chosen.first + chosen.months):
            kind = KINDS[seed % len(KINDS)]
            said.setdefault(kind, []).append(month(seed, kind))
        said["all"] = [one for group in said.values() for one in group]
        for kind, months in said.items():
            pages, warnings = ([v for one in months for v in one if v.level is w] for w in (Level.PAGE, Level.WARN))
            limits = [int(poisson.ppf(0.95, len(months) * each)) for each in (1.0, WARNINGS_A_PAGE)]
            what = Counter(f"{page.kind.value} {page.subject.name}" for page in pages)
            text = ", ".join(f"{number} {name}" for name, number in what.most_common(4)) or "-"
            print(f"| {kind} | {len(months)} | {len(pages)} | {limits[0]} | {len(warnings)} | {limits[1]} | {text} |")
            held &= len(pages) <= limits[0] and len(warnings) <= limits[1]
    delays(chosen.seeds)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
