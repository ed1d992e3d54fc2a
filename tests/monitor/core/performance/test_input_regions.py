"""A score that means something else in a part of the inputs is found and named, also where errors and scores stay."""

from dataclasses import replace

import numpy as np
import pytest

from stationkeeper.contracts.column import numbers
from stationkeeper.contracts.messages import Level, Verdict, VerdictKind
from stationkeeper.contracts.wire import score_bin
from stationkeeper.monitor.core.budget import parse_budget
from stationkeeper.monitor.core.performance import CALIBRATION_BY_INPUT, OutcomePane, explain_by_input, region_table
from stationkeeper.monitor.core.reference import Labels, OutcomeSums, Reference, dump, load, profile, regions_by_group
from stationkeeper.monitor.core.watch import Watch, WatchSettings

HOUR = 3_600_000


def rows(rng: np.random.Generator, n: int, other: float = 0.0, shift: float = 0.0) -> dict[str, np.ndarray]:
    """A score of two features, and truths at its odds.

    ``other`` is by how much the truth of rows with a larger x than their score lets expect is more often positive, and
    of those with a smaller x less often: at each score, and so of all errors, that cancels.
    """
    x, y = rng.normal(shift, 1.0, n), rng.normal(0.0, 1.0, n)
    odds = 1.2 * x + 0.8 * y
    score = 1 / (1 + np.exp(-odds))
    usual = 1.2 / (1.2**2 + 0.8**2) * odds
    moved = score + np.minimum(other, np.minimum(score, 1 - score)) * np.sign(x - usual)
    truth = (rng.random(n) < moved).astype(int)
    return {"x": x, "y": y, "noise": rng.normal(size=n), "score": score, "label": truth}


def reference(rng: np.random.Generator, n: int = 10_000) -> Reference:
    made = profile(rows(rng, n), prediction="score", label="label", salt="s")
    # Rows are independent here, and the reference says so: nothing has to be learned before.
    return replace(made, subjects=tuple(replace(one, phi=np.ones(len(one.phi))) for one in made.subjects))


def labelled(made: Reference, columns: dict[str, np.ndarray], at: int) -> OutcomePane:
    known = profile(columns, prediction="score", label="label", salt="s").labels
    assert known is not None
    assert made.regions is not None
    inputs = {name: numbers(columns[name]) for name in ("x", "y")}
    bins, truth = score_bin(columns["score"]), columns["label"].astype(np.int64)
    region = made.regions.codes(inputs, len(truth))
    sums = regions_by_group(region, bins, truth, np.zeros(len(truth), np.int64), 1)[0]
    return OutcomePane(at, at + HOUR, known.scored, known.confusion, regions=sums.regions)


def played(made: Reference, hours: int, *, seed: int, other: float = 0.0, shift: float = 0.0) -> list[Verdict]:
    rng = np.random.default_rng(seed)
    settings = WatchSettings(budget=parse_budget("1 per 30 days"), adoption=None, error_tolerance=0.0)
    watch = Watch(made, settings=settings)
    found: list[Verdict] = []
    for hour in range(hours):
        pane = labelled(made, rows(rng, 300, other, shift), hour * HOUR)
        found += watch.learn(pane).verdicts
        if hour == hours // 2:
            again = Watch(made, settings=settings)
            again.restore(watch.state())
            watch = again
    return found


def test_the_features_that_tell_most_of_the_answer_are_chosen_and_kept_in_the_file():
    rng = np.random.default_rng(1)
    made = reference(rng)
    assert made.regions is not None
    assert [side.feature for side in made.regions.sides] == ["x", "y"]
    assert made.regions.names()[:2] == ["x in its lowest quarter", "x in its second quarter"]
    again = load(dump(made))
    assert again.digest == made.digest
    assert again.regions is not None
    assert made.labels is not None
    assert again.labels is not None
    column = numbers(np.array([-9.0, 0.0, 9.0, np.nan]))
    assert again.regions.codes({"x": column}, 4).tolist() == made.regions.codes({"x": column}, 4).tolist()
    assert made.regions.codes({"x": column}, 4).tolist()[::2] == [1, 4]
    assert made.regions.codes({"x": column}, 4).tolist()[3] == 0
    assert np.array_equal(again.labels.sums.regions, made.labels.sums.regions)
    # Every labelled row counts once in each feature.
    assert made.labels.sums.regions.sum((1, 2, 3)).tolist() == [10_000, 10_000, 0]


def test_rows_by_region_by_hand():
    at = np.array([22, 0]), np.array([4, 5]), np.array([1, 0]), np.zeros(2, np.int64)
    (sums,) = regions_by_group(*at, 1)
    assert np.argwhere(sums.regions).tolist() == [[0, 1, 4, 1], [1, 3, 4, 1]]
    assert not sums.without_curves().regions.any()


def test_a_cell_by_hand():
    table = np.zeros((3, 4, 32, 2), np.int64)
    table[1, 2, 4] = 59, 41
    scored = np.zeros((32, 2), np.int64)
    scored[4] = 59, 41
    sums = OutcomeSums.of(np.flatnonzero(table) + 2_560, table[table > 0])
    labels = Labels(scored, np.array([0, 0, 41, 59]), sums=sums)
    # The score bins below and above the one with rows are regions of their own.
    assert region_table(labels).shape == (3, 4, 3, 2)
    now = np.zeros((3, 4, 3, 2), np.int64)
    now[1, 2, 1] = 38, 62
    text, change, _ = explain_by_input(labels, now, 6 * 3 + 1, "y in its third quarter")
    assert text == "y in its third quarter: positive in 62.0% of 100 labelled rows, 41.0% on the reference"
    assert change == pytest.approx(0.21)


def test_what_cancels_on_the_whole_is_found_and_named_by_the_feature():
    made = reference(np.random.default_rng(2))
    found = played(made, 60, seed=3, other=0.25)
    pages = [one for one in found if one.level is Level.PAGE]
    assert [(one.subject.name, one.kind) for one in pages] == [(CALIBRATION_BY_INPUT, VerdictKind.CONCEPT_DRIFT)]
    assert "x in its" in pages[0].reason
    assert "labelled rows" in pages[0].reason
    # Scores and errors on the whole say nothing: the change is even about both.
    assert {one.subject.name for one in found if one.level is not Level.INFORM} == {CALIBRATION_BY_INPUT}
    assert not [one for one in found if one.kind is VerdictKind.RECOVERED]


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_without_another_concept_nothing_is_said_also_of_other_inputs(shift: float):
    made = reference(np.random.default_rng(4))
    found = [one for seed in range(3) for one in played(made, 240, seed=10 + seed, shift=shift)]
    assert not [one for one in found if one.subject.name == CALIBRATION_BY_INPUT and one.level is Level.PAGE]


def test_it_closes_when_the_feature_means_again_what_it_did():
    made = reference(np.random.default_rng(5))
    rng = np.random.default_rng(6)
    watch = Watch(made, settings=WatchSettings(budget=parse_budget("1 per 30 days"), adoption=None))
    kinds = []
    for hour in range(160):
        pane = labelled(made, rows(rng, 300, 0.25 if hour < 60 else 0.0), hour * HOUR)
        kinds += [(hour, one.kind) for one in watch.learn(pane).verdicts]
    assert [hour for hour, kind in kinds if kind is VerdictKind.RECOVERED]
    assert not watch.incidents()
