"""The reference as versioned JSON, read with an error that names the field, its value and what to do."""

import base64
import binascii
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stationkeeper.contracts.identity import plain_content_id, plain_numbers, python_json, read_json
from stationkeeper.contracts.messages import SubjectType
from stationkeeper.contracts.times import UTC_ZONE, check_timezone
from stationkeeper.contracts.wire import SCORE_BINS
from stationkeeper.monitor.core.reference.cells import (
    FINE_CELLS,
    HASH_BUCKETS,
    KNOWN_VALUES,
    MAX_NAME,
    QUALITY,
    CategoricalCells,
    Cells,
    Counts,
    NumericCells,
)
from stationkeeper.monitor.core.reference.json_fields import MAX_COUNT, Fields, InvalidReference, read_together
from stationkeeper.monitor.core.reference.outcome_sums import CLASSES, OutcomeSums
from stationkeeper.monitor.core.reference.pairs import GROUPS, Codes, Pair, PairSide
from stationkeeper.monitor.core.reference.reference import (
    HOURS_OF_WEEK,
    HOURS_VERSION,
    PAIRS_VERSION,
    TIMEZONE_VERSION,
    Kind,
    Labels,
    Reference,
    ReferenceSubject,
    Task,
    TrafficProfile,
    cut_grids,
    joint_subject,
)

MAX_BYTES = 64 * 1024 * 1024
"""Longest text that is parsed: a reference of a thousand features is a tenth of it, and its hours of the week
may multiply that. Chosen: more is a wrong file or an attack on memory, of which parsing takes a multiple."""

MAX_SUBJECTS = 5_000
MAX_VALUES = 1_000
"""Bounds that no honest reference meets (the widest seen have a thousand features, names of tens of characters, 30 top
values), so that a message on a topic cannot make a role allocate without end."""

# What may differ while panes still add: who the model is and how its decisions are read; so may the importance, and
# what adoption learns later (`_learned_document`).
_IDENTITY = ("model", "version", "notes", "source", "traffic", "labels", "threshold", "positive", "task")

# The floats of a subject's cells.
_FLOATS = ("cuts", "atoms", "low", "high")

# Significant digits of what is estimated from samples anyway: they halve the text and change no verdict.
_PHI_DIGITS, _FLOOR_DIGITS = 4, 6

# Most variance inflations a subject may have: four for each fine cell in eight directions, beyond what any plan makes.
_MAX_PHI = 4 * FINE_CELLS * 8

# How counts by hour are stored, by the bytes of each: few rows an hour fall in one cell, and a byte is read in a
# seventh of the time of four.
_HOUR_COUNTS = {1: "u1", 2: "<u2", 4: "<i4"}

# How the groups of a pair's feature are written.
_DIGITS = frozenset(map(str, range(GROUPS)))

# Bytes of sums over labelled rows: twelve for each position there is. A lower bound would refuse what `dump` writes
# of a model of many thousand classes; a longer text repeats positions.
_MAX_SUMS = 12 * CLASSES.stop


def dump(reference: Reference) -> str:
    """Return the reference as one line of JSON; ``load(dump(r))`` has the digest of r."""
    document = {"digest": reference.digest, **_document(reference)}
    # Beside the document, as the version would change the digest, and a zone without strata must not.
    if reference.timezone != UTC_ZONE:
        document |= {"schema_version": TIMEZONE_VERSION, "timezone": reference.timezone}
    if any(_hour_bytes(subject) < 4 for subject in reference.watched):
        document["schema_version"] = HOURS_VERSION
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def digest(reference: Reference) -> str:
    """Return the hash of cells and counts: panes counted under one digest add, whoever serves the model.

    What an adoption period learns later (dependence, day floor, strata, traffic) leaves the digest as it is, but for
    the clock by which strata are told apart: evidence of the hours of another one belongs to no stratum here.
    """
    document = {key: value for key, value in _document(reference, learned=False).items() if key not in _IDENTITY}
    # UTC left out, so that references of builds before time zones keep their digest.
    if reference.timezone != UTC_ZONE and any(len(subject.strata) for subject in reference.watched):
        document["timezone"] = reference.timezone
    for subject in (*document["subjects"], *document.get("pairs", ())):
        del subject["importance"]
    numbers = [(one.cells, at) for at, one in enumerate(reference.subjects) if isinstance(one.cells, NumericCells)]
    parts = [part for cells, _ in numbers for part in (cells.cuts, cells.atoms, (cells.low, cells.high))]
    plain = plain_numbers(np.concatenate([np.empty(0), *parts]))
    if not plain.all():
        owner = np.repeat([at for _, at in numbers for _ in range(3)], list(map(len, parts)))
        for at in set(owner[~plain].tolist()):
            subject = document["subjects"][at]
            subject |= {key: python_json(subject[key]) for key in _FLOATS}
    return plain_content_id("ref", document)


