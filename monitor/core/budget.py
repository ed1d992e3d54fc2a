"""The false-page budget: one sentence from the user, split over everything a model is watched for."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# From docs/statistics.md: features are many and carry most news; half of a share costs log 2 = .7 nats, which is a few
# per cent of the 16 nats that a page of 300 features needs. Groups that a model lacks leave their share to the others.
# Pairs of features take a twentieth on top, which costs each other group log 1.05 = .05 nats: a relation that turns is
# found within the hour at any share.
SHARES: Mapping[str, float] = {
    "features": 0.35,
    "prediction": 0.15,
    "joint": 0.05,
    "label_shift": 0.05,
    "fairness": 0.05,
    "performance": 0.20,
    "quality": 0.20,
    "volume": 0.10,
}
"""Share of the budget of each group of subjects; performance includes concept drift. They sum to 1 without "joint",
"label_shift" and "fairness", which take a twentieth each on top where a model has them: each costs the other groups .05
nats."""

# The share of rows that may change cell without being drift: a mean shift of .05 sd (TV 2 Phi(d / 2) - 1). Twice as
# much would hide .1 sd. One number for the watch, the backtest and the power card, which promises what a watch finds.
EFFECT_FLOOR = 0.02

# A level ten times as cheap as the next comes 2.3 nats (log 10) earlier. Chosen: at 2 a warning would come with its
# page, at 100 a month of "1 per 30 days" would bring three warnings a day.
LEVELS: Mapping[str, float] = {"page": 1.0, "warn": 10.0, "inform": 100.0}
"""How many times the page budget each level may spend."""

WARNINGS_A_PAGE = 30 / 7
"""False warnings allowed for each false page unless ``false_warnings`` says otherwise: one a week beside one page in 30
days. A week is how often a person looks at a dashboard that nobody is called for; at a day, real warnings drown."""

# Minutes in each unit a budget may name; a month is 30 days, as in "1 per 30 days".
_MINUTES = {"minute": 1.0, "hour": 60.0, "day": 1440.0, "week": 10080.0, "month": 43200.0}
_SENTENCE = re.compile(
    r"^\s*(?P<pages>\d+(?:\.\d+)?)\s*(?:false\s+)?(?:pages?\s+)?(?:per|every|in|/)\s*"
    r"(?P<length>\d[\d_,]*(?:\.\d+)?)?\s*(?P<unit>[a-z]+?)s?\s*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Budget:
    """At most `pages` false pages, on average, in every `period` units of the clock ("minutes" or "rows")."""

    pages: float
    period: float
    clock: str

    @property
    def alpha(self) -> float:
        """False pages allowed per unit of the clock.  By hand: 1 per 30 days is 1/43200 a minute."""
        return self.pages / self.period

    def elapsed(self, rows: int, milliseconds: int) -> float:
        """What a pane of this many rows and this length adds to the clock."""
        return float(rows) if self.clock == "rows" else milliseconds / 60_000

    def __str__(self) -> str:
        if self.clock == "rows":
            return f"{self.pages:g} per {self.period:.0f} rows"
        unit, minutes = next(
            (
                (u, m)
                for u, m in sorted(_MINUTES.items(), key=lambda x: -x[1])
                # Days, not months: "1 per 30 days" is how people write it.
                if u != "month" and self.period >= m and self.period % m == 0
            ),
            ("minute", 1.0),
        )
        count = self.period / minutes
        return f"{self.pages:g} per {count:g} {unit}{'' if count == 1 else 's'}"


def parse_budget(text: str) -> Budget:
    """Read a budget such as "1 per 30 days", "2 every week" or "1 per 1000000 rows".

    Raises ValueError that shows the text and the accepted form.
    """
    match = _SENTENCE.match(text)
    accepted = '"1 per 30 days", "1 per 12 hours" or "1 per 1000000 rows"'
    if not match:
        raise ValueError(f"false-page budget {text!r} is not understood; write {accepted}")
    pages = float(match["pages"])
    length = float((match["length"] or "1").replace(",", "").replace("_", ""))
    unit = match["unit"].lower()
    units = ", ".join([*(u + "s" for u in _MINUTES), "rows"])
    if unit not in ("row", "event") and unit not in _MINUTES:
        raise ValueError(f"false-page budget {text!r}: unit {match['unit']!r} is not one of {units}; write {accepted}")
    if pages <= 0 or length <= 0:
        raise ValueError(f"false-page budget {text!r}: both numbers must be above 0; write {accepted}")
    if unit in ("row", "event"):
        return Budget(pages, length, "rows")
    return Budget(pages, length * _MINUTES[unit], "minutes")


def split_alpha(alpha: float, groups: Sequence[str], segments: Sequence[str]) -> dict[tuple[str, str], float]:
    """Alpha of every (group, segment): by SHARES over the groups present, half of each to the global segment "".

    The other segments share the other half evenly; without others the global segment gets all.  The values sum to
    alpha, so by linearity all pages of the model together keep the budget, whatever depends on what.  Raises ValueError
    for an unknown group.
    """
    unknown = sorted(set(groups) - set(SHARES))
    if unknown:
        raise ValueError(f"unknown group {unknown[0]!r} in the false-page budget; groups are {', '.join(SHARES)}")
    # Groups that a model lacks give their share to the others in proportion, so that alpha is always spent whole.
    total = sum(SHARES[g] for g in groups)
    others = [s for s in segments if s]
    alphas: dict[tuple[str, str], float] = {}
    for group in groups:
        share = alpha * SHARES[group] / total
        # Half: all traffic then needs log 2 = .7 nats more than alone, however many segments there are. An even part
        # for each would cost it log 201 = 5.3 beside two hundred.
        alphas[group, ""] = share / 2 if others else share
        for segment in others:
            alphas[group, segment] = share / 2 / len(others)
    return alphas


def log_thresholds(alpha: float, importance: ArrayLike, detectors: ArrayLike = 1) -> Floats:
    """log of the e-SR value at which each of F subjects pages: log(F detectors / (alpha w')), w' = importance / mean.

    detectors [F] is how many e-detectors watch the subject side by side (2: conformal and fixed reference), each with
    its own reset.  Between resets M_t - t is a supermartingale in units of the clock, so the expected number of false
    pages by time T is at most sum_f alpha w'_f / F * T = alpha T (Shin, Ramdas and Rinaldo, arXiv 2203.03532).
    By hand: 300 equal subjects, alpha = 1/43200, one e-detector: log(300 * 43200) = 16.38.
    """
    weight = np.asarray(importance, np.float64)
    if weight.ndim != 1 or weight.size == 0 or not (weight > 0).all():
        raise ValueError("importance must be a list of numbers above 0, one for each subject")
    relative = weight / weight.mean()
    return np.asarray(np.log(weight.size * np.asarray(detectors, np.float64) / (alpha * relative)), np.float64)


def level_of(log_score: Floats | np.float64, log_threshold: Floats | np.float64) -> NDArray[np.int8]:
    """Level reached by each subject: 0 none, 1 inform, 2 warn, 3 page."""
    # From the cheapest level up: a later one overwrites, so that each subject keeps the highest it reached.
    level = np.zeros(np.shape(log_score), np.int8)
    for rank, factor in enumerate(sorted(LEVELS.values(), reverse=True), start=1):
        level[log_score >= log_threshold - math.log(factor)] = rank
    return level
