"""Sampled events set beside the reference and the settings they are judged by: what differs, and what to do about it.

One difference is one line. What the world may do by itself (a new value, a few nulls more) is said and does not fail;
what only a wrong type, unit, spelling or path does, fails.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from stationkeeper.contracts.column import Categories, Column
from stationkeeper.contracts.times import to_datetime
from stationkeeper.events import NULL_WORDS, CategoryColumn, Events, FeatureColumn, Flags, NumberColumn, outcomes
from stationkeeper.events.columns import MIXED
from stationkeeper.monitor.core.reference import QUALITY, CategoricalCells, NumericCells, Reference, ReferenceSubject
from stationkeeper.monitor.settings import DAY_MS, ModelSettings
from stationkeeper.retrain.core.labels import misfit
from stationkeeper.retrain.settings import RetrainSettings

# Services that log predictions are younger than this: an earlier year is a wrong unit, not an old event.
_FIRST_MS: Final = 946_684_800_000
# Epochs of one unit read as another are wrong by a thousand; a year ahead leaves room for any clock.
_AHEAD_MS: Final = 366 * DAY_MS
# Chance does so once in a million looks, and it takes more than three events: a check looks at four shares of each of
# some hundred features. Higher would speak of an unchanged world, lower would miss one broken value in fifty.
_CHANCE, _SLACK = 1e-6, 3
# From this share of a sample on nobody believes in a moved world: half of the values are new, or nulls, or beyond.
_MOST: Final = 0.5
# Fewer labels than this say nothing about a class that none of them has: of a rare one a hundred may hold none.
_ENOUGH_LABELS: Final = 20
# How many values are named in a line.
_NAMED: Final = 3
_SAME: Final[Mapping[str, str]] = {"true": "1", "false": "0", "1": "true", "0": "false"}


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference in words, with what to do; ``fails`` says that it makes verdicts wrong from the first pane on."""

    words: str
    fails: bool = True


def of_model(events: Sequence[Events], model: str) -> list[Events]:
    """Return the events of one model, in the same parts."""
    found = []
    for part in events:
        mine = np.array([name == model for name, _ in part.owners] or [False])
        rows = np.flatnonzero(mine[part.owner])
        if len(rows):
            found.append(part.keep(rows))
    return found


def event_mismatches(events: Sequence[Events], settings: ModelSettings, now: int, positive: str) -> Iterator[Mismatch]:
    """Yield what is wrong with one model's events whatever its reference says: times, predictions, labels.

    ``now`` is in ms; ``positive`` is the class that labels are compared with.
    """
    for kind, mapping in settings.topics().items():
        times = np.concatenate([np.empty(0, np.int64), *(part.time for part in events if part.kind == kind)])
        early, late = int((times < _FIRST_MS).sum()), int((times > now + _AHEAD_MS).sum())
        if early or late:
            year = to_datetime(int(times.min() if early else times.max())).year
            yield Mismatch(
                f"the time of {early or late} of {len(times)} {kind}s lies in {year}: say what numbers count "
                f"(time_unit of {mapping.topic}, now {mapping.time_unit}), or map another field"
            )
    answers = [part for part in events if part.kind == "prediction"]
    count = sum(map(len, answers))
    if count and not any(_usable(part.prediction).any() for part in answers):
        path = settings.predictions.map.get("prediction", "prediction")
        yield Mismatch(
            f"the prediction is null in every one of {count} records: the field {path!r} holds none; map.prediction of "
            f"{settings.predictions.topic} must name the one that does"
        )
    yield from _label_mismatches([part for part in events if part.kind == "label"], positive, settings)


def _label_mismatches(labels: Sequence[Events], positive: str, settings: ModelSettings) -> Iterator[Mismatch]:
    seen: Counter[str] = Counter()
    for part in labels:
        if part.label is not None:
            codes = part.label.codes[part.label.codes >= 0].tolist()
            seen.update(part.label.keys[code] for code in codes)
    count = seen.total()
    if count < _ENOUGH_LABELS:
        return
    truth = np.concatenate([outcomes(part, positive) for part in labels])
    shown = ", ".join(repr(key) for key, _ in seen.most_common(_NAMED))
    numbers = all(_is_number(key) for key in seen)
    if not (truth == 1).any() and not (numbers and _is_number(positive)):
        yield Mismatch(
            f"no label of {count} is positive: they are {shown}, and positive is {positive!r}; set positive: to the "
            "label's own word"
        )
    elif (truth == 1).all() and settings.absent_is is None:
        yield Mismatch(
            f"every one of {count} labels is positive ({shown}): if the others never get one, set absent_is: negative, "
            "or precision and recall stay unknown",
            fails=False,
        )


