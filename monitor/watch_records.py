"""A watch's state in pieces: what a pane does not change is not written again."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

RING: Final = 256
"""Places for remembered panes; more than ``monitor.core.recent`` ever keeps, so a place is free when it comes round."""

_BAG = "bag.growth"


class WatchRecords:
    """Splits the states of one watch into a head and pieces, and yields those that differ from what was written.

    Pieces are the bags by stratum (hour of the week), the slots of the chart window and the remembered panes: of each
    a pane changes one. ``joined`` is the inverse. O(state).
    """

    def __init__(self) -> None:
        self._written: dict[str, bytes] = {}
        self._places: dict[int, int] = {}
        self._next = 0

    def changed(self, state: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield (name, value) of the head, named "", and of pieces that changed; None for one that is gone."""
        head, pieces = self._split(state)
        for name, value in pieces.items():
            mark = _mark(value)
            if self._written.get(name) != mark:
                self._written[name] = mark
                yield name, value
        for name in [name for name in self._written if name not in pieces]:
            del self._written[name]
            yield name, None
        yield "", head

    def gone(self) -> Iterator[tuple[str, None]]:
        """Yield every name that was written, for a watch that ends."""
        yield from ((name, None) for name in self._written)
        yield "", None
        self._written.clear()

    def joined(self, head: Mapping[str, Any], pieces: Mapping[str, Any]) -> dict[str, Any]:
        """Return the state of a head and its pieces, and go on from there; a state of format 1 has no pieces."""
        self._written = {name: _mark(value) for name, value in pieces.items()}
        cut = head.get("pieces")
        if cut is None:
            self._written.clear()
            return dict(head["watch"])
        state: dict[str, Any] = dict(head["watch"])
        for drift, shape in cut["bags"].items():
            growth = np.zeros(shape, np.int64)
            for stratum in range(shape[0]):
                part = pieces.get(f"bag/{drift}/{stratum}")
                if part is not None:
                    growth[stratum] = part
            state["drifts"] = {**state["drifts"], drift: {**state["drifts"][drift], _BAG: growth}}
        window = state["window"]
        rows = [pieces[f"window/{int(slot) % RING}"] for slot, _ in window["slots"]]
        counts = np.array(rows, np.int64).reshape(len(rows), cut["width"])
        state["window"] = {**window, "counts": counts}
        self._places = dict(cut["places"])
        self._next = cut["next"]
        found = [pieces[f"recent/{place}"] for _, place in cut["places"]]
        empty = np.empty(0, np.int64)
        recent = {
            "heads": np.array([one["head"] for one in found], np.int64).reshape(-1, 6),
            "at": np.concatenate([empty, *(np.cumsum(one["step"]) for one in found)]),
            "values": np.concatenate([empty, *(one["values"] for one in found)]),
        }
        state["desk"] = {**state["desk"], "recent": recent}
        return state

    def _split(self, state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        pieces: dict[str, Any] = {}
        drifts, bags = {}, {}
        for drift, arrays in state["drifts"].items():
            growth = arrays.get(_BAG)
            drifts[drift] = {name: value for name, value in arrays.items() if name != _BAG}
            if growth is None:
                continue
            bags[drift] = list(growth.shape)
            for stratum in np.flatnonzero(growth.reshape(len(growth), -1).any(axis=1)).tolist():
                pieces[f"bag/{drift}/{stratum}"] = growth[stratum]
        window = state["window"]
        for (slot, _), counts in zip(window["slots"].tolist(), window["counts"], strict=True):
            pieces[f"window/{slot % RING}"] = counts
        pieces |= self._remembered(state["desk"]["recent"])
        cut = {
            "bags": bags,
            "width": int(window["counts"].shape[1]),
            "places": [list(pair) for pair in self._places.items()],
            "next": self._next,
        }
        kept = {
            **state,
            "drifts": drifts,
            "window": {name: value for name, value in window.items() if name != "counts"},
            "desk": {name: value for name, value in state["desk"].items() if name != "recent"},
        }
        return {"watch": kept, "pieces": cut}, pieces

    def _remembered(self, recent: Mapping[str, Any]) -> dict[str, Any]:
        """One piece a pane, at the place it was given when it was new."""
        heads, pieces, places = recent["heads"].tolist(), {}, {}
        first = 0
        for head in heads:
            start, last = head[0], first + head[5]
            place = self._places.get(start)
            if place is None:
                place, self._next = self._next, (self._next + 1) % RING
            places[start] = place
            at = recent["at"][first:last]
            step = np.diff(at, prepend=0)
            pieces[f"recent/{place}"] = {"head": head, "step": step, "values": recent["values"][first:last]}
            first = last
        self._places = places
        return pieces


def _mark(value: Any) -> bytes:
    """A fingerprint of a piece, of its content alone."""
    made = hashlib.blake2b(digest_size=8)
    for array in (value["head"], value["step"], value["values"]) if isinstance(value, dict) else (value,):
        made.update(np.ascontiguousarray(array, np.int64).tobytes())
    return made.digest()
