"""What becomes of each decoded event of a batch: in time, too early, duplicate or late, in the order of the log."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stationkeeper.events import KINDS, Events, Flags, Integers, ahead_of_broker, mix, salt_of
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.tally.clock import UNSET
from stationkeeper.monitor.tally.dedupe import Values
from stationkeeper.monitor.tally.partition import PartitionState
from stationkeeper.streams.ports import Batch

_BOUNDS = {"prediction": "lateness", "feature": "lateness", "label": "label_horizon"}
"""How much older than the partition's clock an event may be: labels are in no pane, so only their horizon binds."""

# Stands for "every row": a slice takes a view where an index would copy.
_ALL = slice(None)
# An id counts once for each kind: hashed apart, a label is no duplicate of its prediction.
_SALTS = {kind: salt_of(f"kind {kind}") for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Classified:
    """The events of one kind: masks bool[n] that exclude each other, and the partition's clock at each, int64[n]."""

    events: Events
    early: Flags
    duplicate: Flags
    late: Flags
    met: Integers

    @property
    def kept(self) -> Events:
        """The events that are counted in panes."""
        out = self.early | self.duplicate | self.late
        return self.events.keep(np.flatnonzero(~out)) if out.any() else self.events


def classify(
    state: PartitionState, batch: Batch, kinds: Sequence[Events], models: Mapping[str, ModelSettings], *, wall: bool
) -> list[Classified]:
    """Tell the events of a batch apart and move the partition's clock and memory past them.

    A topic may carry several kinds: one clock judges all of them, so they pass in offset order, whatever the batches.
    O(n), with one sort where there is more than one kind.
    """
    if not kinds:
        return []
    rows = np.concatenate([events.rows for events in kinds])
    order = np.argsort(rows, kind="stable") if len(kinds) > 1 else _ALL
    rows = rows[order]
    time = np.concatenate([events.time for events in kinds])[order]
    hashes = np.concatenate([mix(events.ids ^ _SALTS[events.kind]) for events in kinds])[order]
    bound = np.concatenate([by_owner(models, events, _BOUNDS[events.kind]) for events in kinds])[order]
    early = np.zeros(len(rows), np.bool_)
    if wall:
        skew = np.concatenate([by_owner(models, events, "skew") for events in kinds])[order]
        early = ahead_of_broker(time, batch.timestamps[rows], skew)
    # The order of the rules matters. An event of the future is refused before its id is remembered, or its corrected
    # repeat would be a duplicate; and a repeat is a duplicate however late it comes.
    timely = np.flatnonzero(~early) if early.any() else _ALL
    offsets = batch.offsets[rows[timely]]
    hashed = np.concatenate([value_hashes(events) for events in kinds])[order][timely]
    duplicate = np.zeros(len(rows), np.bool_)
    duplicate[timely] = state.seen.mark(hashes[timely], offsets, hashed)
    state.ids.remember(hashes[timely], offsets, hashed)
    left_out = early | duplicate
    # The clock that a left-out event met, so that the pane it is noted in does not depend on the batch.
    met = np.maximum(np.maximum.accumulate(np.where(left_out, UNSET, time)), state.clock.now)
    late = np.zeros(len(rows), np.bool_)
    taken = np.flatnonzero(~left_out) if left_out.any() else _ALL
    late[taken], met[taken] = state.clock.advance(time[taken], bound[taken])
    if len(kinds) == 1:
        return [Classified(kinds[0], early, duplicate, late, met)]
    # Back from offset order to the order of each kind's own rows.
    place = np.empty(len(rows), np.int64)
    place[order] = np.arange(len(rows))
    found, first = [], 0
    for events in kinds:
        mine = place[first : first + len(events)]
        found.append(Classified(events, early[mine], duplicate[mine], late[mine], met[mine]))
        first += len(events)
    return found


def value_hashes(events: Events) -> Values:
    """Return each label as 16 bits of its value's CRC-32, 1 to 65535, uint16[n]; 0 for other kinds.

    The value as it was sent, whatever class it is read as: what becomes of ids must not depend on references.
    """
    if events.kind != "label" or events.label is None:
        return np.zeros(len(events), np.uint16)
    codes = events.label.codes
    # 1 to 65 535, so that 0 says: no label. Two values of one label share a code once in 65 535 corrections.
    keys = [zlib.crc32(key.encode("utf-8", "surrogatepass")) % 65_535 + 1 for key in events.label.keys]
    table = np.array(keys or [0], np.uint16)
    # Negative codes are values that are none.
    return np.where(codes >= 0, table[np.maximum(codes, 0)], np.uint16(0))


def by_owner(models: Mapping[str, ModelSettings], events: Events, name: str) -> Integers:
    """Return a setting of each event's model, int64[n]."""
    values = np.array([getattr(models[model], name) for model, _ in events.owners], np.int64)
    return values[events.owner]
