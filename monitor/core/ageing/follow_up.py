"""A better model after the first one of a change: asked for once there are so many more rows that it should show."""

import math

from stationkeeper.contracts.messages import LearningCurve, RetrainRequest, Rollout, RolloutPhase, Verdict
from stationkeeper.contracts.state import State, replaced
from stationkeeper.contracts.times import to_ms
from stationkeeper.monitor.core.ageing.asking import asking
from stationkeeper.monitor.core.incidents import RequestPolicy, WatchIdentity
from stationkeeper.monitor.core.performance import OutcomePane
from stationkeeper.monitor.core.reasons import Cause

# A training saw how a quarter of its rows did beside all of them: four times as many is as far ahead as it has seen
# back. At twice as many half of the new rows are old ones, and the gate seldom tells the two models apart.
_TIMES = 4
# What the policy held back (a rollout, broken data) is asked again after an hour, as of the calendar.
_AGAIN_MS = 3_600_000
# Over how long what a better model spares is held against the price of a retraining, as for what an incident costs
# (`curve.HORIZON_WEEKS`): two weeks.
_HORIZON_MS = 14 * 86_400_000


class FollowUpState(State, frozen=True):
    """Labelled rows since ``version`` was trained: of all versions, and of its own with the wrong answers among them.

    ``first`` and ``last`` are when the first and last of its own were predicted, ``due`` when it may ask next (ms);
    ``asked`` says that it did, which it does once.
    """

    version: str = ""
    rows: int = 0
    own: int = 0
    wrong: int = 0
    first: int = 0
    last: int = 0
    due: int = 0
    asked: bool = False


class FollowUp:
    """One model's: asks where more rows are forecast to spare ``least`` of the loss; None never asks.

    ``cost`` is the price of a retraining in wrong answers, which the forecast must spare as well; None: no price.
    """

    def __init__(self, least: float | None, cost: float | None) -> None:
        self._least, self._cost = least, cost
        self.state = FollowUpState()

    def learn(self, version: str, labels: OutcomePane, curve: LearningCurve | None) -> None:
        """Count labels of a mature cohort that came after the training of the version that ``curve`` tells of."""
        if self._least is None or curve is None:
            return
        if self.state.version != curve.version:
            self.state = FollowUpState(version=curve.version)
        # What the version has learnt from is no new row.
        if labels.start <= to_ms(curve.until):
            return
        state = replaced(self.state, rows=self.state.rows + labels.rows)
        if version == curve.version and not labels.selective:
            wrong = int(labels.confusion[1] + labels.confusion[2])
            first = state.first or labels.start
            state = replaced(
                state, own=state.own + labels.rows, wrong=state.wrong + wrong, first=first, last=labels.end
            )
        self.state = state

    def ask(
        self, champion: WatchIdentity, policy: RequestPolicy, now: int, rollout: Rollout | None, broken: str = ""
    ) -> tuple[list[Verdict], list[RetrainRequest]]:
        """Return the request of a champion that stays, once rows since the change are enough (``now`` in ms)."""
        curve, state = (None if rollout is None else rollout.curve), self.state
        if self._least is None or curve is None or rollout is None or rollout.phase is not RolloutPhase.STEADY:
            return [], []
        # Taken back, or adopted by hand over it: the curve is of a version that does not serve.
        if not curve.version == champion.version == state.version or state.asked or now < state.due:
            return [], []
        rows = curve.rows + state.rows
        spared = forecast(curve, rows)
        if rows < _TIMES * curve.rows or spared < self._least or not self._pays(spared):
            return [], []
        reason = (
            f"{curve.rows} labelled rows since the change gave a loss of {curve.loss:.4g}, a quarter of them "
            f"{curve.quarter:.4g}; by that curve {rows} give {curve.loss * (1.0 - spared):.4g}, {spared:.0%} less "
            f"(requests.follow_up: {self._least:.0%})"
        )
        evidence = {"rows": rows, "trained_on": curve.rows, "loss": curve.loss, "quarter": curve.quarter}
        # What a share of the loss is in wrong answers is known once the version has labels of its own.
        if state.own and state.wrong:
            late = state.wrong / state.own
            evidence |= {"late": round(late, 6), "forecast": round(spared * late, 6)}
        incident, verdict = asking(
            champion,
            now,
            name="more_rows",
            cause=Cause.MORE_ROWS,
            reason=reason,
            since=to_ms(curve.onset),
            statistic=spared,
            threshold=self._least,
            rows=rows,
            evidence=evidence,
            number=curve.rows,
        )
        request = policy.consider(incident, verdict, now=now, rollout=rollout, broken=broken)
        if request is None:
            self.state = replaced(state, due=now + _AGAIN_MS)
            return [], []
        self.state = replaced(state, asked=True)
        # One look: it has the rows that it asks for, and while it waited for more no other incident could be answered.
        return [verdict], [request.model_copy(update={"looks": 1})]

    def _pays(self, spared: float) -> bool:
        """Return whether the forecast spares what a retraining costs, if wrong answers fall as the loss does.

        By hand: 20 wrong in two days are 140 in two weeks; a third of them does not pay a price of 50.
        """
        if self._cost is None:
            return True
        span = self.state.last - self.state.first
        return span > 0 and spared * self.state.wrong / span * _HORIZON_MS >= self._cost


def forecast(curve: LearningCurve, rows: int) -> float:
    """Return which share of its loss a training on ``rows`` since the change would spare; 0 where none is shown.

    What a loss exceeds its least by falls with the root of the rows (the rate of averages, and the slower end of
    what learning curves show: Viering and Loog, arXiv 2103.10948): a quarter of them then loses as much more as all
    of them lose beyond their least. By hand: .012 with a quarter and .010 with 3 000 leave .002 to spare; four
    times as many spare half of it, a tenth of the loss.
    """
    excess = min(curve.quarter - curve.loss, curve.loss)
    # One standard error: a training too many costs a gate's look, and the gate asks for far more than that.
    if excess <= curve.error or rows <= curve.rows:
        return 0.0
    return excess * (1.0 - math.sqrt(curve.rows / rows)) / curve.loss
