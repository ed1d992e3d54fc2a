"""A search for parameters within a time budget: drawn from lists, judged by time-ordered validation, seeds kept."""

import random
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


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """The parameters of the least loss, how many were tried of how many, and the loss of the given and of the best."""

    parameters: dict[str, Any]
    tried: int
    possible: int
    given_loss: float
    best_loss: float


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
    """
    started = clock()
    best, least = dict(given), loss(given)
    first, tried = least, 1
    for drawn in _order(space, seed):
        parameters = {**given, **drawn}
        # As long as the mean of those before, or the last fit would end past the budget as often as not.
        spent = clock() - started
        if spent + spent / tried > budget_s:
            break
        if parameters == dict(given):
            continue
        found, tried = loss(parameters), tried + 1
        if found < least:
            best, least = parameters, found
    return SearchOutcome(best, tried, prod(len(values) for values in space.values()), first, least)


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
