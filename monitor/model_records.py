"""One model's state as records of a compacted topic: what changed since the last flush, and how it is put together."""

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, Final

from monitor.model_judge import ModelJudge
from monitor.pending import WatchKey
from monitor.watch_records import WatchRecords

_NONE: Final = "-"
_PIECE: Final = "\x1e"


class ModelRecords:
    """Names and values of what belongs to a model: ``head``, the slots of its cohorts, and its watches in pieces."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._watches: dict[WatchKey, WatchRecords] = {}
        self._places: dict[int, int] = {}

    def taken(self, found: Mapping[str, Any]) -> tuple[dict[str, Any], dict[WatchKey, Mapping[str, Any]]] | None:
        """Return what ``ModelJudge.restore`` takes, among all states ``found``; None for a model without any."""
        head = found.get(f"{self._model}/head")
        if head is None:
            return None
        prefix = f"{self._model}/cohorts/"
        mine = {int(name[len(prefix) :]): slot for name, slot in found.items() if name.startswith(prefix)}
        self._places = {slot["slot"]: place for place, slot in mine.items() if slot is not None}
        slots = {number: mine[place] for number, place in self._places.items()}
        return {**head, "slots": slots}, self._joined(found)

    def _joined(self, found: Mapping[str, Any]) -> dict[WatchKey, Mapping[str, Any]]:
        out: dict[WatchKey, Mapping[str, Any]] = {}
        pieces: dict[str, dict[str, Any]] = {}
        prefix = f"{self._model}/watch/"
        for name, state in found.items():
            base, mark, piece = name.partition(_PIECE)
            if mark and state is not None and name.startswith(prefix):
                pieces.setdefault(base, {})[piece] = state
        for name, state in found.items():
            if name.startswith(prefix) and _PIECE not in name and state is not None:
                key = WatchKey(*state["key"])
                records = self._watches[key] = WatchRecords()
                out[key] = records.joined(state, pieces.get(name, {}))
        return out

    def changed(self, judge: ModelJudge, *, closed: bool) -> Iterator[tuple[str, Any]]:
        """Yield (name, value) of what a closed pane changed, and of watches that changed; None for what is gone."""
        if closed:
            yield f"{self._model}/head", judge.state()
            for slot, value in judge.cohorts.changed():
                yield f"{self._model}/cohorts/{self._place(slot)}", None if value is None else {"slot": slot, **value}
                if value is None:
                    del self._places[slot]
        for key in sorted(judge.dirty):
            watch = judge.watches.get(key)
            records = self._watches.setdefault(key, WatchRecords())
            base = f"{self._model}/watch/{key.version or _NONE}/{key.digest}/{key.segment or _NONE}"
            for piece, value in records.gone() if watch is None else records.changed(watch.state()):
                head = value if piece or value is None else {"key": list(key), **value}
                yield f"{base}{_PIECE}{piece}" if piece else base, head
            if watch is None:
                del self._watches[key]
        judge.dirty.clear()

    def _place(self, slot: int) -> int:
        """The number that a slot is stored under: those of slots that are gone come again, so that names stay few."""
        if slot not in self._places:
            self._places[slot] = next(place for place in count() if place not in self._places.values())
        return self._places[slot]
