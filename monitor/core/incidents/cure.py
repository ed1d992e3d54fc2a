"""Whether a retraining cured what it was asked for: the same subject and segment again, under the new version."""

from collections.abc import Collection
from dataclasses import dataclass

from stationkeeper.contracts.identity import verdict_id
from stationkeeper.contracts.messages import (
    CureOutcome,
    Level,
    RetrainRequest,
    Subject,
    SubjectState,
    SubjectType,
    Verdict,
    VerdictKind,
)
from stationkeeper.contracts.state import State, replaced
from stationkeeper.contracts.times import format_duration, to_datetime
from stationkeeper.monitor.core.finding import subject_of_key
from stationkeeper.monitor.core.incidents.incident import Incident
from stationkeeper.monitor.core.performance import OutcomePane, mean_sequence, share_sequence
from stationkeeper.monitor.core.reference import Counts, Labels, error_middles
from stationkeeper.monitor.core.reference.outcome_sums import OCTAVE_MIDDLE, error_scale

# Half an hour of one-minute panes and 500 rows without an incident: the new version must have been judged, not only
# served, before the old one's incidents end (`judge.succession`) or a cure is told. Fewer rows say nothing at low
# traffic, fewer panes nothing at high traffic; at double both wait an hour for what half of it has shown.
STEADY_PANES = 30
STEADY_ROWS = 500

# How long after probation evidence is waited for, beside the age at which labels are judged: a week holds each hour of
# the week once. At half, a weekend's model is called unknown; at double, a breaker hears of it after the next request.
PATIENCE_MS = 7 * 86_400_000

# The share of what was lost that may still be lost: as for the recovery of a subject (`recovery`), halfway between what
# was and what it became, so that noise on either side crosses it seldom.
_HALF = 0.5

# The edges of an octave of the error over its middle: without them a mean of .9 in an octave from .5 to 1 was shown to
# be .75, and a version that helped called not cured.
_LOWEST, _HIGHEST = 0.5 / OCTAVE_MIDDLE, 1.0 / OCTAVE_MIDDLE


class Before(State, frozen=True):
    """How wrong the model was before the change: a share of answers, or of numbers (``numeric``) the mean error.

    ``unknown`` is why nobody can tell, "" where it is known; ``phi`` by how much the variance of sums exceeds that of
    independent rows.
    """

    loss: float = 0.0
    phi: float = 1.0
    numeric: bool = False
    unknown: str = ""


class Trial(State, frozen=True):
    """One retraining under test, from its request on; times in ms, keys and ``again`` as in `Incident`.

    ``request`` is the message as JSON. ``lost`` is what the incident cost a row when the new version took over,
    ``since``; ``confirmed`` is the end of probation. What age asked for has no keys: ``before`` is then its loss of
    late and ``lost`` what a new version was forecast to spare a row. ``panes`` and ``rows`` are those without the
    subject in an open incident (``again``); ``steady`` stays once there were enough. ``labels``, ``loss`` and
    ``square`` are sums over labelled rows of the new version.
    """

    request: str
    keys: tuple[str, ...]
    segment: str
    before: Before
    lost: float = 0.0
    new: str = ""
    since: int = 0
    confirmed: int = 0
    panes: int = 0
    rows: int = 0
    steady: bool = False
    again: str = ""
    labels: int = 0
    loss: float = 0.0
    square: float = 0.0

    @property
    def message(self) -> RetrainRequest:
        """The request."""
        return RetrainRequest.decode(self.request.encode())


class Cure(State, frozen=True):
    """What became of a retraining: ``outcome`` with its reason and the numbers that it rests on; ``time`` in ms."""

    request: str
    incident: str
    outcome: CureOutcome
    reason: str
    time: int
    numbers: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class CureRules:
    """``tolerance`` is how far the loss may stay above what it was (of a mean error a share of it), ``patience`` ms."""

    tolerance: float
    patience: int


def before_change(labels: Labels | None) -> Before:
    """Return how wrong a model was on its labelled reference. By hand: 3 of 100 wrong is a loss of .03."""
    if labels is None or not labels.rows:
        return Before(unknown="the reference of the version before has no labels")
    if labels.numeric:
        # A reference has the sums of its errors, so that only what came since is read from octaves.
        errors, (unit, _) = labels.sums.errors, error_scale()
        return Before(float(errors[:, 1] @ unit / errors[:, 0].sum()), labels.phi, numeric=True)
    return Before(labels.error_rate, labels.phi)


