"""Measures what replacing the model was worth: the old version answers the same events, and the two are paired."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl

from stationkeeper.events import EventReader, Scalar, forms
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.registry import POSITIVE, FeatureKind, ModelCard, ServedModel
from stationkeeper.retrain.core.gate import blocks_of, paired_interval
from stationkeeper.retrain.core.measures import Flags, Floats, f1_score
from stationkeeper.streams.ports import Reader

# Blocks of neighbouring events that the bootstrap draws. Chosen: half gives wider, less steady intervals; double makes
# blocks so short that neighbours of two blocks are alike and the interval is too narrow. The gate takes 100
# of fewer rows (GateSettings.blocks).
BLOCKS: Final = 40
# As many as the gate draws (GateSettings.replicates). Half moves an interval's bounds more, double
# costs twice the time.
REPLICATES: Final = 4_000
# Any number; fixed, so that the same events give the same interval.
_SEED: Final = 20_130_101
# Rows answered at once, which bounds the memory of one call; the result does not depend on it.
_ROWS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Paired:
    """One measure of the old version and of what was served, and their difference with a paired 95 % interval.

    ``gained`` is positive where what was served is better.
    """

    old: float
    new: float
    gained: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Gain:
    """What the replacement was worth: by F1, which the gate judges decisions by, and by wrong decisions per event.

    Both answered the same ``events`` after the promotion whose labels are known; the intervals resample ``blocks``
    of consecutive events, because neighbours are alike.
    """

    events: int
    blocks: int
    f1: Paired
    wrong: Paired

    def sentence(self) -> str:
        """Return the gain in words, whatever its sign."""
        f1, wrong = self.f1, self.wrong
        points = f"{wrong.gained * 100:+.2f} points ({wrong.low * 100:+.2f} to {wrong.high * 100:+.2f})"
        return (
            f"Against the unreplaced model on the {self.events:,} labelled events after the promotion: F1 {f1.new:.3f} "
            f"instead of {f1.old:.3f}, gained {f1.gained:+.4f} ({f1.low:+.4f} to {f1.high:+.4f}); wrong in "
            f"{wrong.new:.2%} instead of {wrong.old:.2%}, saved {points}; paired 95 % intervals."
        )


def measure_gain(
    reader: Reader, model: ModelSettings, served: pl.DataFrame, old: ServedModel, start_ms: int, end_ms: int
) -> Gain | None:
    """Let ``old`` answer the labelled events of ``[start, end)``; None without any."""
    rows = served.filter((pl.col("time") >= start_ms) & (pl.col("time") < end_ms) & pl.col("label").is_not_null()).sort(
        "time"
    )
    # With less than a row a block there is nothing to draw from.
    if rows.height < BLOCKS:
        return None
    features = features_of(reader, model, old.card, rows["event_id"].to_list())
    flagged: list[bool] = []
    for start in range(0, rows.height, _ROWS):
        columns = {name: values[start : start + _ROWS] for name, values in features.items()}
        flagged += [action == POSITIVE for action in old.answer(columns).actions]
    return compare(rows["label"].to_numpy(), np.array(flagged), rows["flagged"].to_numpy())


def compare(truth: Flags, old: Flags, new: Flags) -> Gain:
    """Return the gain of decisions ``new`` over ``old`` on n events in order of time, all bool[n]; n >= ``BLOCKS``."""
    columns = np.stack([f(one) for one in (old, new) for f in _counts(truth)], axis=1).astype(np.float64)
    cells = blocks_of(columns, np.ones(len(truth), bool), BLOCKS)
    total = cells.sum(axis=0, keepdims=True)

    def paired(measure: Callable[[Floats], Floats], sign: float) -> Paired:
        def gained(sums: Floats) -> Floats:
            return sign * (measure(sums[:, 4:]) - measure(sums[:, :4]))

        # 2.5 % on each side: a 95 % interval.
        found = paired_interval(cells, gained, 0.025, REPLICATES, _SEED)
        before, after = float(measure(total[:, :4])[0]), float(measure(total[:, 4:])[0])
        return Paired(before, after, found.difference, found.low, found.high)

    return Gain(len(truth), BLOCKS, paired(_f1, 1.0), paired(_wrong, -1.0))


def _counts(truth: Flags) -> tuple[Callable[[Flags], Flags], ...]:
    return (lambda f: f & truth, lambda f: f & ~truth, lambda f: ~f & truth, lambda f: ~f & ~truth)


def _f1(sums: Floats) -> Floats:
    return f1_score(sums[:, 0], sums[:, 1], sums[:, 2])


def _wrong(sums: Floats) -> Floats:
    found: Floats = (sums[:, 1] + sums[:, 2]) / sums.sum(axis=1)
    return found


def features_of(reader: Reader, model: ModelSettings, card: ModelCard, ids: Sequence[str]) -> dict[str, list[Scalar]]:
    """Return the card's features of these predictions, in their order."""
    form = forms([model])[model.predictions.topic]
    read = EventReader(replace(form, extras=("event_id",)))
    # By the old version's card, so that it gets its features as it was trained on them.
    read.learn({one.name: one.kind is FeatureKind.NUMERIC for one in card.features})
    wanted = {one: place for place, one in enumerate(ids)}
    found: dict[str, list[Scalar]] = {name: [None] * len(ids) for name in card.names}
    for batch in reader.read(list(reader.partitions(form.topic))):
        for events in read.read(batch.values, batch.headers).events:
            places = [wanted.get(one) for one in events.extras["event_id"]] if events.kind == "prediction" else []
            for name, column in events.features.items():
                for place, value in zip(places, column.plain(), strict=False):
                    if place is not None:
                        found[name][place] = value
    return found