def load(text: str | bytes) -> Reference:
    """Read a reference; raises ``InvalidReference`` naming the bad field. Sizes are bounded before they are used."""
    # Asked first: parsing takes several times the memory of the text.
    if len(text) > MAX_BYTES:
        raise InvalidReference(f"reference: {len(text)} bytes, at most {MAX_BYTES} are read; profile fewer features")
    top = Fields(_parsed(text), "reference")
    # Before all other fields, so that a file of a newer release is told as such and not by its first unknown field.
    # Any number of a later release, so that it is told as such.
    version = top.whole("schema_version", 1, MAX_COUNT)
    if version > HOURS_VERSION:
        raise InvalidReference(
            f"reference.schema_version: {version}, this release reads up to {HOURS_VERSION}; "
            "upgrade Stationkeeper or profile again"
        )
    rows = top.items("subjects", MAX_SUBJECTS)
    salt = top.text("salt", empty=True)
    subjects = tuple(_subject(one, salt) for one in _objects("subjects", rows))
    _check_unique(subjects)
    cut_grids(subjects)
    joint = top.items("pairs", MAX_SUBJECTS) if top.has("pairs") else ()
    cells = {subject.name: subject.cells for subject in subjects}
    pairs = tuple(_pair(one, cells) for one in _objects("pairs", joint))
    _check_unique((*subjects, *pairs))
    reference = Reference(
        model=top.text("model"),
        version=top.text("version"),
        subjects=subjects,
        salt=salt,
        rows=top.whole("rows", 0, MAX_COUNT),
        task=top.choice("task", Task) if top.has("task") else None,
        threshold=top.number("threshold"),
        positive=top.text("positive", empty=True),
        first=top.whole("first", -MAX_COUNT, MAX_COUNT) if top.has("first") else None,
        last=top.whole("last", -MAX_COUNT, MAX_COUNT) if top.has("last") else None,
        source=top.text("source"),
        traffic=_traffic(top.inner("traffic")) if top.has("traffic") else None,
        labels=_labels(top.inner("labels")) if top.has("labels") else None,
        notes=tuple(str(note)[:MAX_NAME] for note in top.items("notes", MAX_SUBJECTS)),
        pairs=pairs,
        timezone=_timezone(top) if top.has("timezone") else UTC_ZONE,
    )
    # Without a digest a file counts as it is: whoever edits one by hand takes it out and says so.
    stated = top.text("digest") if top.has("digest") else reference.digest
    if stated != reference.digest:
        raise InvalidReference(
            f"reference.digest: {stated} but the content is {reference.digest}; the file was edited or damaged, "
            "profile again or remove the digest to accept it"
        )
    return reference


def _objects(key: str, items: Sequence[Any]) -> Iterator[Fields]:
    """The objects of a list, with their numbers read together."""
    arrays = read_together(items, ("cuts", "atoms", "phi", "phi_within_days"), ("counts", "quality"))
    for i, (item, mine) in enumerate(zip(items, arrays, strict=True)):
        yield Fields(item, f"reference.{key}[{i}]", mine)


def _parsed(text: str | bytes) -> Any:
    try:
        return read_json(text)
    except (ValueError, RecursionError) as error:
        raise InvalidReference(f"reference: not JSON ({error}); write it with `stationkeeper profile`") from error


def _check_unique(subjects: Sequence[ReferenceSubject]) -> None:
    for name, times in Counter(subject.name for subject in subjects).items():
        if times > 1:
            raise InvalidReference(f"reference.subjects: {name!r} appears twice; names are unique")


