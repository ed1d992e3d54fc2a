"""Hours until a loss of accuracy pages, what it is called where only the mix changed, and pages of quiet months.

``python -m benchmarks concept [--seeds 5] [--months 10]``. A calibrated model is wrong in 9 % of 1 000 rows an hour;
labels come 24 hours late. Reference: 10 000 labelled rows, then two calm weeks. Losses of 1 and 3 points by labels that
turn (``error_tolerance: 0`` and the default), a concept that changes at equal accuracy, and inputs alone that bring
harder rows. Beside it river's ADWIN on the same errors, row by row, at its default and at a tenth of it.
"""

import argparse
import sys
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from river.drift import ADWIN
from scipy.stats import poisson

from stationkeeper.contracts.messages import Level
from stationkeeper.monitor.core.performance import TOLERANCE, OutcomePane
from stationkeeper.monitor.core.reference import Reference, Task, outcome_counts
from stationkeeper.monitor.core.watch import Watch, WatchSettings
from stationkeeper.monitor.profiling import profile

HOUR_MS = 3_600_000
ROWS_AN_HOUR, DELAY_HOURS = 1_000, 24
REFERENCE_ROWS, CALM_HOURS = 10_000, 14 * 24
# A loss that no page has told of by then counts as never found.
PATIENCE_HOURS = 14 * 24
MONTH_HOURS = 30 * 24
# River's default, and a tenth of it.
DELTAS = (0.002, 0.0002)
# Log-odds with this spread around even odds are wrong in 9 % of rows where each score is right.
SPREAD = 5.9

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Law(NamedTuple):
    """What changes: ``turned`` labels, ``narrow`` the spread of log-odds, ``swap`` sureness between both answers."""

    name: str
    turned: float = 0.0
    narrow: float = 1.0
    swap: bool = False


# Of labels turned at random, a share f of rows makes 9 % wrong into 9 % + .82 f.
LAWS = (
    Law("-1 point", turned=0.01 / 0.82),
    Law("-3 points", turned=0.03 / 0.82),
    Law("equal accuracy, another concept", swap=True),
    Law("harder inputs alone, -3 points", narrow=0.74),
)


def draw(rng: np.random.Generator, rows: int, law: Law | None = None) -> tuple[Floats, Flags]:
    """Return scores and labels."""
    law = law or Law("nothing")
    odds = rng.normal(0.0, SPREAD * law.narrow, rows)
    share = 1 / (1 + np.exp(-odds))
    if law.swap:
        # Rows called positive grow surer by what rows called negative grow less sure: as many are wrong as before.
        share = np.where(odds > 0, share + 0.3 * (1 - share), share + 0.3 * share)
    truth = rng.random(rows) < share
    return 1 / (1 + np.exp(-odds)), truth ^ (rng.random(rows) < law.turned)


def reference_of(seed: int) -> Reference:
    """Return a labelled reference."""
    score, truth = draw(np.random.default_rng([seed, 0]), REFERENCE_ROWS)
    return profile({"score": score, "label": 1.0 * truth}, prediction="score", label="label", ordered=True)


class Told(NamedTuple):
    """Hours from the change to the first page, its kind and sentence, pages before; ADWIN's hours and calm alarms."""

    hours: float
    kind: str
    reason: str
    before: int
    adwin: tuple[float, ...]
    adwin_before: tuple[int, ...]


def watch(seed: int, tolerance: float, law: Law | None, hours: int) -> Told:
    """Learn hour after hour of labels: the calm weeks, then ``hours`` of a law."""
    rng = np.random.default_rng([seed, 1])
    watched = Watch(reference_of(seed), settings=WatchSettings(error_tolerance=tolerance))
    # The peers know no tolerance, so that they need not run twice.
    peers = [ADWIN(delta=delta) for delta in DELTAS] if law is not None and not tolerance else []
    alarms, early = [np.inf] * len(peers), [0] * len(peers)
    first, kind, reason, before = np.inf, "", "", 0
    for at in range(CALM_HOURS + hours):
        changed = law is not None and at >= CALM_HOURS
        score, truth = draw(rng, ROWS_AN_HOUR, law if changed else None)
        scored, confusion, _ = outcome_counts(
            score, 1.0 * truth, Task.BINARY, 0.5, "1", np.zeros(len(score), np.int64), 1
        )
        start = (at + DELAY_HOURS) * HOUR_MS
        pane = OutcomePane(start, start + HOUR_MS, scored[0], confusion[0])
        since = at + DELAY_HOURS + 1 - CALM_HOURS
        for verdict in watched.learn(pane).verdicts:
            if verdict.level is not Level.PAGE:
                continue
            before += not changed
            if changed and since < first:
                first, kind, reason = since, verdict.kind.value, str(verdict.reason)
        for i, peer in enumerate(peers):
            for wrong in ((score >= 0.5) != truth).tolist():
                peer.update(wrong)
                if peer.drift_detected:
                    early[i] += not changed
                    alarms[i] = min(alarms[i], since if changed else np.inf)
        if changed and np.isfinite(first) and all(np.isfinite(alarms)):
            break
    return Told(first, kind, reason, before, tuple(alarms), tuple(early))


def main() -> int:
    """Print delays, then quiet months; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks concept", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--months", type=int, default=10)
    chosen = parser.parse_args()
    held, bars = True, {"-1 point": 72.0, "-3 points": 36.0}
    print(
        "| change | error_tolerance | page, hours: median, slowest | called | pages in the calm weeks | "
        "ADWIN .002: hours, alarms in the calm weeks | ADWIN .0002 | it says |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for law in LAWS:
        for tolerance in (0.0, TOLERANCE):
            told = [watch(seed, tolerance, law, PATIENCE_HOURS) for seed in range(chosen.seeds)]
            hours = np.array([one.hours for one in told])
            peers = ["", ""]
            if not tolerance:
                late, early = (np.array([getattr(one, name) for one in told]) for name in ("adwin", "adwin_before"))
                peers = [f"{np.median(late[:, i]):.0f}, {early[:, i].sum()}" for i in range(len(DELTAS))]
            called = ", ".join(sorted({one.kind for one in told} - {""})) or "-"
            print(
                f"| {law.name} | {tolerance:g} | {np.median(hours):.0f}, {hours.max():.0f} | {called} | "
                f"{sum(one.before for one in told)} | {peers[0]} | {peers[1]} | {told[0].reason} |",
                flush=True,
            )
            held &= tolerance > 0 or float(np.median(hours)) <= bars.get(law.name, np.inf)
    for tolerance in (0.0, TOLERANCE):
        pages = sum(watch(100 + seed, tolerance, None, MONTH_HOURS).before for seed in range(chosen.months))
        limit = int(poisson.ppf(0.95, chosen.months * (CALM_HOURS + MONTH_HOURS) / MONTH_HOURS))
        print(f"{chosen.months} quiet spans of 44 days, error_tolerance {tolerance:g}: {pages} pages (limit {limit})")
        held &= pages <= limit
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
