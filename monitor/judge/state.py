"""A watch's state in pieces: what a pane does not change is not written again."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Final

import numpy as np
from msgspec import structs

from stationkeeper.contracts.state import State, state_of
from stationkeeper.contracts.times import UTC_ZONE
from stationkeeper.monitor.core.detect import BagGrowth, GrownStratum, mark_of
from stationkeeper.monitor.core.panes import PackedRows, RecentState, SparseCounts
from stationkeeper.monitor.core.reference import Counts
from stationkeeper.monitor.core.watch import WatchState
from stationkeeper.monitor.judge.labels import CohortSlot
from stationkeeper.monitor.judge.model import ModelJudge, ModelState
from stationkeeper.monitor.judge.pending import WatchKey
from stationkeeper.monitor.judge.watches import comparing
from stationkeeper.monitor.state_codec import FORMAT, PLAIN, ZONED, thaw

RING: Final = 256
"""Places for remembered panes; more than ``monitor.core.panes.recent`` ever keeps, so that one is always free."""

_BAG = "bag.growth"
_Piece = tuple[bytes, Callable[[], Any]]
"""What tells a piece's content from another, and how to read it."""


class WatchPieces(State, frozen=True):
    """What the head knows of its pieces: shapes of the bags by drift, the width of the window's rows, and places.

    ``places`` are (start, place) of remembered panes in order, ``next`` the place to try for the next one.
    """

    bags: dict[str, tuple[int, ...]]
    width: int
    places: list[tuple[int, int]]
    next: int


class WatchHead(State, frozen=True):
    """A watch's state as it is kept: ``watch`` is a `WatchState` without what lies in pieces, ``key`` a `WatchKey`.

    State of format 1 has no ``pieces``: its ``watch`` is whole.
    """

    watch: Any
    pieces: WatchPieces | None = None
    key: tuple[str, str, str] = ("", "", "")


class RememberedPane(State, frozen=True):
    """A remembered pane: its head with the number of its entries, their distances from each other, and values.

    ``size`` are the bytes of its counts as they are kept, 0 in state of older builds.
    """

    head: list[int]
    step: Counts
    values: Counts
    size: int = 0


