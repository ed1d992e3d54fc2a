"""Whether a retraining pays now: what age has cost since the last one, against the price of the next."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from stationkeeper.contracts.messages import RetrainRequest, Rollout, Verdict
from stationkeeper.contracts.state import State, replaced
from stationkeeper.contracts.times import to_datetime
from stationkeeper.monitor.core.ageing.curve import (
    FRESH_WEEKS,
    HORIZON_WEEKS,
    PAIR_WEEKS,
    AgeingCurve,
    AgeingForecast,
    ServedVersion,
    SuddenChange,
    Week,
    ageing_features,
    barren,
    help_share,
    sudden_change,
)
from stationkeeper.monitor.core.ageing.proposal import proposal
from stationkeeper.monitor.core.incidents import ACCURACY, Harm, Incident, RequestPolicy, WatchIdentity
from stationkeeper.monitor.core.performance import OutcomePane
from stationkeeper.monitor.core.reasons import Cause

# Traffic and labels have the rhythm of the week, so that shorter periods would be compared with others' weekends.
WEEK_MS = 7 * 86_400_000

# Versions and weeks kept: at one retraining a month two years of promotions, which the curve is learned from. Half
# forgets what a year taught; more only grows the state (some 20 bytes a week).
KEPT_VERSIONS = 24
KEPT_WEEKS = 104


class AgeState(State, frozen=True):
    """What a model's record keeps: its versions in order of promotion, and the week of the last request for age.

    ``told`` is what the gate saw of a version (`ServedVersion.spared`), kept from when a rollout's record first names
    it: labels may come when the record tells of the next candidate already.
    """

    versions: tuple[ServedVersion, ...] = ()
    asked: int | None = None
    told: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Timing:
    """Whether a retraining pays: ``age`` is what age has cost in wrong answers since ``since`` (a week), and the price.

    ``spared`` are those that it spares in the next ``HORIZON_WEEKS`` of what a sudden ``change`` costs, 0 without one.
    ``late`` is the share of wrong answers of late, ``ahead`` how much less a model trained now is forecast to have by
    its age, ``less`` by the change; ``barren`` are the retrainings so far that gave no version.
    """

    pays: bool
    version: str
    since: int
    week: int
    age: AgeingForecast
    cost: float
    rows: int
    curve: AgeingCurve
    ahead: AgeingForecast
    spared: float = 0.0
    change: SuddenChange | None = None
    late: float = 0.0
    less: float = 0.0
    barren: int = 0

    @property
    def spent(self) -> float:
        """What age has cost, in the mean: what the price is held against."""
        return self.age.mean

    @property
    def forecast(self) -> float:
        """How much less often than of late a model trained now is expected to be wrong."""
        return max(self.ahead.mean, self.less)

    @property
    def reason(self) -> str:
        """The decision in words, with its numbers."""
        weeks = self.week - self.since + 1
        if self.change is not None and self.spared >= self.cost:
            return (
                f"since the week of {to_datetime(self.change.week * WEEK_MS):%Y-%m-%d} "
                f"{100 * self.change.lost:.1f} more answers in a hundred are wrong; a model that knows the rows since "
                f"then spares {self.spared:.0f} in {HORIZON_WEEKS:.0f} weeks, a retraining costs {self.cost:.0f}"
            )
        more = "which is what a retraining costs" if self.pays else "a retraining does not pay yet"
        more += f"; {self.barren} asked for before gave no version so far" if self.barren else ""
        age, ahead, late = self.age, self.ahead, 100 * self.late
        spares = f"{100 * ahead.mean:.2f} ({100 * ahead.low:.2f} to {100 * ahead.high:.2f}) of {late:.2f} in a hundred"
        return (
            f"age has cost {age.mean:.0f} of {self.cost:.0f} wrong answers ({age.low:.0f} to {age.high:.0f}) in "
            f"{weeks} week{'s' * (weeks != 1)} of version {self.version} ({self.rows} labelled rows), a new one is "
            f"forecast to spare {spares}: {more}"
        )


def timing(state: AgeState, cost: float, week: int, helps: float = 1.0) -> Timing | None:
    """Return whether the latest version is due, by the weeks before ``week``; None before it has a whole one.

    Where a loss grows linearly with age, total cost is least when what age has cost since the last retraining equals
    the price of one: of a growth b a week and price c the sum c / T + b T / 2 a week is least at T = sqrt(2 c / b),
    where b T^2 / 2 = c. For a sudden change it is the rule of the ski rental, at most twice the best in hindsight.
    By hand: 1 000 labelled rows a week, a growth of .02 on a fresh loss of .10 and no rise cost 1, 3, 5, ... answers,
    in n weeks n^2: a price of 50 is reached in the eighth. After a sudden change it does not wait to have paid: what a
    model that knows more of the rows since then spares is known (`SuddenChange`) and lasts, so it counts ahead, by the
    share ``helps`` of retrainings that did (`help_share`).
    """
    if not state.versions:
        return None
    latest = state.versions[-1]
    weeks = [one for one in latest.weeks if one.number < week]
    if not weeks:
        return None
    history = [one for one in (replaced(one, weeks=_before(one, week)) for one in state.versions) if one.weeks]
    curve, change = AgeingCurve.fit(history), sudden_change(history)
    since = weeks[0].number if state.asked is None else max(weeks[0].number, state.asked)
    counted = [(i, one) for i, one in enumerate(weeks) if one.number >= since]
    # Linear in the features, so that the sum of all weeks has one interval.
    age = curve.forecast(sum((one.rows * ageing_features(weeks[: i + 1]) for i, one in counted), np.zeros(2)))
    rows = sum(one.rows for _, one in counted)
    # From the last request on, or one that found nothing better would be made again each week.
    ahead = helps * _rows_a_week(weeks) * HORIZON_WEEKS
    less = 0.0 if change is None else change.spared(history, since, week)
    spared = less * ahead
    pays = max(age.mean, spared) >= cost
    near = weeks[-PAIR_WEEKS:]
    late = sum(one.wrong for one in near) / max(sum(one.rows for one in near), 1)
    failed = sum(len(barren(one, latest=one is history[-1])) for one in history)
    return Timing(
        pays=pays,
        version=latest.version,
        since=since,
        week=weeks[-1].number,
        age=age,
        cost=cost,
        rows=rows,
        curve=curve,
        ahead=curve.forecast(ageing_features(weeks)),
        spared=spared,
        change=change,
        late=late,
        less=less,
        barren=failed,
    )


def _joined(history: Iterable[ServedVersion]) -> list[Week]:
    """The weeks of all versions in order, one that two of them served once."""
    found: dict[int, Week] = {}
    for week in (week for version in history for week in version.weeks):
        known = found.get(week.number, Week(week.number, 0, 0))
        found[week.number] = Week(week.number, known.rows + week.rows, known.wrong + week.wrong)
    return [found[number] for number in sorted(found)]


def _rows_a_week(weeks: Sequence[Week]) -> float:
    """Labelled rows a week of late."""
    latest = weeks[-FRESH_WEEKS:]
    return sum(one.rows for one in latest) / max(len(latest), 1)


class AgeRecord:
    """One model's weeks by version, and the answer at each week's end.

    ``cost`` is the price of a retraining in wrong answers; without one nothing is kept and nothing asked. ``cures`` are
    the retrainings of incidents that helped and those that did not, as `incidents.cure` found.
    """

    def __init__(self, cost: float | None) -> None:
        self._cost = cost
        self.state = AgeState()
        self.last: Timing | None = None
        self.cures = 0, 0

    def of_incident(self, harm: Harm) -> str:
        """Return why what an incident costs does not pay a retraining so far, "" where it does or nobody can tell.

        It will not where the whole interval says so; where only the mean does it may pay, and is asked again while the
        incident is open.

        That is its loss a row for the rows of ``HORIZON_WEEKS``, of which a new version takes a part away
        (`AgeingCurve.cured`: the rest is the season's, and stays), by the share of retrainings that helped so far,
        against the price. By hand: 2 points of 1 000 rows a week are 40 wrong answers in two weeks, of which half go, a
        price of 50 is not paid.
        """
        # The week that goes on is a part of one. Of versions before, too: a new one has no whole week, and the traffic
        # and the price are known all the same.
        running = max((week.number for version in self.state.versions for week in version.weeks), default=0)
        history = [replaced(version, weeks=_before(version, running)) for version in self.state.versions]
        weeks = _joined(history)
        if self._cost is None or not weeks or harm.source == "unknown" or harm.measure != ACCURACY:
            return ""
        helps, curve = help_share(*self.cures), AgeingCurve.fit(history)
        rows = _rows_a_week(weeks) * HORIZON_WEEKS * helps
        spared = rows * curve.cured(harm.lost).mean
        if spared >= self._cost:
            return ""
        least, most = rows * curve.cured(harm.low).low, rows * curve.cured(harm.high).high
        share = spared / (rows * harm.lost) if rows * harm.lost else 0.0
        seldom = f", times {helps:.2f} as {self.cures[1]} of {sum(self.cures)} did not help" if self.cures[1] else ""
        verdict = "will not pay" if most < self._cost else "not shown to pay so far"
        return (
            f"{verdict}: {spared:.0f} wrong answers ({least:.0f} to {most:.0f}) in "
            f"{HORIZON_WEEKS:.0f} weeks of {_rows_a_week(weeks):.0f} labelled rows, as a new version takes away "
            f"{share:.0%} of the loss{seldom}; a retraining costs {self._cost:g}"
        )

    def asked(self, requests: Iterable[RetrainRequest], now: int) -> None:
        """Note what was asked for, whoever asked; what is withdrawn was not tried, and a ``cure`` asks for nothing."""
        for request in requests:
            versions = self.state.versions
            if not versions or versions[-1].version != request.version or request.cure is not None:
                continue
            kept = versions[-1].asked
            kept = kept[:-1] if request.withdrawn else (*kept, now // WEEK_MS)[-KEPT_WEEKS:]
            self.state = replaced(self.state, versions=(*versions[:-1], replaced(versions[-1], asked=kept)))

    def judge(
        self,
        labels: OutcomePane,
        champion: WatchIdentity,
        policy: RequestPolicy,
        now: int,
        rollout: Rollout | None,
        broken: str = "",
    ) -> tuple[list[Verdict], list[RetrainRequest]]:
        """Take labels of the champion, in order of their arrival; ask for a retraining that pays.

        What the policy holds back is asked again a week later. While data are ``broken`` (why) labels do not count:
        what they cost is not the model's age, and the weeks after would look like a change back.
        """
        told = None if self._cost is None or rollout is None else rollout.spared
        if told is not None and told.version not in self.state.told:
            kept = {**self.state.told, told.version: told.share}
            self.state = replaced(self.state, told=dict([*kept.items()][-KEPT_VERSIONS:]))
        due = None if self._cost is None or broken else self._add(champion.version, labels, self._cost)
        if due is None or not due.pays:
            return [], []
        incident, verdict = _proposal(due, champion, now)
        request = policy.consider(incident, verdict, now=now, rollout=rollout)
        if request is None:
            return [verdict], []
        # Counted anew from here, whatever becomes of the request: a gate that found nothing better has said so.
        self.state = replaced(self.state, asked=due.week + 1)
        return [verdict], [request]

    def _add(self, version: str, labels: OutcomePane, cost: float) -> Timing | None:
        """Count labels; returns the timing when a week has ended with them."""
        week = labels.start // WEEK_MS
        _, false_positive, false_negative, _ = (int(cell) for cell in labels.confusion)
        versions = list(self.state.versions)
        if not versions or versions[-1].version != version:
            # A version that comes back is another time of it: its old weeks are those of another season, and the gate
            # did not compare it with the one before it.
            back = version in [one.version for one in versions]
            spared = None if back else self.state.told.get(version)
            versions.append(ServedVersion(version=version, spared=spared))
        weeks = versions[-1].weeks
        ended = not weeks or week > weeks[-1].number
        known = Week(week, 0, 0) if ended else weeks[-1]
        grown = Week(known.number, known.rows + labels.rows, known.wrong + false_positive + false_negative)
        before = weeks if ended else weeks[:-1]
        versions[-1] = replaced(versions[-1], weeks=(*before, grown)[-KEPT_WEEKS:])
        self.state = replaced(self.state, versions=tuple(versions[-KEPT_VERSIONS:]))
        if not ended:
            return None
        self.last = timing(self.state, cost, week, help_share(*self.cures))
        return self.last


def _before(version: ServedVersion, week: int) -> tuple[Week, ...]:
    return tuple(one for one in version.weeks if one.number < week)


def _proposal(due: Timing, identity: WatchIdentity, now: int) -> tuple[Incident, Verdict]:
    return proposal(
        identity,
        now,
        name="age",
        cause=Cause.AGEING,
        reason=due.reason,
        since=due.since * WEEK_MS,
        statistic=max(due.spent, due.spared),
        threshold=due.cost,
        rows=due.rows,
        # Six digits tell one answer in a million, three a thousandth of a wrong answer.
        evidence={
            "growth": round(due.curve.growth, 6),
            "cure": round(due.curve.cure, 6),
            "weeks": due.week - due.since + 1,
            "spent": round(due.spent, 3),
            "spared": round(due.spared, 3),
            "late": round(due.late, 6),
            "forecast": round(due.forecast, 6),
            "low": round(due.ahead.low, 6),
            "high": round(due.ahead.high, 6),
        },
        number=due.week,
    )
