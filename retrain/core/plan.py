"""The plan of a retrain: whether it is the right cure now, and on which windows of rows, decided by numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from stationkeeper.contracts.messages import RetrainRequest, VerdictKind
from stationkeeper.contracts.times import format_duration, to_ms
from stationkeeper.retrain.core.reasons import Reason, Stage

DAY_MS = 86_400_000
_NOT_CURED_BY_TRAINING = frozenset({VerdictKind.DATA_QUALITY, VerdictKind.TRAIN_SERVE_SKEW, VerdictKind.RECOVERED})


@dataclass(frozen=True, slots=True)
class PlanRules:
    """The limits a plan obeys; see ``retrain.settings`` for their meaning."""

    min_rows: int
    min_positives: int
    max_wait_ms: int
    cooldown_ms: int
    daily_budget: int
    breaker: int
    approval: bool
    last_rows: int
    after_change_weight: float


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier request of the same model: when it came and how it stands."""

    id: str
    time_ms: int
    stage: Stage

    @property
    def taken_up(self) -> bool:
        """Whether it cost a retrain."""
        return self.stage not in (Stage.SUPPRESSED, Stage.REJECTED)


@dataclass(frozen=True, slots=True)
class LabelStatistics:
    """What is known of labelled rows at ``as_of_ms`` (declared clock); only matured rows are counted."""

    as_of_ms: int
    maturity_ms: int
    rows_before: int
    rows_after: int
    positives_after: int

    @property
    def negatives_after(self) -> int:
        """Rows after the onset that are not positive."""
        return self.rows_after - self.positives_after


class WindowKind(StrEnum):
    """Which rows a candidate model learns from."""

    ALL = "all"
    LAST = "last"
    SINCE_CHANGE = "since_change"
    REWEIGHTED = "reweighted"


@dataclass(frozen=True, slots=True)
class Window:
    """A training window: the last ``rows`` rows (0: no limit), from the onset or not, new rows weighted ``weight``."""

    kind: WindowKind
    rows: int = 0
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request is not taken up."""

    stage: Stage
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The request waits for labels: how many rows and positives are missing and when they may be there."""

    reason: Reason
    rows_missing: int
    positives_missing: int
    ready_ms: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Train now, on the best of these windows."""

    windows: tuple[Window, ...]
    detail: str


def admit(request: RetrainRequest, rules: PlanRules, past: Sequence[Past], champion: str | None) -> Refuse | None:
    """Return why the request is not taken up, or None when it is.

    ``past`` are the model's other requests in any order, those that came later left out by the caller. All times are
    event time, so that a replay decides alike. A manual request passes cooldown and breaker, never the budget.
    """
    now = to_ms(request.time)
    if request.kind in _NOT_CURED_BY_TRAINING:
        return Refuse(Stage.REJECTED, Reason.DATA_QUALITY, f"kind {request.kind.value}: repair the source of the data")
    if champion is not None and champion != request.version:
        text = f"the request is about version {request.version}, the champion is {champion}"
        return Refuse(Stage.SUPPRESSED, Reason.SUPERSEDED, text)
    taken = sorted((p for p in past if p.taken_up), key=lambda p: p.time_ms)
    working = [p for p in taken if not p.stage.final]
    if working:
        return Refuse(Stage.SUPPRESSED, Reason.IN_FLIGHT, f"{working[0].id} is in stage {working[0].stage.value}")
    return _by_pace(request, rules, taken, now)


def _by_pace(request: RetrainRequest, rules: PlanRules, taken: Sequence[Past], now: int) -> Refuse | None:
    today = [p for p in taken if now - p.time_ms < DAY_MS]
    if len(today) >= rules.daily_budget:
        text = f"{len(today)} retrains began within 24 h, the budget is {rules.daily_budget}"
        return Refuse(Stage.SUPPRESSED, Reason.BUDGET, text)
    if request.manual:
        return None
    if taken and now - taken[-1].time_ms < rules.cooldown_ms:
        since = format_duration(max(0, now - taken[-1].time_ms))
        text = f"the last retrain began {since} before, the cooldown is {format_duration(rules.cooldown_ms)}"
        return Refuse(Stage.SUPPRESSED, Reason.COOLDOWN, text)
    useless = 0
    for earlier in reversed(taken):
        if earlier.stage is Stage.CANDIDATE:
            break
        useless += 1
    if useless >= rules.breaker:
        text = f"the last {useless} retrains gave no better model, the breaker opens at {rules.breaker}"
        return Refuse(Stage.SUPPRESSED, Reason.BREAKER, text)
    return None


def rows_needed(rules: PlanRules, look: int, judged: int = 0) -> tuple[int, int]:
    """Return rows and positives needed after the onset at look 0, 1, ...: each look doubles them.

    ``judged`` are the rows after the onset that the last look had: the next one needs twice as many at least, because
    the same rows would only give the same answer.
    """
    return max(rules.min_rows * 2**look, 2 * judged), rules.min_positives * 2**look


def decide(
    request: RetrainRequest, rules: PlanRules, statistics: LabelStatistics, look: int = 0, judged: int = 0
) -> Plan | Wait | Refuse:
    """Return what to do with an admitted request, given the labels known so far; see ``rows_needed``."""
    rows, positives = rows_needed(rules, look, judged)
    missing = max(0, rows - statistics.rows_after)
    lacking = max(0, positives - statistics.positives_after, positives - statistics.negatives_after)
    have = f"{statistics.rows_after} matured labelled rows after the onset, {statistics.positives_after} positive"
    if missing == 0 and lacking == 0:
        return Plan(candidate_windows(rules, statistics), f"{have}; needed {rows} and {positives}")
    waited = statistics.as_of_ms - to_ms(request.time)
    if waited > rules.max_wait_ms:
        text = f"{have}; needed {rows} and {positives} within {format_duration(rules.max_wait_ms)}"
        return Refuse(Stage.NO_EVIDENCE, Reason.LABELS_LATE, text)
    reason = Reason.TOO_FEW_ROWS if missing else Reason.TOO_FEW_POSITIVES
    ready = _ready(request, statistics, rows if missing else None, positives)
    return Wait(reason, missing, lacking, ready, f"{have}; needed {rows} and {positives}")


def _ready(request: RetrainRequest, statistics: LabelStatistics, rows: int | None, positives: int) -> int | None:
    """Return when the needed rows will have matured at the pace seen since the onset; None before the first."""
    onset = to_ms(request.onset.time)
    span = statistics.as_of_ms - statistics.maturity_ms - onset
    have, need = (statistics.rows_after, rows) if rows is not None else (statistics.positives_after, positives)
    if span <= 0 or have == 0:
        return None
    return onset + statistics.maturity_ms + round(span * need / have)


def candidate_windows(rules: PlanRules, statistics: LabelStatistics) -> tuple[Window, ...]:
    """Return the windows that compete; without rows before the onset they are all one and the same.

    "Retrain on what came since the change" alone is worse than all history while labels are few, and history with the
    new rows weighted is often best: no window is right for every amount of data, so the backtest chooses.
    """
    total = statistics.rows_before + statistics.rows_after
    windows = [Window(WindowKind.ALL)]
    if statistics.rows_before > 0:
        windows.append(Window(WindowKind.REWEIGHTED, weight=rules.after_change_weight))
        windows.append(Window(WindowKind.SINCE_CHANGE))
    if statistics.rows_after < rules.last_rows < total:
        windows.append(Window(WindowKind.LAST, rows=rules.last_rows))
    return tuple(windows)
