"""A better model after the first one of a change: asked for once there are so many more rows that it should show."""

import math
from collections.abc import Sequence

from stationkeeper.contracts.messages import LearningCurve, RetrainRequest, Rollout, RolloutPhase, Verdict
from stationkeeper.contracts.state import State, replaced
from stationkeeper.contracts.times import to_ms
from stationkeeper.monitor.core.ageing.curve import HORIZON_WEEKS
from stationkeeper.monitor.core.ageing.proposal import AGAIN_MS, proposal
from stationkeeper.monitor.core.ageing.timing import WEEK_MS
from stationkeeper.monitor.core.incidents import RequestPolicy, WatchIdentity
from stationkeeper.monitor.core.performance import OutcomePane
from stationkeeper.monitor.core.reasons import Cause

# A training saw how a quarter of its rows did beside all of them: four times as many is as far ahead as it has seen
# back. At twice as many half of the new rows are old ones, and the gate seldom tells the two models apart.
_TIMES = 4
# Over how long what a better model spares is held against the price of a retraining, as for what an incident costs.
_HORIZON_MS = HORIZON_WEEKS * WEEK_MS
# Versions whose rows are counted: the champion's are kept while seven candidates after it are tried and taken back. At
# one the first of them would end its follow-up; more is state for versions that nobody waits for.
_KEPT = 8


class FollowUpState(State, frozen=True):
    """Labelled rows since ``version`` was trained: of all versions, and of its own with the wrong answers among them.

    ``first`` and ``last`` are when the first and last of its own were predicted, ``due`` when it may ask next (ms);
    ``asked`` says that it did, which it does once. ``curve`` is the version's `LearningCurve` as JSON, kept because the
    rollout's record names the latest candidate's alone ("" in state of builds that kept none, until the record is seen
    again); ``earlier`` are the same of versions before it, newest first.
    """

    version: str = ""
    rows: int = 0
    own: int = 0
    wrong: int = 0
    first: int = 0
    last: int = 0
    due: int = 0
    asked: bool = False
    curve: str = ""
    earlier: tuple["FollowUpState", ...] = ()


class FollowUp:
    """One model's: asks where more rows are forecast to spare ``least`` of the loss; None never asks.

    ``cost`` is the price of a retraining in wrong answers, which the forecast must spare as well; None: no price.
    """

    def __init__(self, least: float | None, cost: float | None) -> None:
        self._least, self._cost = least, cost
        self.state = FollowUpState()

    def learn(self, version: str, labels: OutcomePane, curve: LearningCurve | None) -> None:
        """Count labels of a mature cohort for each version whose curve was told and that was trained before them."""
        if self._least is None:
            return
        known = self._versions()
        if curve is not None and curve.version not in [one.version for one in known if one.curve]:
            # State of an older build knows the version and not its curve.
            had = [one for one in known if one.version == curve.version] or [FollowUpState(version=curve.version)]
            others = [one for one in known if one.version != curve.version]
            known = [replaced(had[0], curve=curve.model_dump_json()), *others][:_KEPT]
        self._keep([_counted(one, version, labels) for one in known])

    def _versions(self) -> list[FollowUpState]:
        return [replaced(self.state, earlier=()), *self.state.earlier] if self.state.version else []

    def _keep(self, versions: Sequence[FollowUpState]) -> None:
        if versions:
            self.state = replaced(versions[0], earlier=tuple(versions[1:]))

    def _note(self, changed: FollowUpState) -> None:
        self._keep([changed if one.version == changed.version else one for one in self._versions()])

    def ask(
        self, champion: WatchIdentity, policy: RequestPolicy, now: int, rollout: Rollout | None, broken: str = ""
    ) -> tuple[list[Verdict], list[RetrainRequest]]:
        """Return the request of a champion that stays, once rows since the change are enough (``now`` in ms)."""
        # The champion's own: the latest candidate, of which the record tells, may have been taken back.
        mine = [one for one in self._versions() if one.version == champion.version and one.curve]
        if self._least is None or not mine or rollout is None or rollout.phase is not RolloutPhase.STEADY:
            return [], []
        state, curve = mine[0], LearningCurve.model_validate_json(mine[0].curve)
        if state.asked or now < state.due:
            return [], []
        rows = curve.rows + state.rows
        # What comes beyond what a training takes teaches it nothing.
        rows = rows if curve.most is None else min(rows, curve.most)
        spared = forecast(curve, rows)
        if rows < _TIMES * curve.rows or spared < self._least or not self._pays(spared, state):
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
        incident, verdict = proposal(
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
            self._note(replaced(state, due=now + AGAIN_MS))
            return [], []
        self._note(replaced(state, asked=True))
        # One look: it has the rows that it asks for, and while it waited for more no other incident could be answered.
        return [verdict], [request.model_copy(update={"looks": 1})]

    def _pays(self, spared: float, state: FollowUpState) -> bool:
        """Return whether the forecast spares what a retraining costs, if wrong answers fall as the loss does.

        By hand: 20 wrong in two days are 140 in two weeks; a third of them does not pay a price of 50.
        """
        if self._cost is None:
            return True
        span = state.last - state.first
        return span > 0 and spared * state.wrong / span * _HORIZON_MS >= self._cost


def _counted(state: FollowUpState, version: str, labels: OutcomePane) -> FollowUpState:
    # What the version has learnt from is no new row.
    if not state.curve or labels.start <= to_ms(LearningCurve.model_validate_json(state.curve).until):
        return state
    state = replaced(state, rows=state.rows + labels.rows)
    if version != state.version or labels.selective:
        return state
    wrong = int(labels.confusion[1] + labels.confusion[2])
    first = state.first or labels.start
    return replaced(state, own=state.own + labels.rows, wrong=state.wrong + wrong, first=first, last=labels.end)


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
