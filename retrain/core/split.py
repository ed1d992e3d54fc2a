"""The time-ordered split of labelled rows: training, validation after the change, and what the gate holds out."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stationkeeper.retrain.core.plan import TrainingWindow, WindowKind

Mask = npt.NDArray[np.bool_]
Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Masks over n rows in time order; ``guard`` and ``holdout`` are what no model of this retrain learns from.

    ``guard`` are the last rows before the change that are new to the champion too (at most as many as are held out),
    ``holdout`` the last rows after it, ``validation`` those before the holdout, ``learn`` everything that is neither.
    ``after`` marks rows from the onset on.
    """

    learn: Mask
    validation: Mask
    holdout: Mask
    guard: Mask
    after: Mask

    @property
    def judged(self) -> Mask:
        """Rows on which champion and challenger are compared overall."""
        return self.holdout | self.guard


def split_rows(
    times: Times,
    onset_ms: int,
    holdout: float,
    validation: float,
    guard: float = 0.25,
    learnt_until: int | None = None,
) -> Split:
    """Split rows sorted by time; shares are of the rows from the onset on, ``guard`` of those before it.

    ``learnt_until`` is the last time (ms) among the rows that the champion has learnt from, None where nobody knows.

    Raises ``ValueError`` when the times are not in order. O(n).
    """
    if len(times) and bool(np.any(np.diff(times) < 0)):
        raise ValueError("rows must be in time order")
    n = len(times)
    # The onset's own row is after the change: it is the first that the detector counts as changed.
    first = int(np.searchsorted(times, onset_ms, side="left"))
    after = n - first
    # Rounded up: of a handful of rows at least one is judged.
    held = int(np.ceil(holdout * after))
    # The holdout goes first: without validation a window is chosen badly, without a holdout nothing is known.
    validated = min(int(np.ceil(validation * after)), after - held)
    # Not more than the holdout, or the overall measure would be of the time before the change.
    guarded = min(held, int(guard * first))
    position = np.arange(n)
    # A row that the champion alone has learnt from favours it: where the model's age is what is asked about, all rows
    # before the onset are such.
    fresh = np.ones(n, bool) if learnt_until is None else times > learnt_until
    masks = {
        "holdout": position >= n - held,
        "validation": (position >= n - held - validated) & (position < n - held),
        "guard": (position >= first - guarded) & (position < first) & fresh,
        "after": position >= first,
    }
    learn = ~(masks["holdout"] | masks["validation"] | masks["guard"])
    return Split(learn=learn, **masks)


def blocked_folds(rows: npt.NDArray[np.int64], folds: int) -> list[npt.NDArray[np.int64]]:
    """Cut row positions into ``folds`` runs of consecutive rows, sizes equal within one."""
    return [part for part in np.array_split(rows, folds) if len(part)]


def window_rows(
    window: TrainingWindow, usable: Mask, after: Mask, limit: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return positions and weights of the rows a window teaches, both of length k <= ``limit``, in time order.

    Where there are more than ``limit``, `since_change` and `last` drop their oldest. `all` and `reweighted` thin at
    random, and what is left stands for what is gone through its weight: rows from before the change give way first, to
    no less than half of the room.
    """
    mask = usable & after if window.kind is WindowKind.SINCE_CHANGE else usable
    positions = np.flatnonzero(mask)
    if window.kind is WindowKind.LAST:
        positions = positions[-window.rows :]
    new, old = positions[after[positions]], positions[~after[positions]]
    thins = window.kind in {WindowKind.ALL, WindowKind.REWEIGHTED}
    kept_new = _thinned(new, fit_room(window, len(old), limit), rng) if thins else new[-limit:]
    room = limit - len(kept_new)
    kept_old = _thinned(old, room, rng) if thins else old[max(len(old) - room, 0) :]
    # A sample of the old rows stands for all of them, or `all` would quietly become `since_change` where rows are many.
    # What drops its oldest means to forget them.
    of_new = len(new) / len(kept_new) if thins and len(kept_new) else 1.0
    of_old = len(old) / len(kept_old) if thins and len(kept_old) else 1.0
    chosen = np.concatenate([kept_old, kept_new])
    weights = np.concatenate([np.full(len(kept_old), of_old), np.full(len(kept_new), of_new * window.weight)])
    return chosen, weights


def fit_room(window: TrainingWindow, old: int, limit: int) -> int:
    """Return how many rows since the change a fit of a window takes at most, beside ``old`` ones from before it."""
    if window.kind is WindowKind.LAST:
        return min(window.rows, limit)
    # Months after a change the new rows alone fill the room. Without a half for the old ones every window would be the
    # newest rows, and a model of the summer would answer in the autumn.
    return limit if window.kind is WindowKind.SINCE_CHANGE else max(limit // 2, limit - old)


def _thinned(rows: npt.NDArray[np.int64], room: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    return np.sort(rng.choice(rows, room, replace=False)) if len(rows) > room else rows