class WatchRecords:
    """Splits the states of one watch into a head and pieces, and yields those that differ from what was written.

    Pieces are the bags by stratum (hour of the week), the slots of the chart window and the remembered panes: of each
    a pane changes one. ``joined`` is the inverse. O(state).
    """

    def __init__(self) -> None:
        self._written: dict[str, bytes] = {}
        self._places: dict[int, int] = {}
        self._next = 0

    def changed(self, state: WatchState) -> Iterator[tuple[str, Any]]:
        """Yield (name, value) of the head, named "", and of pieces that changed; None for one that is gone."""
        head, pieces = self._split(state)
        for name, (mark, read) in pieces.items():
            if self._written.get(name) != mark:
                self._written[name] = mark
                yield name, read()
        for name in [name for name in self._written if name not in pieces]:
            del self._written[name]
            yield name, None
        yield "", head

    def gone(self) -> Iterator[tuple[str, None]]:
        """Yield every name that was written, for a watch that ends."""
        yield from ((name, None) for name in self._written)
        yield "", None
        self._written.clear()

    def joined(self, kept: Any, pieces: Mapping[str, Any]) -> WatchState:
        """Return the state of a head and its pieces, and go on from there; a state of format 1 has no pieces."""
        self._written.clear()
        head = state_of(kept, WatchHead)
        cut = head.pieces
        if cut is None:
            return state_of(head.watch, WatchState)
        self._written = {name: mark_of(value) for name, value in pieces.items() if name.startswith("bag/")}
        state: dict[str, Any] = dict(head.watch)
        for drift, shape in cut.bags.items():
            grown = {}
            for stratum in range(shape[0]):
                part = pieces.get(f"bag/{drift}/{stratum}")
                if part is not None:
                    mark = self._written[f"bag/{drift}/{stratum}"]
                    grown[stratum] = GrownStratum(mark, partial(np.asarray, part))
            growth = BagGrowth(tuple(shape), grown)
            state["drifts"] = {**state["drifts"], drift: {**state["drifts"][drift], _BAG: growth}}
        window = state["window"]
        names = [f"window/{slot % RING}" for slot, _ in window["slots"].tolist()]
        self._written |= {name: _headed(slot) for name, slot in zip(names, window["slots"].tolist(), strict=True)}
        state["window"] = {**window, "counts": [pieces[name] for name in names]}
        self._places = dict(cut.places)
        self._next = cut.next
        found = [state_of(pieces[f"recent/{place}"], RememberedPane) for _, place in cut.places]
        for (_, place), one in zip(cut.places, found, strict=True):
            # The sixth is the number of entries, which is no part of what tells a pane from another.
            self._written[f"recent/{place}"] = _headed(one.head[:5])
        recent = {
            "heads": np.array([one.head for one in found], np.int64).reshape(-1, 6),
            "counts": [SparseCounts(one.step, one.values, cut.width, one.size) for one in found],
        }
        state["desk"] = {**state["desk"], "recent": recent}
        return state_of(state, WatchState)

    def _split(self, state: WatchState) -> tuple[WatchHead, dict[str, _Piece]]:
        pieces: dict[str, _Piece] = {}
        drifts, bags = {}, {}
        for drift, detector in state.drifts.items():
            growth = detector.bag_growth
            drifts[drift] = structs.replace(detector, bag_growth=None)
            if growth is None:
                continue
            bags[drift] = tuple(growth.shape)
            for stratum, mark in growth.grown():
                pieces[f"bag/{drift}/{stratum}"] = mark, partial(growth.__getitem__, stratum)
        window = state.window
        for i, slot in enumerate(window.slots.tolist()):
            # Rows only ever come to a slot, so its number and rows tell whether it changed.
            pieces[f"window/{slot[0] % RING}"] = _headed(slot), partial(window.counts.__getitem__, i)
        if state.desk.recent is not None:
            pieces |= self._remembered(state.desk.recent)
        places = list(self._places.items())
        cut = WatchPieces(bags=bags, width=window.counts.width, places=places, next=self._next)
        desk = structs.replace(state.desk, recent=None)
        whole = structs.replace(state, drifts=drifts, window=structs.replace(window, counts=None), desk=desk)
        return WatchHead(watch=whole, pieces=cut), pieces

    def _remembered(self, recent: RecentState) -> dict[str, _Piece]:
        """One piece a pane, at the place it was given when it was new; what is merged takes the older one's."""
        heads = recent.heads.tolist()
        pieces: dict[str, _Piece] = {}
        places = {head[0]: self._places[head[0]] for head in heads if head[0] in self._places}
        taken = set(places.values())
        for i, head in enumerate(heads):
            place = places.get(head[0])
            if place is None:
                while self._next in taken:
                    self._next = (self._next + 1) % RING
                place = places[head[0]] = self._next
                taken.add(place)
                self._next = (self._next + 1) % RING
            # Closed panes do not change: a head names its counts.
            pieces[f"recent/{place}"] = _headed(head), partial(_remembered, head, recent.counts, i)
        self._places = places
        return pieces


def _remembered(head: list[int], counts: PackedRows, i: int) -> RememberedPane:
    found = counts.sparse(i)
    return RememberedPane(head=[*head, len(found.step)], step=found.step, values=found.values, size=found.size)


def _headed(head: list[int]) -> bytes:
    """The mark of a piece that its head tells from all others."""
    return np.array(head, np.int64).tobytes()


_NONE: Final = "-"
_PIECE: Final = "\x1e"


@dataclass(frozen=True, slots=True)
class KeptModel:
    """What was kept of a model beside its open panes."""

    state: ModelState
    slots: Mapping[int, CohortSlot]
    watches: Mapping[WatchKey, WatchState]


