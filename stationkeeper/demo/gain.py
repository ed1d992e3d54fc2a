"""What replacing the model was worth: the old version answers the same events again, and the difference is paired."""

import json
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from contracts.messages import FeatureValue
from deploy.inference import POSITIVE, ServedModel
from streams.ports import Reader

BLOCKS: Final = 40
REPLICATES: Final = 4_000
_SEED: Final = 20_130_101
_ROWS: Final = 5_000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gain:
    """Wrong decisions per event, old version less served, with a paired 95 % interval: positive is better than before.

    Both answered the same ``events`` after the promotion whose labels are known; the interval resamples ``blocks``
    of consecutive events, because neighbours are alike.
    """

    events: int
    blocks: int
    old_error: float
    new_error: float
    saved: float
    low: float
    high: float

    def sentence(self) -> str:
        """Return the gain in words, whatever its sign."""
        points = f"{self.saved * 100:+.2f} points ({self.low * 100:+.2f} to {self.high * 100:+.2f}, paired 95 %)"
        return (
            f"Against the unreplaced model on the {self.events:,} labelled events after the promotion: wrong in "
            f"{self.new_error:.2%} instead of {self.old_error:.2%}, saved {points}."
        )


def measure_gain(
    reader: Reader, topic: str, served: pl.DataFrame, old: ServedModel, start_ms: int, end_ms: int
) -> Gain | None:
    """Let ``old`` answer the labelled events of ``[start, end)``; None without any."""
    rows = served.filter((pl.col("time") >= start_ms) & (pl.col("time") < end_ms) & pl.col("label").is_not_null()).sort(
        "time"
    )
    if rows.height < BLOCKS:
        return None
    asked = _features(reader, topic, set(rows["event_id"]))
    features = [asked[event_id] for event_id in rows["event_id"]]
    flagged: list[bool] = []
    for start in range(0, len(features), _ROWS):
        part = features[start : start + _ROWS]
        columns: dict[str, list[FeatureValue]] = {name: [one.get(name) for one in part] for name in old.card.names}
        flagged += [action == POSITIVE for action in old.answer(columns).actions]
    truth = rows["label"].to_numpy()
    old_wrong = (np.array(flagged) != truth).astype(np.float64)
    new_wrong = (rows["flagged"].to_numpy() != truth).astype(np.float64)
    low, high = paired_interval(old_wrong - new_wrong)
    return Gain(
        events=rows.height,
        blocks=BLOCKS,
        old_error=float(old_wrong.mean()),
        new_error=float(new_wrong.mean()),
        saved=float((old_wrong - new_wrong).mean()),
        low=low,
        high=high,
    )


def paired_interval(differences: Floats, blocks: int = BLOCKS) -> tuple[float, float]:
    """Return the 95 % interval of a mean of n ordered differences by resampling ``blocks`` consecutive blocks."""
    parts = np.array_split(differences, blocks)
    sums, sizes = np.array([part.sum() for part in parts]), np.array([len(part) for part in parts])
    drawn = np.random.default_rng(_SEED).integers(0, blocks, (REPLICATES, blocks))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _features(reader: Reader, topic: str, wanted: set[str]) -> dict[str, dict[str, FeatureValue]]:
    found: dict[str, dict[str, FeatureValue]] = {}
    for batch in reader.read(list(reader.partitions(topic))):
        for value in batch.values:
            if value is None:
                continue
            event = json.loads(value)
            if event["event_id"] in wanted:
                found[event["event_id"]] = event["features"]
    return found
