"""A search for parameters within a time budget: drawn from lists, judged by time-ordered validation, seeds kept."""

import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Final

Loss = Callable[[Mapping[str, Any]], float]
"""Fits with these parameters on the rows that may be learnt from, and returns the loss on the validation rows."""

MOST_COMBINATIONS: Final = 10_000
"""Combinations that are listed to be drawn from without repetition, chosen: no budget tries as many. Of more, as many
are drawn one by one, which may repeat some."""


MOST_NAMED: Final = 20
"""Failed combinations that metrics name, chosen: MLflow takes 1 000 metrics at once, the log holds every failure."""

LONGEST_NAME: Final = 200
"""Characters of such a name, chosen: with what stands before it, below the 250 that MLflow takes."""


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """The parameters of the least loss, how many were tried of how many, and the loss of the given and of the best.

    A loss is infinite where the fit failed or gave no number; ``failed`` are those parameters, each with its error.
    """

    parameters: dict[str, Any]
    tried: int
    possible: int
    given_loss: float
    best_loss: float
    failed: tuple[tuple[dict[str, Any], str], ...] = ()

    def numbers(self) -> dict[str, float]:
        """Return what a run's metrics say of it; only finite numbers, as a result holds no others."""
        found: dict[str, float] = {"tried": self.tried, "possible": self.possible, "failed": len(self.failed)}
        found |= {f"failed.{_metric_name(one)}": 1 for one, _ in self.failed[:MOST_NAMED]}
        found |= {"loss_given": self.given_loss, "loss_best": self.best_loss}
        return {f"search.{name}": float(value) for name, value in found.items() if math.isfinite(value)}


def _metric_name(parameters: Mapping[str, Any]) -> str:
    words = " ".join(f"{name}:{parameters[name]}" for name in sorted(parameters))
    return re.sub(r"[^a-zA-Z0-9_. :-]", "_", words)[:LONGEST_NAME]


def search(
    given: Mapping[str, Any],
    space: Mapping[str, Sequence[Any]],
    loss: Loss,
    *,
    seed: int,
    budget_s: float,
    clock: Callable[[], float],
) -> SearchOutcome:
    """Try the ``given`` parameters, then random combinations of ``space`` over them until ``budget_s`` is spent.

    Random and not the grid in order (Bergstra and Bengio 2012): cut off anywhere, each parameter has been tried at all
    its values about alike. The order follows from ``seed``; how far it comes depends on the machine, so a version keeps
    what was chosen, and is trained again with that. The first of equals wins: `given` before any other.

    Parameters that no fit can be made with, or none that gives a number, lose to all others: a typing error in one of
    the values must not end every retraining.
    """
    failed: list[tuple[dict[str, Any], str]] = []

    def tried_with(parameters: Mapping[str, Any]) -> float:
        try:
            value, why = loss(parameters), "the loss is no finite number"
        except Exception as error:  # noqa: BLE001 - a trainer is foreign code, and others may go well
            value, why = math.inf, f"{type(error).__name__}: {error}"
        if math.isfinite(value):
            return value
        failed.append((dict(parameters), why))
        # Also for NaN, which is neither more nor less than any loss: as the first it would never be beaten.
        return math.inf

    started = clock()
    best, least = dict(given), tried_with(given)
    first, tried = least, 1
    for drawn in _order(space, seed):
        parameters = {**given, **drawn}
        # As long as the mean of those before, or the last fit would end past the budget as often as not.
        spent = clock() - started
        if spent + spent / tried > budget_s:
            break
        if parameters == dict(given):
            continue
        found, tried = tried_with(parameters), tried + 1
        if found < least:
            best, least = parameters, found
    possible = prod(len(values) for values in space.values())
    return SearchOutcome(best, tried, possible, first, least, tuple(failed))


def _order(space: Mapping[str, Sequence[Any]], seed: int) -> Iterator[dict[str, Any]]:
    """Yield combinations at random, each once where they can be listed."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, guards nothing
    names = sorted(space)
    if prod(len(space[name]) for name in names) <= MOST_COMBINATIONS:
        listed = [*product(*(space[name] for name in names))]
        rng.shuffle(listed)
        yield from (dict(zip(names, values, strict=True)) for values in listed)
        return
    for _ in range(MOST_COMBINATIONS):
        yield {name: rng.choice(space[name]) for name in names}