def trainer_mismatch(events: Sequence[Events], rules: RetrainSettings) -> Iterator[Mismatch]:
    """Yield why the labels are none that the configured trainer could learn from; it would say so after hours."""
    columns = [part.label for part in events if part.label is not None]
    texts = {column.keys[code] for column in columns for code in set(column.codes.tolist()) if code >= 0}
    fault = misfit(texts, rules.labels.positive_class, whole=False) if rules.task == "binary" else None
    if fault is not None:
        yield Mismatch(f"no retraining could learn from these labels: {fault}")


def version_mismatch(events: Sequence[Events], versions: Sequence[str]) -> Iterator[Mismatch]:
    """Yield whether predictions come of versions that have no reference."""
    seen: Counter[str] = Counter()
    for part in events:
        if part.kind == "prediction":
            seen.update(part.owners[owner][1] for owner in part.owner.tolist())
    strange = {version: count for version, count in seen.items() if version not in versions}
    if versions and strange:
        named = ", ".join(f"{version!r}" for version in [*strange][:_NAMED])
        yield Mismatch(
            f"{sum(strange.values())} of {seen.total()} predictions are of version {named}, references are of "
            f"{', '.join(versions)}: profile with --version, or correct the version that events carry",
            fails=sum(strange.values()) >= _MOST * seen.total(),
        )


def reference_mismatches(
    events: Sequence[Events], reference: Reference, settings: ModelSettings, now: int
) -> Iterator[Mismatch]:
    """Yield how the events that carry the inputs, and the predictions, differ from the reference. O(events)."""
    # A reference without times counts rows, which no file has 86 million of.
    if reference.last is not None and (DAY_MS < reference.last < _FIRST_MS or reference.last > now + _AHEAD_MS):
        yield Mismatch(
            f"the reference's own rows end in {to_datetime(reference.last).year}: profile again with the right "
            "--time-unit"
        )
    inputs = [part for part in events if part.kind == settings.source]
    answers = [part for part in events if part.kind == "prediction"]
    for subject in reference.subjects:
        is_answer = subject is reference.prediction
        parts = answers if is_answer else inputs
        columns = [part.prediction if is_answer else part.features.get(subject.name) for part in parts]
        # A prediction that is null everywhere has been said already.
        if parts and not (is_answer and not any(_usable(column).any() for column in columns)):
            if isinstance(subject.cells, NumericCells):
                # As the monitor reads them, a text may be a number.
                rules = settings.values
                columns = [one.written(rules) if isinstance(one, CategoryColumn) else one for one in columns]
            yield from _subject_mismatches(subject, columns, list(map(len, parts)), reference.rows)
    known = {subject.name for subject in reference.features}
    new = sorted({name for part in inputs for name in part.features} - known)
    if new:
        more = f" and {len(new) - _NAMED} more" if len(new) > _NAMED else ""
        named = ", ".join(map(repr, new[:_NAMED]))
        yield Mismatch(f"not watched, for the reference does not have them: {named}{more}", fails=False)


def _subject_mismatches(
    subject: ReferenceSubject, columns: Sequence[FeatureColumn | None], sizes: Sequence[int], rows: int
) -> Iterator[Mismatch]:
    numeric = isinstance(subject.cells, NumericCells)
    found = np.zeros(len(QUALITY), np.int64)
    counted = [None if column is None else column.core(subject.json_type, numeric=numeric) for column in columns]
    for column, size in zip(counted, sizes, strict=True):
        if column is None:
            found[0] += size
            continue
        counters = subject.cells.tally(column, np.zeros(size, np.int64), 1)[0]
        found += counters[subject.cells.count : subject.cells.count + len(QUALITY)]
    seen = dict(zip(QUALITY, found.tolist(), strict=True))
    known = dict(zip(QUALITY, subject.quality.tolist(), strict=True))
    total, name = sum(sizes), repr(subject.name)
    gone, mistyped = seen["absent"] + seen["null"], seen["wrong_type"]
    if _surprising(gone, total, known["absent"] + known["null"], rows):
        word = "absent" if seen["absent"] >= seen["null"] else "null"
        yield Mismatch(
            f"{name} is {word} in {gone} of {total} events, {_share(subject.missing_share)} of the reference: map its "
            "path (map.features), send it, or take it out of the reference (--features)",
            fails=gone >= _MOST * total,
        )
    if _surprising(mistyped, total, known["wrong_type"], rows):
        types = " or ".join(sorted({_type(column) for column in columns if column is not None}))
        wanted = "number" if numeric else subject.json_type or "string"
        yield Mismatch(
            f"{name} is {types} in events ({mistyped} of {total} cannot be used as they are), "
            f"{wanted} in the reference: send {wanted}s, or profile the file with the type that events have "
            f"(--text {subject.name} for text)"
        )
    if isinstance(subject.cells, CategoricalCells):
        if not subject.high_cardinality and _surprising(seen["unseen"], total, 2 * known["unseen"], rows):
            yield from _unseen(subject, subject.cells, counted, total)
    elif _surprising(seen["below"] + seen["above"], total, known["below"] + known["above"], rows):
        beyond = seen["below"] + seen["above"]
        yield Mismatch(
            f"{name} lies outside the reference's {subject.cells.low:.6g} to {subject.cells.high:.6g} in {beyond} of "
            f"{total} events: is it the same unit?",
            fails=beyond >= _MOST * total,
        )


