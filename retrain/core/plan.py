"""The plan of a retrain: whether it is the right cure now, and on which windows of rows, decided by numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from stationkeeper.contracts.labels.actions import ActionLabels
from stationkeeper.contracts.messages import RetrainRequest, VerdictKind
from stationkeeper.contracts.times import format_duration, to_datetime, to_ms
from stationkeeper.retrain.core.labels import NegativeRule
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.core.selection import shut_words

# Retraining on broken or wrongly joined data would teach the fault; a recovery needs no cure.
_NOT_CURED_BY_TRAINING = frozenset({VerdictKind.DATA_QUALITY, VerdictKind.TRAIN_SERVE_SKEW, VerdictKind.RECOVERED})

# To the minute: the pace of labels is known no better, and a person plans by it.
_MINUTE = "%Y-%m-%d %H:%M UTC"
# Milliseconds of a hundred years, beyond which no time is told: nobody plans by it, and dates end with the year 9999.
_FAR_MS = 100 * 365 * 86_400_000


@dataclass(frozen=True, slots=True)
class PlanRules:
    """The limits a plan obeys; see ``retrain.settings`` for their meaning."""

    min_rows: int
    min_positives: int
    max_wait_ms: int
    breaker: int
    approval: bool
    last_rows: int
    after_change_weight: float
    max_rows: int
    looks: int


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier request of the same model: when it came, how it stands, and whether its candidate was of no use.

    That is one that was taken back, or that stayed and did not cure what it was asked for.
    """

    id: str
    time_ms: int
    stage: RequestStage
    rolled_back: bool = False
    not_cured: bool = False

    @property
    def taken_up(self) -> bool:
        """Whether it cost a retrain."""
        return self.stage not in (RequestStage.SUPPRESSED, RequestStage.REJECTED)


def _about(ms: int) -> str:
    """Return an age as people tell it: ages are told apart by half octaves, which no unit keeps whole."""
    unit = 3_600_000 if ms >= 2 * 86_400_000 else 60_000
    return format_duration(round(ms / unit) * unit)


@dataclass(frozen=True, slots=True)
class AbsentLabels:
    """The rows after the onset that are negative for want of a label, and the age (ms) from which they are.

    The age is None while it cannot be told how late positives are labelled: then no row is, and ``short`` says for how
    long labels have been watched and must be (ms), None before any came. ``since_ms`` is when the labels begin that
    their topic still has, None where it has lost none.
    """

    rows: int
    age_ms: int | None
    since_ms: int | None = None
    short: tuple[int, int] | None = None

    @property
    def kept_short(self) -> bool:
        """Whether labels are gone before they have been watched for as long as they must be: no waiting mends that."""
        return self.short is not None and self.since_ms is not None

    def words(self) -> str:
        """Return what a person must know, as plans tell it."""
        gone = ""
        if self.since_ms is not None:
            since = to_datetime(self.since_ms)
            gone = f"; labels of before {since:%Y-%m-%dT%H:%MZ} are gone from their topic, and no row of before counts"
        if self.age_ms is None:
            seen = ""
            if self.short is not None:
                watched, needed = map(_about, self.short)
                seen = f", labels have been watched for {watched} and must be for {needed}"
            if self.kept_short:
                gone = f"{gone}: raise retention.ms of that topic"
            return f"how late labels come cannot be told yet{seen}, so that none is negative for want of one{gone}"
        return f"{self.rows} of them negative for want of a label, {_about(self.age_ms)} old and more{gone}"