def _document(reference: Reference, *, learned: bool = True) -> dict[str, Any]:
    document: dict[str, Any] = {
        "schema_version": PAIRS_VERSION if reference.pairs else reference.schema_version,
        "model": reference.model,
        "version": reference.version,
        "source": reference.source,
        "rows": reference.rows,
        "salt": reference.salt,
        "threshold": reference.threshold,
        "positive": reference.positive,
        "notes": list(reference.notes),
    }
    # Left out where unknown, never null: files of builds before these fields keep their digest.
    for key in ("task", "first", "last"):
        if getattr(reference, key) is not None:
            document[key] = getattr(reference, key)
    if reference.traffic is not None:
        document["traffic"] = {
            "rows_per_hour": [float(f"{rows:.6g}") for rows in reference.traffic.rows_per_hour],
            "size": float(f"{reference.traffic.size:.6g}"),
            "pane_ms": reference.traffic.pane_ms,
        }
    if reference.labels is not None:
        document["labels"] = {
            "scored": reference.labels.scored.ravel().tolist(),
            "confusion": reference.labels.confusion.tolist(),
            "phi": float(f"{reference.labels.phi:.4g}"),
        }
        if len(reference.labels.sums.at):
            # zlib's own default: the record is written once, and a few bytes less would change nothing.
            packed = zlib.compress(reference.labels.sums.pack(), 6)
            document["labels"]["sums"] = base64.b64encode(packed).decode()
    document["subjects"] = [_subject_document(subject, learned=learned) for subject in reference.subjects]
    if reference.pairs:
        document["pairs"] = [_pair_document(subject, learned=learned) for subject in reference.pairs]
    return document


def _pair_document(subject: ReferenceSubject, *, learned: bool) -> dict[str, Any]:
    pair = subject.pair
    if pair is None:
        raise ValueError(f"{subject.name!r} is no pair of features")
    # As digits at once: of two hundred pairs each number alone takes longer than all of their counts.
    groups = [(side.groups + np.int8(ord("0"))).tobytes().decode() for side in (pair.first, pair.second)]
    named = {"features": list(pair.features), "groups": groups, "counts": subject.counts.tolist()}
    return {**named, "importance": subject.importance, **(_learned_document(subject) if learned else {})}


def _subject_document(subject: ReferenceSubject, *, learned: bool) -> dict[str, Any]:
    document: dict[str, Any] = {"name": subject.name, "type": subject.type, "kind": subject.kind}
    cells = subject.cells
    if isinstance(cells, NumericCells):
        document |= {"cuts": cells.cuts.tolist(), "atoms": cells.atoms.tolist(), "low": cells.low, "high": cells.high}
    elif not cells.boolean:
        known = base64.b64encode(cells.known.astype("<u4").tobytes()).decode()
        document |= {"values": list(cells.values), "buckets": cells.buckets, "known": known}
    document |= {"counts": subject.counts.tolist(), "quality": subject.quality.tolist()}
    document |= {
        "json_type": subject.json_type,
        "importance": subject.importance,
        "sensitive": subject.sensitive,
        "high_cardinality": subject.high_cardinality,
        "distinct": subject.distinct,
    }
    return document | _learned_document(subject) if learned else document


def _learned_document(subject: ReferenceSubject) -> dict[str, Any]:
    """What the order of rows taught of a subject or a pair."""
    document: dict[str, Any] = {
        "phi": [float(f"{value:.{_PHI_DIGITS}g}") for value in subject.phi],
        "repeats": subject.repeats,
    }
    if len(subject.phi_within_days):
        document["phi_within_days"] = [float(f"{value:.{_PHI_DIGITS}g}") for value in subject.phi_within_days]
    if subject.day_floor is not None:
        document["day_floor"] = float(f"{subject.day_floor:.{_FLOOR_DIGITS}g}")
    # Compressed: 168 hours of 256 cells are 170 kB of mostly small numbers, some forty times the rest of a subject.
    if len(subject.strata):
        size = _hour_bytes(subject)
        # zlib's own default, as for the sums.
        packed = zlib.compress(subject.strata.astype(_HOUR_COUNTS[size]).tobytes(), 6)
        document["strata"] = {"hours": len(subject.strata), "counts": base64.b64encode(packed).decode()}
        # Left out where four, as builds before wrote it.
        if size < 4:
            document["strata"]["bytes"] = size
    return document


