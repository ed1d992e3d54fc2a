"""A warning is said once an episode, however its evidence flickers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from stationkeeper.contracts.messages import Level, SubjectType, Verdict, VerdictKind
from stationkeeper.contracts.wire import SCORE_BINS
from stationkeeper.monitor.core.budget import WARNINGS_A_PAGE
from stationkeeper.monitor.core.finding import INFORM, WARN, Dated, Finding
from stationkeeper.monitor.core.incidents import WarnedSubject
from stationkeeper.monitor.core.incidents.explanation import Explainer, Explanation
from stationkeeper.monitor.core.incidents.hysteresis import REARM_NATS, REARM_PANES, WarningHysteresis, Warnings
from stationkeeper.monitor.core.incidents.incident import OpenIncidents
from stationkeeper.monitor.core.incidents.verdict import DecisionTime, WatchIdentity
from stationkeeper.monitor.core.performance import OutcomePane
from stationkeeper.monitor.core.reasons import Cause, Check
from stationkeeper.monitor.core.reference import Labels
from stationkeeper.monitor.core.watch import Watch
from tests.monitor.core.streams import SETTINGS, bank, panes, reference_of

FEATURE = frozenset({SubjectType.FEATURE})
PAGE_AT = 16.0


def finding(score: float) -> Finding | None:
    """What a detector says at this score: nothing below the inform level."""
    level = WARN if score >= PAGE_AT - np.log(10) else INFORM if score >= PAGE_AT - np.log(100) else 0
    if not level:
        return None
    drift = VerdictKind.DATA_DRIFT
    return Finding("age", SubjectType.FEATURE, drift, level, score, PAGE_AT, 0, 1, Cause.SHIFT)


def at_margin(nats: float) -> Callable[[WarnedSubject], float]:
    return lambda _: nats


def said(latch: WarningHysteresis, scores: list[float]) -> list[int]:
    out = []
    for score in scores:
        found = finding(score)
        latch.rest([found.key] if found else [], FEATURE, at_margin(score - PAGE_AT))
        if found is not None and latch.admit(found):
            out.append(found.level)
    return out


def test_a_score_that_oscillates_around_the_warn_level_warns_once():
    scores = [PAGE_AT - np.log(10) + 3 * float(np.sin(k / 3)) for k in range(2_000)]
    assert min(scores) < PAGE_AT - np.log(100)
    assert said(WarningHysteresis(), scores) == [WARN]


def test_each_level_is_said_once_on_the_way_up():
    assert said(WarningHysteresis(), [11.5, 12.0, 13.8, 11.5, 13.9]) == [INFORM, WARN]


@pytest.mark.parametrize(
    ("below", "lasting", "warnings"),
    [(0.1, REARM_PANES, 2), (0.1, REARM_PANES - 1, 1), (-0.1, 10 * REARM_PANES, 1)],
)
def test_it_speaks_again_after_enough_panes_below_a_tenth_of_the_inform_level(
    below: float, lasting: int, warnings: int
):
    quiet = [PAGE_AT + REARM_NATS - below] * lasting
    assert said(WarningHysteresis(), [14.0, *quiet, 14.0]) == [WARN] * warnings


@pytest.mark.parametrize(("hours", "warnings"), [(23, 1), (24, 1), (30, 2)])
def test_what_comes_back_within_a_day_of_hours_or_thirty_panes_is_one_episode(hours: int, warnings: int):
    made, day, hour = WarningHysteresis(86_400_000), 86_400_000, 3_600_000
    loud = finding(14.0)
    assert loud is not None
    assert made.admit(loud)
    for _ in range(hours):
        made.rest([], FEATURE, at_margin(-PAGE_AT), hour)
    assert made.admit(loud) == (warnings == 2)
    # Of minutes, thirty panes are not enough: a day of them is.
    for minutes, again in ((day // 60_000 - 1, False), (1, True)):
        made = WarningHysteresis(day)
        made.admit(loud)
        for _ in range(minutes if not again else day // 60_000):
            made.rest([], FEATURE, at_margin(-PAGE_AT), 60_000)
        assert made.admit(loud) is again


def test_one_loud_pane_starts_the_quiet_anew():
    quiet = [0.0] * (REARM_PANES - 1)
    assert said(WarningHysteresis(), [14.0, *quiet, 10.0, *quiet, 14.0]) == [WARN]


def test_panes_that_judge_others_count_neither_way():
    latch = WarningHysteresis()
    assert said(latch, [14.0]) == [WARN]
    for _ in range(5 * REARM_PANES):
        latch.rest([], frozenset({SubjectType.PERFORMANCE}), lambda _: -np.inf)
    assert said(latch, [14.0]) == []


def test_a_recovery_ends_the_episode_and_the_state_keeps_it():
    latch = WarningHysteresis()
    assert said(latch, [14.0, 0.0, 0.0]) == [WARN]
    again = WarningHysteresis()
    again.restore(latch.state())
    assert said(again, [14.0]) == []
    latch.release("age")
    assert said(latch, [14.0]) == [WARN]


def labelled() -> Watch:
    """A watch that also has labels: one error in ten on its reference."""
    scored = np.zeros((SCORE_BINS, 2), np.int64)
    scored[SCORE_BINS // 4], scored[3 * SCORE_BINS // 4] = (1_800, 200), (200, 1_800)
    labels = Labels(scored, np.array([1_800, 200, 200, 1_800]))
    return Watch(replace(reference_of(bank(5_000)), labels=labels), settings=SETTINGS)


def outcomes(at: int, wrong: int) -> OutcomePane:
    """Forty labelled rows, this many of them wrong."""
    half, right = wrong // 2, 20 - wrong // 2
    scored = np.zeros((SCORE_BINS, 2), np.int64)
    scored[SCORE_BINS // 4], scored[3 * SCORE_BINS // 4] = (right, half), (half, right)
    return OutcomePane(at, at + 50, scored, np.array([right, half, half, right]), at + 49, at)


def test_errors_that_flicker_warn_once_between_panes_of_inputs():
    made, found = labelled(), list[Verdict]()
    data = bank(15_000, 3)
    for pane in panes(made.reference, data):
        found += made.step(pane).verdicts
        assert made.performance is not None
        score = made.performance.margin("error_rate")
        # Feed errors while the evidence is below the page, none while it is near it: it hovers around the warn level.
        found += made.learn(outcomes(pane.start, 8 if score < -np.log(WARNINGS_A_PAGE) else 2)).verdicts
    errors = [verdict.level for verdict in found if verdict.subject.name == "error_rate"]
    assert errors == [Level.INFORM, Level.WARN]


def test_values_out_of_range_warn_once_while_they_last():
    made, found = Watch(reference_of(bank(5_000)), settings=SETTINGS), list[Verdict]()
    data = bank(40_000, 4)
    out = np.random.default_rng(5).random(40_000) < 0.018
    data["age"] = np.where(out, 300.0, data["age"])
    for pane in panes(made.reference, data):
        found += made.step(pane).verdicts
    warned = [v for v in found if v.subject.check == Check.ABOVE and v.level is Level.WARN]
    assert len(warned) == 1


class Said:
    """Explains a finding as itself, with the cause it is told; no panes are needed for what is tested here."""

    def __init__(self, reference: Any) -> None:
        self.reference, self.cause = reference, Cause.SHIFT

    def since_onset(self, finding: Finding) -> tuple[Explanation, Any]:
        return Explanation(replace(finding, cause=self.cause), 0.2, 100), np.zeros(
            self.reference.layout.width, np.int64
        )


def test_a_pair_that_follows_its_feature_keeps_its_warning_for_when_it_moves_alone():
    reference = reference_of(bank(500))
    explainer = Said(reference)
    made = Warnings(WatchIdentity("m", "1", "", reference.digest), cast("Explainer", explainer), lambda _: 0.0, 0)
    feature = Finding("age", SubjectType.FEATURE, VerdictKind.DATA_DRIFT, WARN, 9.0, 14.0, 0, 100, Cause.SHIFT, "moved")
    pair = replace(feature, subject="age + balance", parts=("age", "balance"))

    def warned(*findings: Finding, joint: bool = False) -> list[str]:
        explainer.cause = Cause.JOINT if joint else Cause.SHIFT
        at = DecisionTime(1, 1, None, frozenset({SubjectType.FEATURE}))
        return [
            v.subject.name
            for v in made.step(findings, at, OpenIncidents("m", "1", ""), lambda one, _: Dated(one.onset, 0, 1))
        ]

    assert warned(feature, pair) == ["age"]
    assert warned(feature, pair) == []
    assert warned(pair, joint=True) == ["age + balance"]
    assert warned(pair, joint=True) == []


def test_the_tail_and_the_cells_of_a_subject_are_one_episode():
    episodes, told = WarningHysteresis(), finding(PAGE_AT)
    assert told is not None
    assert episodes.admit(replace(told, check=Check.ABOVE))
    assert not episodes.news(told)
    assert not episodes.news(replace(told, check=Check.BELOW))
    assert episodes.news(replace(told, check=Check.NULL))
    assert episodes.news(replace(told, subject="amount"))
    episodes.release("age")
    assert episodes.news(told)
