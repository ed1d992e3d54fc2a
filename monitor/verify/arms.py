"""What a version decided for an event, the plain way, and what a pane's sums of that are."""

from bisect import bisect_right
from collections import Counter
from typing import Any, Final, NamedTuple

from stationkeeper.contracts.column import canonical_key
from stationkeeper.contracts.wire import SCORE_EDGES
from stationkeeper.monitor.core.reference import Reference, Task
from stationkeeper.monitor.settings import ModelSettings

_EDGES: Final = SCORE_EDGES.tolist()
# The spellings of the two truth values. Written again here on purpose, as a count of its own.
_TRUTH = {**dict.fromkeys(("1", "1.0", "true"), 1), **dict.fromkeys(("0", "0.0", "false"), 0)}
# A day, as the tally clips it: a latency in the wrong unit must not overflow a sum. Written again here on purpose.
_LONGEST_MS = 86_400_000.0


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


def add_decision(sums: Counter[str], decision: Decision, latency: float | None) -> None:
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
