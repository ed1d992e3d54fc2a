"""Which actions keep labels away, by one rule for the monitor and for training.

What is done upon an answer may decide whether the truth is ever known: a blocked payment is never seen to be honest.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

EXPECTED = 10
"""Labels that an action's rows would have at the share of the action most labels come from, below which nothing is said
of it, chosen: where ten are due, chance leaves at most one in one of two thousand cases."""

LEAST = 0.1
"""An action with less than this part of those labels is shut, chosen: some labels come all the same (a customer calls
about a blocked payment), and at a half an action that is merely labelled later would count."""


@dataclass(frozen=True, slots=True)
class ActionLabels:
    """The matured rows of one action, and how many of them have a label."""

    action: str
    rows: int
    labelled: int


def shut_actions(actions: Sequence[ActionLabels], usual: Collection[str] = ()) -> tuple[ActionLabels, ...]:
    """Return the actions whose rows never get a label, most rows first; of a part of all rows what is ``usual``.

    Those are the actions shut in all rows, which decide where too few labels are due in the part.

    Measured by the action that most labels come from: where some of a stream are labelled and a few reviewed in full,
    the stream is not shut. By hand: 900 of 1 000 approved payments have one and 3 of 200 blocked ones, where 180 were
    due and 18 would do.
    """
    most = max(actions, key=lambda one: (one.labelled, one.action), default=None)
    best = most.labelled / most.rows if most is not None and most.rows and most.labelled >= EXPECTED else 0.0
    found = [
        one
        for one in actions
        if (one.labelled <= LEAST * best * one.rows if best * one.rows >= EXPECTED else one.action in usual)
    ]
    return tuple(sorted(found, key=lambda one: (-one.rows, one.action)))
