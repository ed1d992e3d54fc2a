"""The e-Shiryaev-Roberts and e-CUSUM recursions over all alternatives of all features, in the log domain."""

import numpy as np
from numpy.typing import NDArray

from stationkeeper.contracts.state import State

Flags = NDArray[np.bool_]
Times = NDArray[np.int64]

# Places for times at first: evidence of 300 features restarts in few different panes. Memory alone.
_FEW = 32
# Times that two bytes can number.
_SHORT = 1 << 16


class Restarts:
    """int64[F, L] times of which few differ: the numbers of those in use, and for each place which of them it has.

    A pane adds at most one time. Those that no place has any more are dropped when twice as many are known as were in
    use the last time, so that a pane costs what it writes, and memory two bytes a place (four from 65 536 times on).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Begin with 0 everywhere."""
        self._known = np.zeros(_FEW, np.int64)
        self._many = 1
        self._which: NDArray[np.unsignedinteger] = np.zeros(shape, np.uint16)

    def put(self, mask: Flags, time: int) -> None:
        """Hold this time at the places in mask [F, L]."""
        if self._known[self._many - 1] != time:
            if self._many == len(self._known):
                self.replace(self.times())
            self._known[self._many] = time
            self._many += 1
        self._which[mask] = self._many - 1

    def of(self, row: NDArray[np.intp]) -> Times:
        """Return the time of one alternative of each feature, [F]."""
        return np.asarray(self._known[self._which[np.arange(len(self._which)), row]], np.int64)

    def times(self) -> Times:
        """Return all, int64[F, L]."""
        return np.asarray(self._known[self._which], np.int64)

    def replace(self, times: Times) -> None:
        """Hold these times, int64[F, L], instead."""
        used, which = np.unique(times, return_inverse=True)
        self._known = np.zeros(max(_FEW, 2 * len(used)), np.int64)
        self._known[: len(used)] = used
        self._many = max(len(used), 1)
        short = len(self._known) <= _SHORT
        self._which = which.reshape(times.shape).astype(np.uint16 if short else np.uint32)


Floats = NDArray[np.float64]

# The log of no evidence at all.
_NEVER = -np.inf
# Stands for -inf in differences: far below any evidence, so that exp of a gap is 0 and not undefined.
_LOW = -1e9
# Different weights that one byte can number; subjects of one kind share a few dozen.
_FEW_WEIGHTS = 256


class EvidenceState(State, frozen=True):
    """The evidence of F subjects and L alternatives, [F, L] each: log e-SR, log e-CUSUM and the latter's restarts."""

    log_m: NDArray[np.float64]
    log_c: NDArray[np.float64]
    restart: NDArray[np.int64]


