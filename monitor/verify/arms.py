"""What a version decided for an event, what was done upon it, the plain way, and what a pane's sums of that are."""

import math
from bisect import bisect_right
from collections import Counter
from typing import Any, Final, NamedTuple

from stationkeeper.contracts.column import canonical_key
from stationkeeper.contracts.wire import SCORE_EDGES
from stationkeeper.monitor.core.reference import Reference, Task
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.tally import LONGEST
from stationkeeper.monitor.verify.reading import MISSING, Found, PlainReader

_EDGES: Final = SCORE_EDGES.tolist()
# The spellings of the two truth values. Written again here on purpose, as a count of its own.
_TRUTH = {**dict.fromkeys(("1", "1.0", "true"), 1), **dict.fromkeys(("0", "0.0", "false"), 0)}
# A day, as the tally clips it: a latency in the wrong unit must not overflow a sum. Written again here on purpose.
_LONGEST_MS = 86_400_000.0
# How many actions of a model have a place, where the sums of all rows by the chance of any other action begin, and how
# many octaves of a chance are told apart. Written again here on purpose.
_ACTIONS, _DRAWN, _OCTAVES = 16, 128, 11


class Arm(NamedTuple):
    """Whose sums they are: those of all references that counted in the pane."""

    model: str
    version: str
    segment: str
    start: int


class Decision(NamedTuple):
    """A score (None: the prediction is null), its bin among those that all versions share, and which way it went."""

    score: float | None
    bin: int
    positive: bool


class Act(NamedTuple):
    """What was done upon an answer ("": the event does not say), and the chance of that (NaN: unknown)."""

    action: str
    chance: float


NOT_SAID: Final = Act("", math.nan)


class PlainActs:
    """What was done upon the events of one input partition, and the actions that have a place in it."""

    def __init__(self, reader: PlainReader) -> None:
        self._reader = reader
        self._places: dict[str, set[str]] = {}

    def of(self, event: Found) -> Act:
        """Return what an event says of it; an action without a place counts as if it did not say."""
        action, chance, arm = (self._reader.asked(event.data, name) for name in ("action", "assignment_prob", "arm"))
        if not isinstance(action, str | int) or not str(action):
            return Act("", math.nan)
        mine = self._places.setdefault(event.model, set())
        if str(action) not in mine and len(mine) < _ACTIONS and len(str(action)) <= LONGEST:
            mine.add(str(action))
        # Beside an arm it is the arm that was drawn.
        drawn = chance is not MISSING and type(chance) in (int, float) and 0 < chance <= 1 and not isinstance(arm, str)
        return Act(str(action) if str(action) in mine else "", float(chance) if drawn else math.nan)


def octave_plainly(chance: float) -> int:
    """Return the octave of a probability: 0 above a half, 1 above a quarter; the one behind the last where unknown."""
    return min(math.floor(-math.log2(chance)), _OCTAVES - 1) if chance > 0 else _OCTAVES


def decide_plainly(answer: Any, share: float | None, settings: ModelSettings, reference: Reference | None) -> Decision:
    """Return the decision of one answer at the threshold in force; ``share`` is the probability that came with it."""
    decision = _decided(answer, settings, reference)
    if decision.score is None or reference is None or reference.task is not Task.MULTICLASS:
        return decision
    # One of several classes is scored by its own probability, 0 where nobody told one.
    return Decision(share or 0.0, bisect_right(_EDGES, share or 0.0), decision.positive)


def _decided(answer: Any, settings: ModelSettings, reference: Reference | None) -> Decision:
    # Bin 0, because a join row carries one; that there is no score is told by the score itself.
    if answer is None:
        return Decision(None, 0, positive=False)
    if isinstance(answer, str | bool):
        key = canonical_key(answer)
        wanted = settings.positive or ("1" if reference is None else reference.positive)
        # True, 1 and "1" are one class: producers in several languages spell them.
        chosen = key == wanted or _truth(key) == _truth(wanted) is not None
        return Decision(float(chosen), bisect_right(_EDGES, float(chosen)), chosen)
    threshold = settings.threshold
    if threshold is None:
        # Half and the class 1 where no reference says, as the tally; written again here on purpose.
        threshold = 0.5 if reference is None else reference.threshold
    return Decision(float(answer), bisect_right(_EDGES, float(answer)), float(answer) >= threshold)


def _truth(key: str | None) -> int | None:
    return _TRUTH.get((key or "").lower())


def add_decision(sums: Counter[str], decision: Decision, latency: float | None, act: Act) -> None:
    """Add one prediction to the sums of its pane; ``latency`` in ms."""
    sums["rows"] += 1
    sums["positives"] += decision.positive
    if decision.score is None:
        sums["errors"] += 1
    else:
        sums[f"score bin {decision.bin}"] += 1
    if latency is not None:
        sums["timed"] += 1
        # Whole microseconds, so that sums do not depend on the order.
        sums["latency_us"] += round(min(latency, _LONGEST_MS) * 1_000)
    if act.action:
        # By the chance of any other action.
        sums[f"action {act.action!r} at {_DRAWN + octave_plainly(1.0 - act.chance)}"] += 1