@dataclass(frozen=True, slots=True)
class LabelStatistics:
    """What is known of labelled rows at ``as_of_ms`` (declared clock); only matured rows are counted.

    ``shut`` are the actions that keep labels away, counted after the onset, or, where absence is the negative class,
    over all rows that it was told by. ``absent`` and ``rule`` are None where every class is labelled; where absence is
    the negative one, its rows are among those counted, by that rule, which the snapshot follows.
    """

    as_of_ms: int
    maturity_ms: int
    rows_before: int
    rows_after: int
    positives_after: int
    shut: tuple[ActionLabels, ...] = ()
    absent: AbsentLabels | None = None
    rule: NegativeRule | None = None

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
class TrainingWindow:
    """A training window: the last ``rows`` rows (0: no limit), from the onset or not, new rows weighted ``weight``."""

    kind: WindowKind
    rows: int = 0
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request is not taken up."""

    stage: RequestStage
    reason: RequestReason
    detail: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The request waits for labels; ``detail`` says what it has, what it needs and when that may be there."""

    reason: RequestReason
    detail: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Train now, on the best of these windows; ``asked`` is the share of rows after the onset that the look asks for.

    It is a share of those that a training reads, the newest ``PlanRules.max_rows`` at most. The gate holds out its part
    of those alone: a third of nine weeks' rows are the newest three weeks, which the new model would not have learnt
    from, where the gate asked for the rows of one.
    """

    windows: tuple[TrainingWindow, ...]
    detail: str
    asked: float = 1.0


def admit(request: RetrainRequest, rules: PlanRules, past: Sequence[Past], champion: str | None) -> Refuse | None:
    """Return why the request is not taken up, or None when it is.

    ``past`` are the model's other requests in any order, those that came later left out by the caller. How often a
    model may ask is decided where requests are made (``models.NAME.requests``); here only whether a retraining can
    help: a request in work may cure this incident too, and after ``breaker`` retrainings in a row without a better
    model a person must ask. A manual request passes the breaker. All times are event time: a replay decides alike.
    """
    # First, because no state of other requests changes it and the person must hear of the source.
    if request.kind in _NOT_CURED_BY_TRAINING:
        text = f"kind {request.kind.value}: repair the source of the data"
        return Refuse(RequestStage.REJECTED, RequestReason.DATA_QUALITY, text)
    # The monitor asked about a version that was replaced meanwhile: its successor has not drifted from its own
    # reference.
    if champion is not None and champion != request.version:
        text = f"the request is about version {request.version}, the champion is {champion}"
        return Refuse(RequestStage.SUPPRESSED, RequestReason.SUPERSEDED, text)
    # The oldest one in work is named: it is the one that the others wait for.
    working = sorted((p for p in past if p.taken_up and not p.stage.final), key=lambda p: p.time_ms)
    if working:
        text = f"{working[0].id} is in stage {working[0].stage.value}"
        return Refuse(RequestStage.SUPPRESSED, RequestReason.IN_FLIGHT, text)
    useless = useless_retrains(past)
    # Each useless training costs compute and a gate's chance of error, and the next would see much the same rows.
    if useless >= rules.breaker and not request.manual:
        text = f"the last {useless} retrains gave no model that stayed and helped, the breaker opens at {rules.breaker}"
        return Refuse(RequestStage.SUPPRESSED, RequestReason.BREAKER, text)
    return None


def useless_retrains(past: Iterable[Past]) -> int:
    """Return how many of a model's last ended retrainings in a row gave no candidate, or one that was of no use."""
    useless = 0
    for one in sorted((p for p in past if p.taken_up and p.stage.final), key=lambda p: p.time_ms, reverse=True):
        # A candidate counts as better until its canary, its probation or the test after it says otherwise.
        if one.stage is RequestStage.CANDIDATE and not one.rolled_back and not one.not_cured:
            break
        useless += 1
    return useless


def rows_needed(rules: PlanRules, look: int, judged: int = 0) -> tuple[int, int]:
    """Return rows and positives needed after the onset at look 0, 1, ...: each look doubles them.

    ``judged`` are the rows after the onset that the last look had: the next one needs twice as many at least, because
    the same rows would only give the same answer.
    """
    # Doubled, so that all looks together cost at most twice the last one, and each sees at least as many new rows as
    # old.
    return max(rules.min_rows * 2**look, 2 * judged), rules.min_positives * 2**look


