"""The plain way to count: one event at a time, with dictionaries, in no hurry; what ``verify`` holds the tally against.

Nothing of the tally's decoding, columns, hashing or grouping is used: only the frozen cells and the rules in words.
"""

import math
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from stationkeeper.contracts.codes import Outcome
from stationkeeper.contracts.column import canonical_key
from stationkeeper.events import Form, JsonValues, plain_value
from stationkeeper.monitor.core.reference import CategoricalCells, NumericCells, Reference, ReferenceSubject
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.tally import LONGEST, OTHER
from stationkeeper.monitor.verify.arms import NOT_SAID, Act, Arm, PlainActs, add_decision, decide_plainly
from stationkeeper.monitor.verify.cells import tally_pair, tally_value
from stationkeeper.monitor.verify.reading import MISSING, Found, PlainReader, answer_of, at_path, share_of


class Key(NamedTuple):
    """What a pane is of."""

    model: str
    version: str
    digest: str
    source: str
    segment: str
    start: int


class Gone(NamedTuple):
    """A reference that counted and is no longer to be had: which rows it counted is known, not in which cells."""

    digest: str


class JoinKey(NamedTuple):
    """What a row for the label join says beside its id: everything by which outcomes are counted later."""

    side: str
    model: str
    version: str
    segments: tuple[str, ...]
    start: int
    bin: int
    positive: bool
    action: str = ""


InForce = Mapping[str, Reference | Gone | None]
"""By ``model/version``."""