class ShiryaevRoberts:
    """M <- e (w + M) and C <- e max(C, 1) for F features, L alternatives (Shin, Ramdas and Rinaldo, arXiv 2203.03532).

    w is the budget clock elapsed since the last step, so M_t - t is a supermartingale in budget units while
    nothing changed, and a page at M >= threshold is false at most once per threshold units on average.
    State: log_m and log_c [F, L], restarts [F, L] (start of the pane with which the running C began),
    log_weight [F, L] (prior weights, fixed).
    """

    def __init__(self, weight: Floats) -> None:
        """Begin without evidence; weight [F, L] holds the prior weights, summing to at most 1 over L."""
        with np.errstate(divide="ignore"):
            self._weights = _Weights(np.log(weight))
        self.log_m = np.full(weight.shape, _NEVER)
        self.log_c = np.zeros(weight.shape)
        self.restarts = Restarts(weight.shape)

    def step(self, log_e: Floats, elapsed: float, live: Flags, active: Flags, start: int) -> None:
        """Take the log e-values log_e [F, L] of one pane that began at start.

        elapsed >= 0 is the weight w of a new start (0 inside a pane that is taken in parts).  live [F, L] is
        False where one lies inside the null: it keeps its value and gets no start, else M would grow like t on no
        evidence.  active [F] is False for features without events in the pane: nothing changes.
        """
        if elapsed <= 0:
            grown = log_e + self.log_m
        else:
            grown = _log_sum(np.where(live, np.log(elapsed), _NEVER), self.log_m)
            grown += log_e
        fresh = live & (self.log_c <= 0)
        running = np.maximum(self.log_c, 0.0)
        running += log_e
        if not active.all():
            keep = ~active
            grown[keep] = self.log_m[keep]
            running[keep] = self.log_c[keep]
            fresh &= active[:, None]
        self.log_m = grown
        self.log_c = running
        self.restarts.put(fresh, start)

    @property
    def log_weight(self) -> Floats:
        """Prior weights, [F, L]."""
        return self._weights.read()

    def score(self) -> Floats:
        """log of the weighted sum of M over alternatives, [F]; -inf where none has evidence."""
        x = self.log_m + self.log_weight
        # Row by row a copy for each column is read faster than many short rows.
        top = np.ascontiguousarray(x.T).max(axis=0)
        shown = np.where(np.isfinite(top), top, 0.0)
        x -= shown[:, None]
        np.exp(x, out=x)
        # The largest term is exp(0); without evidence the sum is 0 and the top, -inf, is the answer.
        return np.asarray(top + np.log(np.maximum(x.sum(axis=1), 1.0)), np.float64)

    def winner(self) -> NDArray[np.intp]:
        """The alternative with the largest weighted e-CUSUM, [F]: its restart is the change point."""
        weighted = np.maximum(self.log_c, 0.0)
        weighted += self.log_weight
        return np.asarray(weighted.argmax(axis=1))

    def onset(self, winner: NDArray[np.intp]) -> Times:
        """Start of the pane with which the evidence of each feature's ``winner`` [F] began, [F]."""
        return self.restarts.of(winner)

    def state(self) -> EvidenceState:
        """Return all that changes."""
        return EvidenceState(log_m=self.log_m.copy(), log_c=self.log_c.copy(), restart=self.restarts.times())

    def restore(self, state: EvidenceState) -> None:
        """Take over a state bit for bit; raises ValueError where its shape belongs to other subjects."""
        for name in ("log_m", "log_c", "restart"):
            refuse_other_shape(name, getattr(state, name), self.log_m)
        self.log_m[...], self.log_c[...] = state.log_m, state.log_c
        self.restarts.replace(np.asarray(state.restart, np.int64))

    def reset(self, mask: Flags) -> None:
        """Drop the evidence of the features in mask [F], after a page or with a new reference."""
        self.log_m[mask] = _NEVER
        self.log_c[mask] = 0.0


def refuse_other_shape(name: str, value: NDArray[np.generic], own: Floats) -> None:
    """Raise ValueError where an array of a stored state has another shape than that which it is to replace."""
    if value.shape != own.shape:
        raise ValueError(
            f"detector state {name!r} has shape {value.shape}, the subjects need {own.shape}: "
            "it was written for another reference; start without it"
        )


class _Weights:
    """Log weights [F, L], held once where all features are alike, else by number where few values differ."""

    def __init__(self, rows: Floats) -> None:
        self._rows: Floats | None = rows
        if len(rows) > 1 and bool((rows == rows[0]).all()):
            self._rows = np.broadcast_to(rows[0].copy(), rows.shape)
            return
        values, which = np.unique(rows, return_inverse=True)
        if len(values) <= _FEW_WEIGHTS and rows.size > 2 * len(values):
            self._rows, self._values = None, values
            self._which = which.reshape(rows.shape).astype(np.uint8)

    def read(self) -> Floats:
        return self._values[self._which] if self._rows is None else self._rows


def _log_sum(a: Floats, b: Floats) -> Floats:
    """log(exp a + exp b), -inf where both are: numpy's own is scalar code, exp and log run several lanes at once."""
    gap = np.maximum(a, _LOW)
    gap -= np.maximum(b, _LOW)
    np.abs(gap, out=gap)
    np.negative(gap, out=gap)
    np.exp(gap, out=gap)
    gap += 1.0
    np.log(gap, out=gap)
    gap += np.maximum(a, b)
    return gap