def decide(
    request: RetrainRequest, rules: PlanRules, statistics: LabelStatistics, look: int = 0, judged: int = 0
) -> Plan | Wait | Refuse:
    """Return what to do with an admitted request, given the labels known so far; see ``rows_needed``."""
    rows, positives = rows_needed(rules, look, judged)
    missing = max(0, rows - statistics.rows_after)
    # Both classes: where nearly all is positive the negatives are the rare ones, and F1 and the loss rest on them as
    # well.
    lacking = max(0, positives - statistics.positives_after, positives - statistics.negatives_after)
    have, needed = f"{statistics.rows_after} matured labelled rows after the onset", f"needed {rows}"
    # Numbers and several classes have no positive one, and nobody asks for any.
    if positives:
        have, needed = f"{have}, {statistics.positives_after} positive", f"{needed} and {positives}"
    if statistics.absent is not None:
        have = f"{have} ({statistics.absent.words()})"
    if statistics.shut:
        have = f"{have} ({shut_words(statistics.shut)})"
    if missing == 0 and lacking == 0:
        # Where the request limits its looks no later one sees more: its last asks for what the gate's last would.
        if request.looks is not None and look + 1 >= request.looks:
            rows, positives = rows_needed(rules, rules.looks - 1, judged)
        # The rarer class too: rows that were waited for until it had enough are all asked for.
        shares = [rows / max(statistics.rows_after, 1)]
        if positives:
            shares.append(positives / min(statistics.positives_after, statistics.negatives_after))
        # The split knows what was read alone: a share of ten million rows, taken of the newest million, is a tenth of
        # what the look asks for, and the gate would never see enough.
        unread = max(1.0, statistics.rows_after / rules.max_rows)
        return Plan(candidate_windows(rules, statistics), f"{have}; {needed}", min(1.0, max(shares) * unread))
    # By the stream's clock: a replay of a month in an hour waits a month for labels, not an hour.
    waited = statistics.as_of_ms - to_ms(request.time)
    short = RequestReason.LABELS_KEPT_SHORT if statistics.absent and statistics.absent.kept_short else None
    if waited > rules.max_wait_ms:
        text = f"{have}; {needed} within {format_duration(rules.max_wait_ms)}"
        return Refuse(RequestStage.NO_EVIDENCE, short or RequestReason.LABELS_LATE, text)
    # Waited for all the same: who reads it may let the topic keep more before it is given up.
    reason = short or (RequestReason.TOO_FEW_ROWS if missing else RequestReason.TOO_FEW_POSITIVES)
    # The rarer class is the one that is waited for.
    rarer = min(statistics.positives_after, statistics.negatives_after)
    ready = _ready(request, statistics, *((statistics.rows_after, rows) if missing else (rarer, positives)))
    end = to_datetime(to_ms(request.time) + rules.max_wait_ms)
    when = f"at this pace by {to_datetime(ready):{_MINUTE}}, " if ready is not None else ""
    return Wait(reason, f"{have}; {needed}: {when}given up at {end:{_MINUTE}} (max_wait)")


def _ready(request: RetrainRequest, statistics: LabelStatistics, have: int, need: int) -> int | None:
    """Return when ``need`` will have matured at the pace at which ``have`` did since the onset.

    None before the first, and where one row in a year puts it beyond ``_FAR_MS``.

    By hand: 400 rows that matured in 9 minutes will be 1000 after 22.5 minutes.
    """
    onset = to_ms(request.onset.time)
    span = statistics.as_of_ms - statistics.maturity_ms - onset
    # Before the first matured row there is no pace to tell a time by.
    if span <= 0 or have == 0:
        return None
    wait = round(span * need / have)
    return onset + statistics.maturity_ms + wait if wait < _FAR_MS else None


def candidate_windows(rules: PlanRules, statistics: LabelStatistics) -> tuple[TrainingWindow, ...]:
    """Return the windows that compete; without rows before the onset they are all one and the same.

    "Retrain on what came since the change" alone is worse than all history while labels are few, and history with the
    new rows weighted is often best: no window is right for every amount of data, so the backtest chooses.
    """
    total = statistics.rows_before + statistics.rows_after
    windows = [TrainingWindow(WindowKind.ALL)]
    if statistics.rows_before > 0:
        windows.append(TrainingWindow(WindowKind.REWEIGHTED, weight=rules.after_change_weight))
        windows.append(TrainingWindow(WindowKind.SINCE_CHANGE))
    # With fewer rows after the onset "the last n" reaches before it and is a window of its own; with fewer in all it is
    # `all`.
    if statistics.rows_after < rules.last_rows < total:
        windows.append(TrainingWindow(WindowKind.LAST, rows=rules.last_rows))
    return tuple(windows)
