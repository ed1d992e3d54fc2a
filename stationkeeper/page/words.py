"""Numbers, times and states in words, the same on the page, in the report and in alerts' pages."""

from collections.abc import Sequence
from datetime import UTC, datetime

from stationkeeper.contracts.model_status import IncidentStatus, SubjectStatus
from stationkeeper.monitor.core.reasons import CAUSE_HELP

STATE_WORDS = {
    "unknown": "unknown",
    "steady": "steady",
    "drifting": "drifting",
    "broken": "broken data",
    "recovering": "recovering",
}
# A shape for each state, so that colour is never the only difference.
STATE_SIGNS = {"unknown": "?", "steady": "✓", "drifting": "▲", "broken": "✕", "recovering": "↻"}
# Order of urgency: what needs a person comes first, what is not known before what is well.
URGENCY = {"broken": 0, "drifting": 1, "recovering": 2, "unknown": 3, "steady": 4}

KIND_WORDS = {
    "data_drift": "The inputs changed",
    "prediction_drift": "The predictions changed",
    "performance": "The performance fell",
    "concept_drift": "The link between inputs and outcome changed",
    "train_serve_skew": "Serving disagrees with training",
    "data_quality": "The data are broken",
    "recovered": "The model recovered",
    "cure": "What retraining did",
}
CAUSE_WORDS = {cause.value: words for cause, words in CAUSE_HELP.items()}
OUTCOME_WORDS = {
    "published": "published",
    "suppressed": "held back",
    "rejected": "rejected",
    "failed": "failed",
    "no_evidence": "ended without evidence",
    "candidate": "gave a candidate",
}
DISTANCE_WORDS = {
    "psi": "PSI",
    "js": "Jensen-Shannon",
    "wasserstein": "Wasserstein",
    "ks": "Kolmogorov-Smirnov",
    "tv": "Total variation",
    "hellinger": "Hellinger",
    "linf": "Largest difference of a cell",
    "chi2": "Chi-square",
}
# The names of papers and of scikit-learn; what is no abbreviation is the measure's own name with spaces.
_MEASURE_WORDS = {
    "f1": "F1",
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "brier": "Brier score",
    "macro_f1": "macro F1",
    "mae": "MAE",
    "rmse": "RMSE",
}
# Below this a number is the next float to zero, the lower edge of a cell that holds zero alone.
TINY = 1e-300
_UNITS = ((86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second"))


def when(ms: int | None) -> str:
    """Return a time such as ``23 Nov 2026 12:04 UTC``; ``not yet`` for None."""
    if ms is None:
        return "not yet"
    time = datetime.fromtimestamp(ms / 1_000, tz=UTC)
    return f"{time.day} {time:%b %Y %H:%M} UTC"


def iso(ms: int) -> str:
    """Return a time as RFC 3339 with seconds."""
    return f"{datetime.fromtimestamp(ms / 1_000, tz=UTC):%Y-%m-%dT%H:%M:%SZ}"


def duration(ms: int) -> str:
    """Return a length of time in its two largest units, such as ``2 hours 5 minutes``."""
    left, parts = max(0, ms), list[str]()
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(plural(count, unit))
        # Seconds beside minutes would claim a precision that no pane has.
        if len(parts) == 2 or (parts and unit == "minute"):
            break
    return " ".join(parts) or "less than a second"


def plural(count: int, noun: str) -> str:
    """Return ``1 row`` or ``1 204 rows``."""
    return f"{integer(count)} {noun}" if count == 1 else f"{integer(count)} {noun}s"


def integer(count: float) -> str:
    """Return a whole number with thin spaces between thousands."""
    return f"{round(count):,}".replace(",", "\u202f")


def number(value: float | None, digits: int = 3) -> str:
    """Return a number to ``digits`` significant digits, without exponents where they do not help."""
    if value is None:
        return "–"
    if abs(value) < TINY:
        return "0"
    # Outside, a plain number is mostly zeros; inside, an exponent is harder to read than the digits.
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits - 1}e}"
    if abs(value) >= 10 ** (digits - 1):
        return integer(value)
    return f"{value:.{digits}g}"