def after_pane(trial: Trial, rows: int, open_incidents: Collection[Incident], *, judged: bool) -> Trial:
    """Return the trial after a closed pane with ``rows`` of the new version in its segment.

    ``judged`` says that drift of the new version is judged by now; its ``open_incidents`` are those of the segment.
    """
    again = next((one.id for one in open_incidents if any(m.key in trial.keys for m in one.members)), "")
    if again or not judged:
        return replaced(trial, again=again, panes=0, rows=0)
    panes, seen = trial.panes + 1, trial.rows + rows
    # Latched: what moves after the cure was shown is another change.
    steady = trial.steady or (panes >= STEADY_PANES and seen >= STEADY_ROWS)
    return replaced(trial, again="", panes=panes, rows=seen, steady=steady)


def after_labels(trial: Trial, pane: OutcomePane) -> Trial:
    """Return the trial after labels of the new version; those that come for some scores rather than others are left."""
    if pane.selective or not pane.rows or pane.start < trial.since:
        return trial
    if trial.before.numeric:
        rows, loss, square = _octave_sums(pane.scored.ravel())
    else:
        # A wrong answer costs 1, and so does its square.
        rows, loss = pane.rows, float(pane.confusion[1] + pane.confusion[2])
        square = loss
    return replaced(trial, labels=trial.labels + rows, loss=trial.loss + loss, square=trial.square + square)


def judge_cure(trial: Trial, rules: CureRules, now: int) -> Cure | None:
    """Return whether the retraining helped, None while that cannot be told and there is time (`PATIENCE_MS`).

    Cured: the subject was steady against the new version's own reference for ``STEADY_PANES`` and ``STEADY_ROWS``, and
    the loss is shown to be back within the tolerance of what it was before, or at least half way back. Not cured: the
    subject moves again, or the loss is shown to be above that. Either holds at every look (`confidence`).
    By hand: 1 % wrong before, 21 % in the incident, so at most 11 % is a cure; 20 wrong of 1 000 lie below .04.
    """
    if not trial.confirmed:
        return None
    if not trial.keys:
        return _judge_forecast(trial, rules, now)
    room = max(rules.tolerance * (trial.before.loss if trial.before.numeric else 1.0), _HALF * trial.lost)
    limit = trial.before.loss + room
    low, high = _interval(trial)
    back, worse = high <= limit, low > limit
    numbers = {"panes": float(trial.panes), "rows": float(trial.rows), "labels": float(trial.labels)}
    if not trial.before.unknown:
        numbers |= {"before": trial.before.loss, "limit": limit, "lost": trial.lost}
        if trial.labels:
            numbers |= {"now": trial.loss / trial.labels, "low": low, "high": high}
    message = trial.message

    def told(outcome: CureOutcome, *why: str) -> Cure:
        words = "; ".join(part for part in why if part)
        # Six digits tell one answer in a million: more are noise that people would compare.
        return Cure(message.id, message.incident, outcome, words, now, {k: round(v, 6) for k, v in numbers.items()})

    subject = _subject_words(trial)
    loss = _loss_words(trial, limit, low, high)
    if trial.again and not trial.steady:
        return told(CureOutcome.NOT_CURED, subject, loss)
    if worse and not trial.before.unknown:
        return told(CureOutcome.NOT_CURED, loss, subject)
    if trial.steady and back and not trial.before.unknown:
        return told(CureOutcome.CURED, subject, loss)
    if trial.steady and trial.before.unknown:
        return told(CureOutcome.UNKNOWN, subject, loss)
    if now - trial.confirmed >= rules.patience:
        waited = f"nothing more was shown within {format_duration(rules.patience)} after probation"
        return told(CureOutcome.UNKNOWN, waited, subject, loss)
    return None


def _judge_forecast(trial: Trial, rules: CureRules, now: int) -> Cure | None:
    """Return what came of a forecast once the labels of a week are there: half of it is shown, or is shown not to be.

    By hand: 12 % wrong of late, a forecast of 2 points less: 2 000 wrong of 20 000 are 10 %, 2 points less (1.1 to
    2.8), a cure; of 10 000 rows (.8 to 3.1) it is not known.
    """
    # Not before the week is whole: a new version's first days may be a weekend, and the loss of late is that of weeks.
    if now - trial.confirmed < rules.patience:
        return None
    late, forecast = trial.before.loss, trial.lost
    low, high = _interval(trial)
    least, most = late - high, late - low
    numbers = {"labels": float(trial.labels), "late": late, "forecast": forecast}
    spared = "no label of it says what it spared"
    outcome = CureOutcome.UNKNOWN
    if trial.labels:
        found = late - trial.loss / trial.labels
        numbers |= {"spared": found, "low": least, "high": most}
        spared = f"it spared {_points(found)} ({_points(least)} to {_points(most)}) in {trial.labels} labelled rows"
        if least >= _HALF * forecast:
            outcome = CureOutcome.CURED
        elif most < _HALF * forecast:
            outcome = CureOutcome.NOT_CURED
    words = (
        f"version {trial.new} was forecast to spare {_points(forecast)} of {_points(late)} wrong answers in a hundred; "
        f"{spared}, the season's share included"
    )
    rounded = {name: round(value, 6) for name, value in numbers.items()}
    return Cure(trial.message.id, trial.message.incident, outcome, words, now, rounded)


