"""The class that scores are about, as labels alone or beside scores tell it; and whether only one class ever comes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stationkeeper.contracts.column import Categories, Floats, categories, same_class
from stationkeeper.events import DEFAULT_POSITIVE
from stationkeeper.monitor.core.reference import positive_class

# From this many labels on one class alone is no chance but the rule: of a class of a tenth twenty hold none in an
# eighth of all samples, and a person reads the line.
_ENOUGH: Final = 20


@dataclass(frozen=True, slots=True)
class ValueGuess:
    """One setting of how values are read: its key, its value (None: it must be filled in) and why it was taken."""

    key: str
    value: object
    why: str


def label_guesses(labels: Sequence[Any]) -> dict[str, Any]:
    """Return what labels alone tell: which class is positive, or that only one class ever came."""
    found = categories(np.array(labels, object)) if labels else None
    if found is None or not found.keys:
        return {}
    guess = positive_guess(found)
    if len(found.keys) > 1 or len(labels) < _ENOUGH:
        return {"positive": guess}
    (lone,) = found.keys
    if guess is not None and guess.value is None and isinstance(labels[0], str):
        # A word alone, neither yes nor no: what is labelled at all is what is looked for.
        return {"positive": ValueGuess("positive", lone, "the only label that came"), "lone_label": lone}
    yes = same_class(lone, DEFAULT_POSITIVE if guess is None else str(guess.value))
    return {"positive": guess, "lone_label": lone} if yes else {}


def positive_guess(labels: Categories, scores: Floats | None = None) -> ValueGuess | None:
    """Return the class that scores are about where it is neither 1 nor true; a guess without value where none tells."""
    try:
        found, why = positive_class(labels, scores)
    except ValueError as error:
        return ValueGuess("positive", None, str(error))
    if same_class(found, DEFAULT_POSITIVE):
        return None
    return ValueGuess("positive", found, why or "the other one means no")