def percent(share: float | None) -> str:
    """Return a share as per cent to three digits, to two below ten, whole from 100 on: ``15.2 %``, ``3.2 %``."""
    if share is None:
        return "–"
    # Below a tenth a third digit is less than a tenth of a point, which no share here is known to.
    # Traffic may come twenty times as dense as usual: three digits of 1 900 would be an exponent.
    told = integer(share * 100) if abs(share) >= 1 else f"{share * 100:.{2 if abs(share) < 0.1 else 3}g}"
    return f"{told}\u00a0%"


def measured(value: float | None, *, share: bool = True) -> str:
    """Return a measure of performance: a share as per cent, what has a unit of its own to four digits."""
    return percent(value) if share or value is None else f"{value:.4g}"


def measure_words(measure: str) -> str:
    """Return a measure as people write it: ``MAE``, ``log loss``, ``recall of cat``."""
    name, of, one = measure.partition(" of ")
    return f"{_MEASURE_WORDS.get(name, name.replace('_', ' '))}{of}{one}"


def span(low: int, high: int) -> str:
    """Return ``23 Nov 2026 12:04 to 12:09 UTC``; the day is repeated only when it differs."""
    first, last = (datetime.fromtimestamp(ms / 1_000, tz=UTC) for ms in (low, high))
    if first.date() == last.date():
        return f"{first.day} {first:%b %Y %H:%M} to {last:%H:%M} UTC"
    return f"{when(low)} to {when(high)}"


def sentence(words: str) -> str:
    """Return words as a sentence: a full stop at the end, unless there is nothing to say."""
    return words if not words or words[-1] in ".!?…" else f"{words}."


def why(reason: str, outcome: str) -> str:
    """Return a reason as a sentence; an empty text where it only repeats the outcome."""
    # Some outcomes carry their own name as the reason; said twice it reads like a fault of the page.
    reason = "" if reason.strip().lower() == outcome else sentence(reason)
    return f"{reason[:1].upper()}{reason[1:]}"


def listing(names: Sequence[str], limit: int = 3) -> str:
    """Return names as a phrase: ``a, b and 4 others``."""
    if len(names) <= limit:
        return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)
    return f"{', '.join(names[:limit])} and {plural(len(names) - limit, 'other')}"


def subject_title(subject: SubjectStatus) -> str:
    """Return the subject's name with what sets it apart from others of that name."""
    check = f", {subject['check']}" if "check" in subject else ""
    segment = f" in {subject['segment']}" if subject["segment"] else ""
    return f"{subject['name']}{check}{segment}"


def incident_headline(incident: IncidentStatus) -> str:
    """Return what is wrong in one short sentence, led by the subject that moved first."""
    what = KIND_WORDS.get(incident["kind"], incident["kind"].replace("_", " "))
    others = len(incident["subjects"]) - 1
    with_others = f" with {plural(others, 'other')}" if others > 0 else ""
    return f"{what}: {incident['leader']}{with_others}"


def incident_cause(cause: str) -> str:
    """Return a cause of the closed list as a sentence; any other text stays as it is."""
    return CAUSE_WORDS.get(cause, sentence(cause))


def incident_since(incident: IncidentStatus) -> str:
    """Return when it began, how sure that is and how long it took to see."""
    sentence = f"Began about {when(incident['onset'])}"
    low, high = incident.get("onset_low"), incident.get("onset_high")
    if low is not None and high is not None and high > low:
        sentence += f" (surely within {span(low, high)})"
    delay = incident["opened"] - incident["onset"]
    return f"{sentence}; seen {duration(delay)} later." if delay > 0 else f"{sentence}; seen at once."


def incident_harm(incident: IncidentStatus) -> str:
    """Return what it costs in one sentence, "" where nobody has weighed it."""
    return sentence(incident["harm"]["words"]) if "harm" in incident else ""


def incident_numbers(incident: IncidentStatus) -> str:
    """Return the numbers of the decision in one sentence; only those that exist."""
    parts = []
    if "effect" in incident:
        parts.append(f"{percent(incident['effect'])} of the traffic moved")
    if "statistic" in incident and "threshold" in incident:
        parts.append(
            f"evidence {number(incident['statistic'])} against a threshold of {number(incident['threshold'])} nats"
        )
    if "rows" in incident:
        parts.append(f"{plural(incident['rows'], 'row')} looked at")
    sentence = ", ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}." if sentence else ""