def _unseen(
    subject: ReferenceSubject, cells: CategoricalCells, columns: Sequence[Column | None], total: int
) -> Iterator[Mismatch]:
    counts: Counter[str] = Counter()
    for column in columns:
        if isinstance(column, Categories):
            counts.update(column.keys[code] for code in column.codes[column.codes >= 0].tolist())
    new = [key for key, _ in counts.most_common() if cells.lookup([key])[1][0]]
    words = [key for key in new if key.strip() in NULL_WORDS]
    twins = {key: twin for key in new if (twin := _twin(key, cells)) is not None}
    name = repr(subject.name)
    if words:
        yield Mismatch(
            f"{name} holds {words[0]!r} as a value in {counts[words[0]]} of {total} events, which the reference does "
            "not know: send null, or profile a file in which it is a value (--na says which texts are none)"
        )
    if twins:
        one = next(iter(twins))
        pair = "" if subject.sensitive else f": {one!r} in events, {twins[one]!r} in the reference"
        yield Mismatch(
            f"{name} is spelled differently{pair}; make both alike (--text {subject.name} keeps digits as they are)"
        )
    rest = [key for key in new if key not in twins and key not in words]
    if rest:
        shown = "" if subject.sensitive else f" ({', '.join(map(repr, rest[:_NAMED]))})"
        count = sum(counts[key] for key in rest)
        yield Mismatch(
            f"{name} has values that the reference never saw{shown} in {count} of {total} events: the world moved, or "
            "the file is another coding",
            fails=count >= _MOST * total,
        )


def _twin(key: str, cells: CategoricalCells) -> str | None:
    """Return a spelling of the same value that the reference knows: other case, blanks, zeros, or true for 1."""
    bare = key.strip()
    spellings = [bare, bare.lower(), bare.upper(), bare.capitalize(), bare.lstrip("0"), bare.removesuffix(".0")]
    spellings += [f"{'0' * zeros}{bare}" for zeros in (1, 2, 3)] if bare.isdigit() else []
    spellings += [_SAME[bare.lower()]] if bare.lower() in _SAME else []
    return next((one for one in spellings if one not in {"", key} and not cells.lookup([one])[1][0]), None)


def _surprising(count: int, total: int, known: int, rows: int) -> bool:
    """Return whether ``count`` of ``total`` events is more than a share of ``known`` in ``rows`` explains.

    The reference's share is an estimate too, so that the chance is that of the beta-binomial law with a flat prior:
    of 400 rows none and of 300 events ten is about (300 / 700)^10 = 2e-4, where a share known to be 1 / 402 would give
    1e-8. O(total).
    """
    yes, no = min(known, rows) + 1, rows - min(known, rows) + 1
    if count <= total * yes / (yes + no) + _SLACK:
        return False
    whole = math.lgamma(yes + no) - math.lgamma(yes) - math.lgamma(no) + math.lgamma(total + 1)
    whole -= math.lgamma(yes + no + total)
    terms = (
        math.lgamma(yes + x) + math.lgamma(no + total - x) - math.lgamma(x + 1) - math.lgamma(total - x + 1)
        for x in range(count, total + 1)
    )
    return sum(math.exp(whole + term) for term in terms) < _CHANCE


def _usable(column: FeatureColumn | None) -> Flags:
    """Return which rows have a value, bool[n]."""
    if column is None:
        return np.zeros(0, np.bool_)
    if isinstance(column, CategoryColumn):
        return column.codes >= 0
    return ~np.isnan(column.values) if column.status is None else ~np.isnan(column.values) & (column.status == 0)


def _type(column: FeatureColumn) -> str:
    if isinstance(column, NumberColumn):
        return "number"
    return "of several types" if column.types == MIXED else column.types


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.lower() in {"true", "false"}
    return True


def _share(value: float) -> str:
    return f"{100 * value:.3g} %"