def format_of(judge: ModelJudge) -> int:
    """Return the format in which a model's heads are written: the newest only where an older build would misread them.

    That is, where a reference has followed a season: those of before would take its bags for grown from the one that
    was made. Or the one before, where hours are not all those of UTC, or segments are compared: older ones would count
    on in the wrong hours, or forget what they compared.
    """
    zones = {judge.settings.timezone}
    for watch in judge.watches.values():
        # A period keeps the zone in which it began. What segments showed is of the reference of all traffic beside it.
        zones.add(watch.reference.timezone)
        if watch.period is not None:
            zones.add(watch.period.timezone)
    if any(watch.season is not None and watch.season.steps for watch in judge.watches.values()):
        return FORMAT
    return ZONED if zones != {UTC_ZONE} or comparing(judge.watches) else PLAIN


class ModelRecords:
    """Names and values of what belongs to a model: ``head``, the slots of its cohorts, and its watches in pieces."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._watches: dict[WatchKey, WatchRecords] = {}
        self._places: dict[int, int] = {}

    def taken(self, kept: Mapping[str, bytes]) -> KeptModel:
        """Return what ``ModelJudge.restore`` takes, from the frozen states of this model, of which one is its head."""
        prefix = f"{self._model}/cohorts/"
        mine = {int(name[len(prefix) :]): thaw(slot) for name, slot in kept.items() if name.startswith(prefix)}
        slots = {place: state_of(slot, CohortSlot) for place, slot in mine.items() if slot is not None}
        self._places = {slot.slot: place for place, slot in slots.items()}
        head = state_of(thaw(kept[f"{self._model}/head"]), ModelState)
        return KeptModel(head, {slot.slot: slot for slot in slots.values()}, self._joined(kept))

    def _joined(self, kept: Mapping[str, bytes]) -> dict[WatchKey, WatchState]:
        out: dict[WatchKey, WatchState] = {}
        pieces: dict[str, dict[str, Any]] = {}
        prefix = f"{self._model}/watch/"
        heads: dict[str, Any] = {}
        for name, data in kept.items():
            base, mark, piece = name.partition(_PIECE)
            # Counts of pieces stay as narrow as they were stored: as int64 those of one model are hundreds of MB.
            state = thaw(data, narrow=bool(mark)) if name.startswith(prefix) else None
            if state is None:
                continue
            if mark:
                pieces.setdefault(base, {})[piece] = state
            else:
                heads[base] = state
        for base, state in heads.items():
            key = WatchKey(*state["key"])
            records = self._watches[key] = WatchRecords()
            out[key] = records.joined(state, pieces.get(base, {}))
        return out

    def changed(self, judge: ModelJudge, *, closed: bool) -> Iterator[tuple[str, Any]]:
        """Yield (name, value) of what a closed pane changed, and of watches that changed; None for what is gone."""
        if closed:
            yield f"{self._model}/head", judge.state()
            for slot, value in judge.cohorts.changed():
                yield f"{self._model}/cohorts/{self._place(slot)}", value
                if value is None:
                    del self._places[slot]
        for key in sorted(judge.watches.changed):
            watch = judge.watches.get(key)
            records = self._watches.setdefault(key, WatchRecords())
            base = f"{self._model}/watch/{key.version or _NONE}/{key.digest}/{key.segment or _NONE}"
            for piece, value in records.gone() if watch is None else records.changed(watch.state()):
                head = structs.replace(value, key=tuple(key)) if isinstance(value, WatchHead) else value
                yield f"{base}{_PIECE}{piece}" if piece else base, head
            if watch is None:
                del self._watches[key]
        judge.watches.changed.clear()

    def _place(self, slot: int) -> int:
        """The number that a slot is stored under: those of slots that are gone come again, so that names stay few."""
        if slot not in self._places:
            self._places[slot] = next(place for place in count() if place not in self._places.values())
        return self._places[slot]