def _hour_bytes(subject: ReferenceSubject) -> int:
    """Bytes of each count by hour, as few as hold the largest; four where there are none."""
    if not subject.strata.size:
        return 4
    largest = int(subject.strata.max())
    return 1 if largest < 1 << 8 else 2 if largest < 1 << 16 else 4


def _subject(fields: "Fields", salt: str) -> ReferenceSubject:
    kind = fields.choice("kind", Kind)
    sensitive = fields.flag("sensitive")
    cells = _cells(fields, kind, salt, sensitive=sensitive)
    counts = fields.counts("counts", cells.count)
    subject = ReferenceSubject(
        name=fields.text("name"),
        type=fields.choice("type", SubjectType),
        kind=kind,
        cells=cells,
        counts=counts,
        quality=fields.counts("quality", len(QUALITY)),
        json_type=fields.text("json_type", empty=True),
        sensitive=sensitive,
        high_cardinality=fields.flag("high_cardinality"),
        distinct=fields.whole("distinct", 0, MAX_COUNT),
        **_learned(fields, cells.count),
    )
    # Coarse cells are cut by mass: without a row there is nothing to compare with.
    if kind is Kind.NUMERIC and not subject.rows:
        raise InvalidReference(f"{fields.path}.counts: all zero; profile rows in which {fields.path} has values")
    return subject


def _learned(fields: "Fields", cells: int) -> dict[str, Any]:
    """Read what the order of rows taught of a subject or a pair of so many cells."""
    return {
        "importance": fields.number("importance", 0.0),
        "phi": fields.floats("phi", _MAX_PHI),
        "phi_within_days": fields.floats("phi_within_days", _MAX_PHI) if fields.has("phi_within_days") else np.empty(0),
        "day_floor": fields.number("day_floor", 0.0) if fields.has("day_floor") else None,
        "strata": _strata(fields.inner("strata"), cells) if fields.has("strata") else np.empty((0, 0), np.int64),
        "repeats": fields.whole("repeats", 0, MAX_COUNT),
    }


def _pair(fields: "Fields", cells: Mapping[str, Cells]) -> ReferenceSubject:
    names, texts = fields.items("features", 2), fields.items("groups", 2)
    known = [name for name in names if isinstance(name, str) and name in cells]
    if len(set(known)) != 2 or len(names) != 2 or len(texts) != 2:
        raise InvalidReference(
            f"{fields.path}.features: {names!r:.80} must be two different subjects, with groups each"
        )
    first, second = (_side(fields, name, text, cells[name]) for name, text in zip(names, texts, strict=True))
    pair = Pair(first, second)
    counts = fields.counts("counts", GROUPS**2 + 1)
    if not counts.sum():
        raise InvalidReference(f"{fields.path}.counts: all zero; profile rows in which both features have values")
    return joint_subject(pair, cells, counts, **_learned(fields, len(counts)))


def _side(fields: "Fields", name: str, text: object, cells: Cells) -> PairSide:
    """Read the group of each cell of a feature: digits, the missing cell last, rising for a number."""
    known = isinstance(text, str) and len(text) == cells.count and set(text[:-1]) <= _DIGITS
    if not known or not str(text).endswith(str(GROUPS)):
        raise InvalidReference(
            f"{fields.path}.groups: {name!r} needs {cells.count} digits below {GROUPS}, the last (missing) {GROUPS}"
        )
    groups: Codes = np.frombuffer(str(text).encode(), np.int8) - np.int8(ord("0"))
    if isinstance(cells, NumericCells) and (groups[1:] < groups[:-1]).any():
        raise InvalidReference(f"{fields.path}.groups: those of the number {name!r} must not fall; profile again")
    return PairSide.of(name, groups, cells)