def _points(share: float) -> str:
    return f"{100 * share:.2f}"


def overtaken(trial: Trial, champion: str | None, now: int) -> Cure | None:
    """Return that a cure stays unknown because another version replaced the one under test; None where none did.

    A version that was taken back for the one before is no cure that anybody awaits.
    """
    message = trial.message
    if not trial.new or champion in {None, trial.new, message.version}:
        return None
    why = f"version {champion} took the place of version {trial.new} before it could be told"
    numbers = {"panes": float(trial.panes), "rows": float(trial.rows), "labels": float(trial.labels)}
    words = f"{why}; {_subject_words(trial)}"
    return Cure(message.id, message.incident, CureOutcome.UNKNOWN, words, now, numbers)


def cure_verdict(trial: Trial, cure: Cure, digest: str) -> Verdict:
    """Return the verdict that tells what became of a retraining, in the incident that asked for it.

    It warns where it did not help: the request is spent, and nothing else says that somebody has to look.
    """
    message, key = trial.message, trial.keys[0] if trial.keys else f"{SubjectType.PERFORMANCE}:error_rate"
    kind, name = key.partition(":")[0], subject_of_key(key)
    states = {CureOutcome.CURED: SubjectState.STEADY, CureOutcome.NOT_CURED: SubjectState.DRIFTING}
    return Verdict(
        id=verdict_id(message.model, trial.new, trial.segment, key, VerdictKind.CURE, cure.time),
        time=to_datetime(cure.time),
        model=message.model,
        version=trial.new,
        segment=trial.segment,
        subject=Subject(type=SubjectType(kind), name=name),
        kind=VerdictKind.CURE,
        # What age asked for was no fault: a forecast that missed is for the next one to know, nobody has to get up.
        level=Level.WARN if cure.outcome is CureOutcome.NOT_CURED and trial.keys else Level.INFORM,
        state=states.get(cure.outcome, SubjectState.UNKNOWN),
        cause=message.cause,
        reason=f"{cure_words(cure.outcome)}: {cure.reason}",
        rows=int(cure.numbers.get("rows", 0)),
        incident=message.incident,
        reference=digest or None,
        budgeted=False,
        evidence={"cure": cure.outcome.value, "request": message.id, "old": message.version, **cure.numbers},
    )


def cure_words(outcome: CureOutcome) -> str:
    """Return an outcome as people read it."""
    return outcome.value.replace("_", " ")


def _subject_words(trial: Trial) -> str:
    name = subject_of_key(trial.keys[0]) if trial.keys else "the model"
    where = f" in {trial.segment}" if trial.segment else ""
    if trial.again and not trial.steady:
        return f"{name}{where} moves again under version {trial.new} ({trial.again})"
    if trial.steady:
        return f"{name}{where} was steady under version {trial.new} for {trial.panes} panes with {trial.rows} rows"
    return (
        f"{name}{where} was judged under version {trial.new} in {trial.panes} panes with {trial.rows} rows, "
        f"needed {STEADY_PANES} and {STEADY_ROWS}"
    )


def _loss_words(trial: Trial, limit: float, low: float, high: float) -> str:
    before = trial.before
    if before.unknown:
        return f"whether it is as right as before is not known: {before.unknown}"

    def amount(value: float) -> str:
        return f"{value:.3g}" if before.numeric else f"{value:.2%}"

    what = "mean error" if before.numeric else "wrong answers"
    usual = f"{amount(before.loss)} before the change, at most {amount(limit)} is a cure"
    if not trial.labels:
        return f"no labels of version {trial.new} so far ({what}: {usual})"
    now = f"{amount(trial.loss / trial.labels)} ({amount(max(low, 0.0))} to {amount(high)})"
    return f"{what} {now} in {trial.labels} labelled rows, {usual}"


def _interval(trial: Trial) -> tuple[float, float]:
    """The loss of the new version, with bounds that hold at every look; rows that depend on each other count less.

    Of numbers it is known by octave only, whose rows may all lie at either edge: no outcome rests on where in it they
    do. By hand: errors of .9 are told as .75, between .5 and 1 beside chance.
    """
    rows, phi = trial.labels, max(trial.before.phi, 1.0)
    if not trial.before.numeric:
        return share_sequence(trial.loss / phi, rows / phi)
    mean = trial.loss / rows if rows else 0.0
    deviation = max(trial.square / rows - mean**2, 0.0) ** 0.5 if rows else 0.0
    low, high = mean_sequence(mean, deviation, rows / phi)
    return low * _LOWEST, high * _HIGHEST


def _octave_sums(counts: Counts) -> tuple[int, float, float]:
    middles = error_middles()
    return int(counts.sum()), float(counts @ middles), float(counts @ middles**2)
