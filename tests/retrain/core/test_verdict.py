"""What forbids a challenger that is better on the whole, and what is not evidence of anything."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stationkeeper.contracts.messages import GateOutcome
from stationkeeper.retrain.core.gate import GateVerdict
from stationkeeper.retrain.core.segments import SegmentRules, holm
from stationkeeper.retrain.core.verdict import Compared, _ignorance, judge
from stationkeeper.retrain.settings import RetrainSettings

RULES = replace(RetrainSettings().gate_rules(), replicates=500, min_rows=100, min_positives=10, seed=0)
SEGMENTS = RetrainSettings().segment_rules()
PASS, FAIL, NO_EVIDENCE = GateOutcome.PASS, GateOutcome.FAIL, GateOutcome.NO_EVIDENCE


def scores(labels: np.ndarray, skill: float, rng: np.random.Generator) -> np.ndarray:
    """Return the probabilities of a model that sees the label through noise, calibrated."""
    seen = skill * labels + rng.normal(0, 1, len(labels))
    # Two normals of equal spread: the log odds are linear in what is seen.
    odds = np.log(0.2 / 0.8) + skill * seen - skill**2 / 2
    return np.asarray(1 / (1 + np.exp(-odds)))


def compared(seed: int = 1, n: int = 4_000, old: float = 1.0, new: float = 3.0, **changes: Any) -> Compared:
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.2
    region = np.where(rng.random(n) < 0.08, "small", "large")
    facts = Compared(
        task="binary",
        labels=labels.astype(float),
        champion=scores(labels, old, rng),
        challenger=scores(labels, new, rng),
        after=np.arange(n) >= n // 3,
        groups={"region": region},
    )
    return replace(facts, **changes)


def judged(one: Compared, rules: SegmentRules = SEGMENTS, **limits: float) -> GateVerdict:
    return judge(one, RULES, rules, limits)


def test_a_better_challenger_that_is_random_in_a_small_segment_never_passes():
    unseen = 0
    for seed in range(20):
        one = compared(seed, old=2.0)
        blind = np.where(one.groups["region"] == "small", np.random.default_rng(seed).random(4_000), one.challenger)
        assert judged(one).outcome is PASS
        found = judged(replace(one, challenger=blind))
        assert found.outcome is FAIL
        assert "worse in segment region=small" in found.reason
        unseen += judged(replace(one, challenger=blind, groups={})).outcome is PASS
    # Without its segments most of them went out.
    assert unseen >= 10


def test_a_world_that_turned_round_is_learnt_although_the_rows_before_it_are_answered_wrongly():
    """Held out are rows before the change, too, on which every model of the new world is wrong."""
    told = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels, after = rng.random(1_800) < 0.5, np.arange(1_800) >= 900
        region = rng.choice(["north", "south", "west"], 1_800, p=[0.5, 0.3, 0.2])
        seen = np.where(labels, 1.0, -1.0) * np.where(after & (region != "west"), -1.0, 1.0) + rng.normal(0, 0.7, 1_800)
        # The west stays as it was, and both know it; elsewhere the champion knows the world before, the challenger the
        # one since, and that one better.
        old = 1 / (1 + np.exp(-seen))
        new = 1 / (1 + np.exp(-2.5 * np.where(region == "west", seen, -seen)))
        one = Compared("binary", labels.astype(float), old, new, after, groups={"region": region})
        assert "worse in segment" not in judged(one).reason
        # A segment that is excused is said to be, with the numbers of both.
        passed = judge(one, replace(RULES, margin=0.5), SEGMENTS, {})
        assert passed.outcome is PASS
        excused = any(found["p"] <= RULES.alpha / RULES.looks for found in passed.numbers["segments"])
        assert ("none of 3 segments worse since the change; before it region=" in passed.reason) is excused
        told += excused
        blind = np.where(region == "west", rng.random(1_800), new)
        assert "worse in segment region=west" in judged(replace(one, challenger=blind)).reason
    assert told


def test_equal_models_do_no_harm_to_any_of_many_segments():
    harmed = 0
    for seed in range(40):
        one = compared(seed, n=3_000, old=2.0, new=2.0)
        texts = np.random.default_rng(seed).integers(0, 15, (4, 3_000)).astype(str)
        found = judged(replace(one, groups={f"d{place}": column for place, column in enumerate(texts)}))
        harmed += "worse in segment" in found.reason
    # alpha over four looks is .0125 a judgement; three of forty have a chance below .002.
    assert harmed <= 2


def test_holm_by_hand():
    # Sorted .01, .02, .04 times 3, 2, 1, and never falling: .03, .04, .04.
    assert holm(np.array([0.04, 0.01, 0.02])) == pytest.approx([0.04, 0.03, 0.04])
    assert holm(np.array([0.9, 0.8])) == pytest.approx([1.0, 1.0])
    assert holm(np.array([])).tolist() == []


def test_a_model_that_gives_no_number_proves_nothing():
    one = compared()
    silent = one.challenger.copy()
    silent[7] = np.nan
    found = judged(replace(one, challenger=silent))
    assert (found.outcome, found.reason) == (FAIL, "the challenger answers no number on 1 of 4000 held-out rows")
    assert judged(replace(one, champion=np.full(4_000, np.nan))).outcome is NO_EVIDENCE


def test_a_gap_between_protected_groups_forbids_what_is_better_on_the_whole():
    one = compared(n=8_000, groups={"sex": np.where(np.arange(8_000) % 2 == 0, "f", "m")})
    asked = replace(SEGMENTS, protected=("sex",))
    fair = judged(one, asked)
    assert fair.outcome is PASS
    assert [gap["name"] for gap in fair.numbers["protected"]["sex"]] == [
        "true positive rate",
        "false positive rate",
        "approval rate",
    ]
    # Every alert about m is dropped: it hardly changes the loss, and the rates lie far apart.
    unfair = np.where((one.groups["sex"] == "m") & (one.challenger >= 0.5), 0.49, one.challenger)
    found = judged(replace(one, challenger=unfair, champion=np.full(8_000, 0.2)), asked)
    assert found.outcome is FAIL
    assert "protected sex: wider gap of the true positive rate" in found.reason


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"groups": {}}, "protected sex: no held-out row carries it"),
        ({"groups": {"sex": np.array(["f"] * 3_999 + ["m"])}}, "protected sex=m: "),
        ({"groups": {"sex": np.array(["f"] * 4_000)}}, "protected sex=f: the only group"),
    ],
    ids=["absent", "too few", "one group alone"],
)
def test_a_protected_group_that_was_not_measured_never_passes(changes: dict[str, Any], says: str):
    found = judged(compared(**changes), replace(SEGMENTS, protected=("sex",)))
    assert found.outcome is NO_EVIDENCE
    assert says in found.reason


def test_a_gap_that_resampling_cannot_tell_never_passes():
    """Positives in one burst: some resamples hold none of a group, and their rates are no numbers."""
    rng = np.random.default_rng(3)
    n, burst = 12_000, slice(0, 240)
    labels = np.zeros(n)
    labels[burst] = 1.0
    sex = np.where(np.arange(n) % 2 == 0, "f", "m")
    old = np.where(labels == 1.0, rng.uniform(0.4, 0.95, n), rng.uniform(0.0, 0.3, n))
    new = np.where(labels == 1.0, rng.uniform(0.6, 0.99, n), rng.uniform(0.0, 0.1, n))
    # A third of one group's frauds is no longer seen.
    new[burst] = np.where((sex[burst] == "m") & (rng.random(240) < 0.35), 0.45, new[burst])
    one = Compared("binary", labels, old, new, np.ones(n, bool), groups={"sex": sex})
    found = judged(one, replace(SEGMENTS, protected=("sex",)))
    assert found.outcome is NO_EVIDENCE
    assert "inf)" in found.reason


def test_without_a_row_there_is_no_evidence():
    none = Compared("binary", np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, bool))
    assert judged(none).outcome is NO_EVIDENCE


def test_limits_are_held_and_one_that_was_not_measured_never_passes():
    measured = {"p99_ms": 4.0, "load_ms": 30.0, "onnx_bytes": 1e6}
    one = compared(measured=measured)
    assert judged(one, p99_ms=5.0, load_ms=50.0, onnx_bytes=2e6, calibration_error=0.1).outcome is PASS
    found = judged(one, p99_ms=3.0)
    assert (found.outcome, found.reason.split(";")[0]) == (FAIL, "p99_ms is 4, the limit is 3")
    assert judged(replace(one, measured={}), p99_ms=5.0).outcome is NO_EVIDENCE
    # Every second row is told half too much.
    sure = np.where(np.arange(4_000) % 2 == 0, np.clip(one.challenger + 0.5, 0, 1), one.challenger)
    assert "calibration_error is 0.2" in judged(replace(one, challenger=sure), calibration_error=0.1).reason


def test_an_input_that_means_another_thing_is_refused():
    found = judged(compared(schema=("feature age is categorical, was numeric",)))
    assert (found.outcome, found.reason.split(";")[0]) == (FAIL, "feature age is categorical, was numeric")


def classes_of(labels: np.ndarray, skill: float, seed: int) -> np.ndarray:
    seen = np.random.default_rng(seed).normal(0, 1, (len(labels), 3))
    seen[np.arange(len(labels)), labels] += skill
    odds = np.exp(skill * seen)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def test_models_of_several_classes_are_judged():
    labels = np.random.default_rng(3).choice(3, 3_000, p=[0.7, 0.2, 0.1])
    weak, strong = classes_of(labels, 1.0, 4), classes_of(labels, 3.0, 5)
    one = compared(n=3_000, task="multiclass", labels=labels.astype(float), champion=weak, challenger=strong)
    better = judged(one)
    assert better.outcome is PASS
    assert better.numbers["challenger_after"]["accuracy"] > better.numbers["champion_after"]["accuracy"]
    assert judged(replace(one, champion=strong, challenger=weak)).outcome is FAIL
    assert judged(replace(one, champion=strong, challenger=strong)).outcome is NO_EVIDENCE
    # One class of three has no answer: the loss shows it in the segment that it is.
    blind = np.where((labels == 2)[:, None], np.array([0.98, 0.01, 0.01]), strong)
    found = judged(replace(one, challenger=blind, champion=strong, groups={"class": labels.astype(str)}))
    assert "worse in segment class=2" in found.reason


def test_the_comparison_is_the_first_of_several_reasons():
    """A reason is a line of a log, and cut after a few: the last to be left out is what the gate is for."""
    worse = compared(old=3.0, new=0.2, schema=tuple(f"input {name} means something else" for name in "abcde"))
    overall = judged(replace(worse, schema=())).reason.partition(";")[0]
    found = judged(worse)
    assert found.outcome is FAIL
    assert found.reason.startswith(f"{overall}; input a")


@pytest.mark.parametrize(
    ("values", "weights", "median"),
    [((1.0, 2.0, 10.0), (1.0, 1.0, 3.0), 10.0), ((10.0, 1.0, 2.0), (1.0, 1.0, 1.0), 2.0), ((4.0,), (0.5,), 4.0)],
)
def test_no_answer_that_is_the_same_for_all_rows_is_nearer_than_the_weighted_median(
    values: tuple[float, ...], weights: tuple[float, ...], median: float
):
    labels, each = np.array(values), np.array(weights)
    facts = Compared("regression", labels, labels, labels, np.ones(len(labels), bool), weights=each)
    rows = np.ones(len(labels), bool)
    least = min(np.average(np.abs(labels - answer), weights=each) for answer in np.linspace(0.0, 12.0, 1_201))
    assert _ignorance(facts, rows) == pytest.approx(np.average(np.abs(labels - median), weights=each))
    assert _ignorance(facts, rows) == pytest.approx(least)