def _cells(fields: "Fields", kind: Kind, salt: str, *, sensitive: bool) -> Cells:
    if kind is Kind.NUMERIC:
        cuts, atoms = fields.floats("cuts", FINE_CELLS), fields.floats("atoms", FINE_CELLS)
        for name, values in (("cuts", cuts), ("atoms", atoms)):
            # `searchsorted` gives arbitrary cells for edges out of order, and says nothing.
            if (values[1:] <= values[:-1]).any():
                raise InvalidReference(f"{fields.path}.{name}: not strictly increasing; profile again")
        return NumericCells(cuts, atoms, fields.number("low"), fields.number("high"))
    if kind is Kind.BOOLEAN:
        return CategoricalCells(("false", "true"), 1, np.empty(0, np.uint32), "", boolean=True)
    names = fields.items("values", MAX_VALUES)
    if not all(isinstance(name, str) and len(name) <= MAX_NAME for name in names):
        raise InvalidReference(f"{fields.path}.values: every value must be text of at most {MAX_NAME} characters")
    try:
        # Four bytes a value are 5.4 characters of base64; eight leave room and still bound what is read.
        packed = base64.b64decode(fields.text("known", empty=True, longest=8 * KNOWN_VALUES), validate=True)
        hashes = np.frombuffer(packed, "<u4")
    except (binascii.Error, ValueError) as error:
        raise InvalidReference(f"{fields.path}.known: not base64 of 32-bit hashes ({error})") from error
    # Sixteen times ours: room for a release that hashes finer, and still no vector without end.
    buckets = fields.whole("buckets", 1, 16 * HASH_BUCKETS)
    # As we write them they are in order, and sorting each again would take longer than to see that.
    known = hashes if (hashes[1:] > hashes[:-1]).all() else np.unique(hashes)
    return CategoricalCells(tuple(names), buckets, known.astype(np.uint32), salt, sensitive=sensitive)


def _strata(fields: "Fields", cells: int) -> Counts:
    hours = fields.whole("hours", 1, HOURS_OF_WEEK)
    each = fields.whole("bytes", 1, 4) if fields.has("bytes") else 4
    if each not in _HOUR_COUNTS:
        raise InvalidReference(f"{fields.path}.bytes: {each}, must be one of {', '.join(map(str, _HOUR_COUNTS))}")
    size = hours * cells * each
    try:
        # Base64 takes 4/3 of what zlib cannot shrink and a few bytes: a text that is longer is no such counts.
        packed = base64.b64decode(fields.text("counts", longest=2 * size + 1_024), validate=True)
        # One byte more than is right, so that a bomb is cut off and still found to be too long.
        raw = zlib.decompressobj().decompress(packed, size + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise InvalidReference(f"{fields.path}.counts: not compressed base64 ({error}); profile again") from error
    if len(raw) != size:
        raise InvalidReference(
            f"{fields.path}.counts: holds {len(raw)} bytes, {hours} hours x {cells} cells of {each} need {size}"
        )
    # As it was stored, without a copy: of 200 features by hour of the week 7 to 26 MB, as int64 52.
    return np.frombuffer(raw, _HOUR_COUNTS[each]).reshape(hours, cells)


def _timezone(fields: "Fields") -> str:
    try:
        return check_timezone(fields.text("timezone"))
    except ValueError as error:
        raise InvalidReference(f"{fields.path}.timezone: {error}") from error


def _traffic(fields: "Fields") -> TrafficProfile:
    rows = fields.floats("rows_per_hour", HOURS_OF_WEEK)
    if len(rows) not in {1, HOURS_OF_WEEK} or np.any(rows < 0):
        raise InvalidReference(f"{fields.path}.rows_per_hour: needs 1 or {HOURS_OF_WEEK} numbers, none negative")
    return TrafficProfile(rows, fields.number("size", 0.0), fields.whole("pane_ms", 1, MAX_COUNT))


def _labels(fields: "Fields") -> Labels:
    scored = fields.counts("scored", 2 * SCORE_BINS).reshape(SCORE_BINS, 2)
    sums = _sums(fields) if fields.has("sums") else OutcomeSums.none()
    return Labels(scored, fields.counts("confusion", 4), fields.number("phi", 1.0), sums)


def _sums(fields: "Fields") -> OutcomeSums:
    try:
        # Twice, as for the strata.
        packed = base64.b64decode(fields.text("sums", longest=2 * _MAX_SUMS), validate=True)
        raw = zlib.decompressobj().decompress(packed, _MAX_SUMS + 1)
        found = OutcomeSums.unpack(raw)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise InvalidReference(f"{fields.path}.sums: not compressed base64 of sums ({error}); profile again") from error
    if len(raw) > _MAX_SUMS or np.any(np.diff(found.at) <= 0):
        raise InvalidReference(f"{fields.path}.sums: {len(raw)} bytes of sums, at most {_MAX_SUMS}, in order")
    return found
