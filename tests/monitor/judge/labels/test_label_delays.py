"""Labels that come when they do in life: nothing is paged while nothing changed, and a real loss is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from stationkeeper.contracts.messages import Level, Verdict, VerdictKind
from stationkeeper.contracts.state import state_of
from stationkeeper.contracts.wire import ArmDelta, OutcomeDelta, pack, score_bin
from stationkeeper.monitor.core.performance import Maturity
from stationkeeper.monitor.core.reference import Reference, profile
from stationkeeper.monitor.core.watch import Watch
from stationkeeper.monitor.join.outcomes import outcomes_of
from stationkeeper.monitor.join.store import WAITING_ROW, Owner, Owners
from stationkeeper.monitor.judge.labels import Cohorts, CohortSlot, CohortsState
from stationkeeper.monitor.settings import DAY_MS, HOUR_MS
from stationkeeper.monitor.state_codec import freeze, thaw
from tests.monitor.rig import START, fraud

Floats = npt.NDArray[np.float64]
NEVER = np.inf
PER_HOUR, CALM, AFTER = 60, 60, 25
POSITIVE = 0.1


def world(rows: int, rng: np.random.Generator, flipped: Floats | float = 0.0) -> tuple[Floats, Floats]:
    """Score and truth: a tenth is positive, the model is wrong in about nine of a hundred, more where ``flipped``."""
    truth = (rng.random(rows) < POSITIVE).astype(float)
    score = np.where(truth > 0, rng.beta(3.0, 1.8, rows), rng.beta(1.2, 4.8, rows))
    return np.where(rng.random(rows) < flipped, 1 - score, score), truth


@cache
def known() -> Reference:
    score, truth = world(20_000, np.random.default_rng(5))
    columns = {"score": score, "truth": truth, "amount": np.random.default_rng(6).normal(0, 1, len(score))}
    return profile(columns, model="fraud", version="1", prediction="score", label="truth", salt="rig")


Delay = Callable[[Floats, Floats, Floats, np.random.Generator], Floats]
"""Hours until a label comes: of the hour of the prediction, its score and its truth; ``NEVER`` for none."""


def frauds_in_two_days_good_after_ten(hour: Floats, score: Floats, truth: Floats, rng: np.random.Generator) -> Floats:
    return np.where(truth > 0, rng.exponential(48, len(truth)), 240.0)


def positives_sooner(hour: Floats, score: Floats, truth: Floats, rng: np.random.Generator) -> Floats:
    return rng.exponential(np.where(truth > 0, 12.0, 24.0))


def alike(hour: Floats, score: Floats, truth: Floats, rng: np.random.Generator) -> Floats:
    return rng.exponential(24.0, len(truth))


def frauds_only(hour: Floats, score: Floats, truth: Floats, rng: np.random.Generator) -> Floats:
    return np.where(truth > 0, rng.exponential(48, len(truth)), NEVER)


def half_never(hour: Floats, score: Floats, truth: Floats, rng: np.random.Generator) -> Floats:
    return np.where(rng.random(len(truth)) < 0.5, rng.exponential(6.0, len(truth)), NEVER)


def nightly(hour: Floats, score: Floats, truth: Floats, rng: np.random.Generator) -> Floats:
    """Positives are loaded at two in the next night, the others a night later."""
    night = 26.0 - hour % 24
    return np.where(truth > 0, night, night + 24)


def good_slow_down(hour: Floats, score: Floats, truth: Floats, rng: np.random.Generator) -> Floats:
    """Positives come in two hours; the others in ten, and from the twentieth day on in forty."""
    return np.where(truth > 0, 2.0, np.where(hour < 20 * 24, 10.0, 40.0))


def reviewed(hour: Floats, score: Floats, truth: Floats, rng: np.random.Generator) -> Floats:
    """What was decided positive is looked at within a day, of the rest one in twenty."""
    return np.where((score >= 0.5) | (rng.random(len(truth)) < 0.05), rng.exponential(12.0, len(truth)), NEVER)


def outage(hour: Floats, score: Floats, truth: Floats, rng: np.random.Generator) -> Floats:
    """All labels come in about an hour, but those of good ones are lost for two days."""
    lost = (hour >= 30 * 24) & (hour < 32 * 24) & (truth == 0)
    return np.where(lost, NEVER, rng.exponential(1.0, len(truth)))


@dataclass
class Life:
    """What the judge made of a stream, pane by pane."""

    verdicts: list[tuple[float, Verdict]] = field(default_factory=list)
    ages: list[Maturity] = field(default_factory=list)
    judged: int = 0

    def pages(self, since: float, until: float) -> list[tuple[float, Verdict]]:
        return [(day, v) for day, v in self.verdicts if v.level is Level.PAGE and since <= day < until]


def outcomes(delay: Delay, days: int, rng: np.random.Generator) -> tuple[list[ArmDelta], list[OutcomeDelta]]:
    """Predictions and joined labels of ``days``, of which those after ``CALM`` are worse by five points."""
    rows = days * 24 * PER_HOUR
    hour = np.arange(rows) / PER_HOUR
    score, truth = world(rows, rng, np.where(hour >= CALM * 24, 0.06, 0.0))
    late = delay(hour, score, truth, rng)
    mine = np.zeros(rows, WAITING_ROW)
    mine["time"] = START + (hour * HOUR_MS).astype(np.int64)
    mine["score"], mine["decision"], mine["bin"] = score, score >= 0.5, score_bin(score)
    came = np.isfinite(late)
    label = mine[came].copy()
    label["time"] += (late[came] * HOUR_MS).astype(np.int64)
    label["label"] = truth[came]
    owners = Owners()
    owners.codes([Owner("fraud", "1", ())])
    arms = []
    for at in range(days * 24):
        part = mine[at * PER_HOUR : (at + 1) * PER_HOUR]
        bins = np.bincount(part["bin"], minlength=32)
        start, said = START + at * HOUR_MS, int(part["decision"].sum())
        arms.append(ArmDelta("fraud", "1", "", start, HOUR_MS, PER_HOUR, 0, said, 0, 0, pack(bins)))
    return arms, outcomes_of(owners, mine[came], label, HOUR_MS)


# Two tests look at one life, which takes seconds; nobody changes it.
@cache
def lived(delay: Delay, *, restarts: int = 0, **settings: Any) -> Life:
    """Sixty calm days, then days with five points more errors, through the real cohorts and watch."""
    model = fraud(pane="1h", window="1h", **settings)
    arms, found = outcomes(delay, CALM + AFTER, np.random.default_rng(1))
    by_hour: dict[int, list[OutcomeDelta]] = {}
    for one in found:
        by_hour.setdefault(one.known_at, []).append(one)
    cohorts, watch, life = Cohorts(model), Watch(known()), Life()
    labels = known().labels
    assert labels is not None
    positives = float(labels.scored[:, 1].sum() / labels.scored.sum())
    slots: dict[int, CohortSlot | None] = {}
    for at, arm in enumerate(arms):
        for _, _, pane in cohorts.close([arm], by_hour.get(arm.start, []), arm.start, positives):
            life.judged += pane.rows
            life.verdicts += [(at / 24, verdict) for verdict in watch.learn(pane).verdicts]
        life.ages.append(cohorts.maturity)
        if restarts and at % restarts == 0:
            for number, value in cohorts.changed():
                slots[number] = None if value is None else state_of(thaw(freeze(value)), CohortSlot)
            head = state_of(thaw(freeze(cohorts.state())), CohortsState)
            judged, cohorts = cohorts.judged, Cohorts(model)
            cohorts.restore(head, {number: slot for number, slot in slots.items() if slot is not None})
            cohorts.judged = judged
    return life


@pytest.mark.parametrize(
    ("delay", "settings", "age_days", "within"),
    [
        (frauds_in_two_days_good_after_ten, {}, (10, 12), 22),
        (positives_sooner, {}, (2.5, 4.1), 12),
        (alike, {}, (2.5, 4.1), 12),
        (frauds_only, {"absent_is": "negative"}, (5, 8.1), 16),
        (half_never, {}, (0.6, 1.5), 14),
        (nightly, {}, (1.9, 2.8), 12),
        (good_slow_down, {}, (1.6, 2.8), 12),
        (outage, {}, (0.2, 0.3), 10),
    ],
)
def test_sixty_calm_days_say_nothing_and_a_loss_of_five_points_is_paged(
    delay: Delay, settings: dict[str, Any], age_days: tuple[float, float], within: float
) -> None:
    life = lived(delay, **settings)
    assert life.pages(0, CALM) == []
    at_end = life.ages[CALM * 24]
    assert at_end.age is not None
    assert age_days[0] <= at_end.age / DAY_MS <= age_days[1]
    pages = life.pages(CALM, CALM + AFTER)
    assert pages
    assert pages[0][0] <= CALM + within


def test_labels_of_one_class_only_are_never_judged_unless_absence_is_declared() -> None:
    life = lived(frauds_only)
    assert (life.judged, life.verdicts) == (0, [])
    assert {m.missing for m in life.ages[48:]} == {"negative"}


def test_labels_that_come_for_some_scores_tell_of_the_concept_and_not_of_the_error_rate() -> None:
    life = lived(reviewed)
    # Before the horizon a selection cannot be told from what is still to come.
    assert {m.age for m in life.ages[: 30 * 24]} == {None}
    assert life.ages[-1].selective
    assert {v.kind for _, v in life.verdicts} == {VerdictKind.CONCEPT_DRIFT}
    assert life.pages(0, CALM) == []
    assert life.pages(CALM, CALM + AFTER)


def test_a_restart_after_any_pane_changes_nothing() -> None:
    one, other = lived(good_slow_down), lived(good_slow_down, restarts=37)
    assert other.judged == one.judged
    assert other.ages == one.ages