class Recount:
    """The outcomes, pane counts and join rows of one input partition, from its first counted record on.

    ``blind`` holds models whose reference was gone at some record: their segments, arms and join rows are not known.
    """

    def __init__(
        self,
        form: Form,
        models: Mapping[str, ModelSettings],
        *,
        wall: bool,
        left_out: Callable[[str], Collection[str]] = lambda _: (),
    ) -> None:
        self._form, self._models, self._wall, self._left_out = form, models, wall, left_out
        self._versions: dict[str, set[str]] = {}
        self.dropped: frozenset[str] = frozenset()
        """Models that the tally left out at this place of the log."""
        self.outcomes: Counter[str] = Counter()
        self.rows: Counter[Key] = Counter()
        self.cells: dict[Key, Counter[int]] = {}
        self._seen: dict[tuple[str, str], tuple[int, int]] = {}
        self._clock: int | None = None
        self.arms: dict[Arm, Counter[str]] = {}
        self.joins: Counter[JoinKey] = Counter()
        self.blind: set[str] = set()
        limits = [models[name].limits for name in form.models]
        most_bytes, most_fields = max(one.message_bytes for one in limits), max(one.fields for one in limits)
        self.texts = JsonValues(form)
        self._reader = PlainReader(form, most_bytes, most_fields)
        self._segments, self._acts = PlainSegments(form, models), PlainActs(self._reader)
        self._horizon = max(models[name].dedupe for name in form.models)

    def take(self, offset: int, stamp: int, value: bytes | None, references: InForce) -> None:
        """Count one record; ``references`` by ``model/version`` are those in force at its offset."""
        # First, as in the tally: of a model that was refused nothing is read, be it right or wrong.
        if self.dropped and self._reader.told(value) in self.dropped:
            self.outcomes[Outcome.DROPPED] += 1
            return
        event = self._reader.read(value)
        if event is None:
            self.outcomes[Outcome.REJECTED] += 1
            return
        settings = self._models[event.model]
        if event.kind != "label":
            event = event._replace(version=self._place(event, references))
        reference = references.get(f"{event.model}/{event.version}")
        # A record without a broker timestamp (-1) cannot be ahead of it.
        if self._wall and stamp >= 0 and event.time > stamp + settings.skew:
            self.outcomes[Outcome.REJECTED] += 1
            self._note("mistimed", event, reference)
            return
        key = (event.kind, event.id)
        # By kind: the feature and the prediction of one event share its id and both count.
        before, last = self._seen.get(key, (None, 0))
        # Also of a duplicate: the horizon runs from the last that came, or a sender that repeats for hours would count
        # again.
        hashed = self._value_hash(event)
        self._seen[key] = offset, hashed
        # A label that says something else than the last one is a correction.
        if before is not None and offset - before <= self._horizon and self._horizon and hashed == last:
            self.outcomes[Outcome.DUPLICATE] += 1
            self._note("duplicates", event, reference)
            return
        # Labels are late by nature; they count while their prediction may still wait.
        bound = settings.label_horizon if event.kind == "label" else settings.lateness
        late = self._clock is not None and event.time < self._clock - bound
        # After late was decided: an event is held against the clock before it.
        self._clock = event.time if self._clock is None else max(self._clock, event.time)
        if late:
            self.outcomes[Outcome.LATE] += 1
            self._note("late", event, reference)
            return
        self.outcomes[Outcome.TALLIED] += 1
        if event.kind == "label":
            self._hand_over(event, (), 0)
            return
        # Its rows are known and its cells are not: what depends on cells, as segments by their values, is left out.
        if isinstance(reference, Gone):
            self.blind.add(event.model)
            self._count(event, reference, ())
            return
        others = [one for one in references.values() if isinstance(one, Reference)]
        segments = self._segments.of(event, reference, others)
        self._count(event, reference, segments)
        # The order of the tally: it looks at events that it has counted.
        self._look(offset, event, reference)
        if event.kind == "prediction":
            self._decide(event, reference, segments)

    def _value_hash(self, event: Found) -> int:
        """The hash of a label's value, 0 for other kinds: 16 bits of its CRC-32, written again here on purpose."""
        if event.kind != "label":
            return 0
        return zlib.crc32((canonical_key(self._reader.field(event.data, "label")) or "").encode()) % 65_535 + 1

    def _decide(self, event: Found, reference: Reference | None, segments: tuple[str, ...]) -> None:
        settings = self._models[event.model]
        decision = decide_plainly(answer_of(self._form, event), share_of(self._form, event), settings, reference)
        latency, act = self._reader.field(event.data, "latency_ms"), self._acts.of(event)
        for segment in ("", *segments):
            arm = Arm(event.model, event.version, segment, event.time // settings.pane * settings.pane)
            mine = self.arms.setdefault(arm, Counter())
            add_decision(mine, decision, None if latency in (MISSING, None) else latency, act)
        self._hand_over(event, segments, decision.bin, positive=decision.positive, act=act)

    def _hand_over(
        self, event: Found, segments: tuple[str, ...], score_bin: int, *, positive: bool = False, act: Act = NOT_SAID
    ) -> None:
        settings = self._models[event.model]
        if settings.labels is not None:
            start = event.time // settings.pane * settings.pane
            whose = (event.kind, event.model, event.version, segments, start)
            self.joins[JoinKey(*whose, score_bin, positive, act.action)] += 1

    def _place(self, event: Found, references: InForce) -> str:
        """The version as it is counted: first come, up to the limit.

        One with a reference of its own always has a place; the record of references then names it.
        """
        mine = self._versions.setdefault(event.model, set())
        if event.version not in mine:
            limit = self._models[event.model].limits.versions
            if len(mine) >= limit and f"{event.model}/{event.version}" not in references:
                return "(other)"
            mine.add(event.version)
        return event.version

    def _look(self, offset: int, event: Found, reference: Reference | None) -> None:
        """Features that the reference does not know, in every eighth record, each counted eight times."""
        features = self._form.features
        settings = self._models[event.model]
        if reference is None or settings.source != event.kind or not isinstance(features, tuple):
            return
        # The tally looks at one record in eight, by the offset alone, spread whatever pattern of holes markers leave.
        # Written again here on purpose.
        if (offset * 0x9E3779B1 >> 16) % 8:
            return
        held = at_path(event.data, features)
        unseen = [name for name in held if name not in self._known(reference)] if isinstance(held, dict) else []
        if unseen:
            pane = settings.pane
            # It stands in the pane of all traffic, which the event has just been counted in.
            key = Key(event.model, event.version, reference.digest, event.kind, "", event.time // pane * pane)
            self.cells[key][reference.layout.pane_counter("unseen_fields")] += 8 * len(unseen)

    def _known(self, reference: Reference) -> set[str]:
        return {*reference.by_name, *self._left_out(reference.digest)}

    def _as_told(self, value: Any, subject: ReferenceSubject) -> Any:
        """A value as the configuration says that texts are read."""
        if value is MISSING:
            return value
        rules = self._form.values
        told = plain_value(value, rules, numeric=isinstance(subject.cells, NumericCells))
        return (canonical_key(told) or told) if subject.name in rules.text else told

    def _note(self, counter: str, event: Found, reference: Reference | Gone | None) -> None:
        if not isinstance(reference, Reference) or self._clock is None or event.kind == "label":
            return
        pane = self._models[event.model].pane
        # In the pane of the clock: the own one of a late or mistimed event has closed, or is years away.
        key = Key(event.model, event.version, reference.digest, event.kind, "", self._clock // pane * pane)
        self.cells.setdefault(key, Counter())[reference.layout.pane_counter(counter)] += 1

    def _count(self, event: Found, reference: Reference | Gone | None, segments: tuple[str, ...]) -> None:
        settings = self._models[event.model]
        digest = "" if reference is None else reference.digest
        start = event.time // settings.pane * settings.pane
        mine = self._cells(event, reference) if isinstance(reference, Reference) else Counter()
        for segment in ("", *segments):
            key = Key(event.model, event.version, digest, event.kind, segment, start)
            self.rows[key] += 1
            self.cells.setdefault(key, Counter()).update(mine)

    def _cells(self, event: Found, reference: Reference) -> Counter[int]:
        """Return what the event adds to the counts of each pane that it is in, by position."""
        mine: Counter[int] = Counter()
        inputs = self._models[event.model].source == event.kind
        for subject in reference.subjects:
            if subject is reference.prediction:
                if event.kind == "prediction":
                    tally_value(mine, reference, subject, self._as_told(answer_of(self._form, event), subject))
            elif inputs:
                path = self._form.feature_path(subject.name)
                found = MISSING if path is None else at_path(event.data, path)
                tally_value(mine, reference, subject, self._as_told(found, subject))
        for joint in reference.pairs if inputs else ():
            tally_pair(mine, reference, joint)
        weight = self._reader.field(event.data, "weight")
        if weight is not MISSING and weight is not None:
            # Octaves of the weight, 2^-16 to 2^15, the outer ones for what is beyond. Written again here on purpose.
            octave = min(max(math.frexp(weight)[1] + 16, 0), 31)
            mine[reference.layout.weights.start + octave] += 1
        return mine


class PlainSegments:
    """The segments of one input partition's events, and the values that have a place in it."""

    def __init__(self, form: Form, models: Mapping[str, ModelSettings]) -> None:
        self._form, self._models = form, models
        self._places: dict[tuple[str, str], set[str]] = {}

    def of(self, event: Found, reference: Reference | None, others: Iterable[Reference]) -> tuple[str, ...]:
        """Return the event's segments beside all traffic; ``others`` are the references that features are read by."""
        found = []
        for dimension in self._models[event.model].segments:
            value = self._value(event, dimension, others)
            subject = None if reference is None else reference.by_name.get(dimension)
            # The reference says which values there are; of a sensitive one it holds hashes, so that values come in
            # their order.
            if subject is not None and isinstance(subject.cells, CategoricalCells) and not subject.sensitive:
                placed = value in subject.cells.values
            else:
                placed = value is not None and self._place(event.model, dimension, value)
            found.append(f"{dimension}={value if placed else OTHER}")
        return tuple(found)

    def _place(self, model: str, dimension: str, value: str) -> bool:
        mine = self._places.setdefault((model, dimension), set())
        # First come, first placed, and never given back: the tally must decide alike after a restart.
        if value not in mine and len(mine) < self._models[model].limits.segments and len(value) <= LONGEST:
            mine.add(value)
        return value in mine

    def _value(self, event: Found, dimension: str, others: Iterable[Reference]) -> str | None:
        path = self._form.paths.get("segment")
        held: Any = MISSING if path is None else at_path(event.data, path)
        if isinstance(held, dict) and dimension in held:
            return canonical_key(held[dimension])
        if dimension in self._form.segment:
            return self._form.segment[dimension]
        cells = [one.by_name[dimension].cells for one in others if dimension in one.by_name]
        where = self._form.feature_path(dimension)
        if not cells or where is None:
            return None
        value = at_path(event.data, where)
        if not all(isinstance(one, NumericCells) for one in cells):
            return None if value is MISSING else canonical_key(value)
        # An integer beyond a double has no float, and would raise below.
        if not isinstance(value, bool | int | float) or abs(value) > 10**308:
            return None
        return canonical_key(float(value))
