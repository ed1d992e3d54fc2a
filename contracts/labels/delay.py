"""How late labels come, by one rule for the monitor, which judges by it, and for the trainer, which learns by it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stationkeeper.contracts.column import Floats, Integers

COMPLETE = 0.95
"""Share of a class's labels that must be known before its rows are judged (STATISTICS.md, section 10.1). At .9 a model
that is wrong in one row of ten can seem one point worse by what is missing, which is the tolerance; at .975 cohorts
wait a fifth longer where delays are exponential."""

WATCHED = 2
"""How many times an age labels must have been watched before their stopping there is believed: of an exponential delay
watched for too short a time, twice the age at which .95 seem to have come, .947 have. With less than that the tail that
has not come yet is taken for none; at double every new model waits twice as long."""


@dataclass(frozen=True, slots=True)
class Absence:
    """Of a model whose positives alone are ever labelled: what decides when no label is a negative one (in ms).

    ``pane`` and ``horizon`` are the shortest and the longest delay told apart, ``least`` (``label_maturity``) the least
    age at which a prediction without a label is a negative.
    """

    pane: int
    horizon: int
    least: int


def delay_edges(pane: int, horizon: int) -> Integers:
    """Return the ages (ms) at which delays of labels are counted, from ``pane`` to ``horizon`` or just beyond."""
    # Two ages an octave: rows wait at most two fifths longer than they must.
    steps = int(np.ceil(2 * np.log2(max(horizon, pane) / pane))) + 1
    return np.rint(pane * 2 ** (np.arange(steps) / 2)).astype(np.int64)


def complete_share(delays: Integers, seen: Integers) -> Floats:
    """Return what share of the labels that will come is there at each of n ages, float64[..., n].

    ``delays`` int64[epochs, ..., n] counts labels by the age at which they came, ``seen`` int64[epochs, ..., n] is 1
    where the epoch's predictions are as old as that. Only labels that have come are seen (right truncation), so it is a
    product over reversed time (Lynden-Bell 1971; Kaplan-Meier in the other direction): G(a) = prod over delays d > a of
    1 - n(d) / R(d), where R(d) counts labels with a delay of at most d among predictions at least d old, and n(d) those
    of them with delay d. By hand: ten predictions a day old, five labels after an hour and five after six: G at two
    hours is 1 - 5 / 10 = .5. O(epochs x ages).
    """
    came, until = (delays * seen).sum(0), (np.cumsum(delays, -1) * seen).sum(0)
    stay = 1 - came / np.maximum(until, 1)
    # What comes after the last age cannot be seen, so that G is 1 there.
    after = np.concatenate([stay[..., 1:], np.ones_like(stay[..., :1])], -1)
    return np.asarray(np.cumprod(after[..., ::-1], -1)[..., ::-1], np.float64)


def ages_from(edges: Integers, least: int) -> Iterator[tuple[int, int]]:
    """Yield (place among ``edges``, age in ms) of the ages that may be waited for, ``least`` itself first."""
    first = max(int(np.searchsorted(edges, least, side="right")) - 1, 0)
    for at in range(first, len(edges)):
        yield at, least if at == first else int(edges[at])


def absence_ages(edges: Integers, positives: Floats, absence: Absence) -> tuple[int, int] | None:
    """Return the age (ms) by which labels seem to have come, and how long they must be watched before it is believed.

    The first at which .95 of the positives' labels are there (``positives`` float64[n], ``complete_share`` at
    ``edges``), and twice it or the horizon. None where they never are.
    """
    for at, age in ages_from(edges, absence.least):
        if positives[at] >= COMPLETE:
            return age, min(WATCHED * age, absence.horizon)
    return None


def absence_age(edges: Integers, positives: Floats, absence: Absence, watched: int) -> int | None:
    """Return the age (ms) from which a prediction without a label is a negative; None while that cannot be told.

    That of ``absence_ages``, where labels have been ``watched`` (ms) for as long as it asks.
    """
    found = absence_ages(edges, positives, absence)
    return found[0] if found is not None and watched >= found[1] else None
