"""Compares what the loop did with never, a calendar and hindsight, on the very events that the run served.

The calendars are better off than any real one: a version trained on all labels known at a week's beginning answers
from that moment on, with no gate and no canary between.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from stationkeeper.demo.gain import features_of
from stationkeeper.monitor.settings import DAY_MS, ModelSettings
from stationkeeper.registry import ModelTask, ServedModel
from stationkeeper.retrain.core.measures import Flags, Floats, log_loss_rows
from stationkeeper.retrain.core.plan import TrainingWindow, WindowKind
from stationkeeper.retrain.core.split import window_rows
from stationkeeper.retrain.core.threshold import ThresholdRule, choose_threshold
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.training.trainer import TrainingData, load_trainer
from stationkeeper.streams.ports import Reader

# Traffic has the rhythm of the week. Half gives hindsight twice the choices and costs twice the trainings.
WEEK_MS: Final = 7 * DAY_MS
# A month in whole weeks.
MONTH: Final = 4


@dataclass(frozen=True, slots=True)
class PolicyOutcome:
    """What one policy came to: share of wrong decisions, mean log loss, trainings, cost in wrong decisions."""

    name: str
    wrong: float
    log_loss: float
    retrains: int
    cost: float


@dataclass(frozen=True, slots=True)
class PolicyTable:
    """Never, monthly, ours and hindsight on the same labelled ``events``; ``price`` of a training in wrong decisions.

    ``promoted`` of the trainings of ours came to answer; the others its gate or its canary held back.
    """

    events: int
    weeks: int
    price: float
    promoted: int
    rows: tuple[PolicyOutcome, ...]


def hindsight(wrong: Floats, price: float) -> list[int]:
    """Return the version in force in each of K periods at the least total cost, version 0 being free.

    ``wrong`` float64[K, K] holds in [i, j >= i] what a version trained before period i loses in period j; each later
    training costs ``price``. Dynamic program over period and version in force, O(K^2). By hand: losses 1 and 9 of
    version 0, 2 of version 1 in the second period: at a price of 6 it pays to train (1 + 6 + 2 < 1 + 9).

    >>> hindsight(np.array([[1.0, 9.0], [0.0, 2.0]]), 6.0), hindsight(np.array([[1.0, 9.0], [0.0, 2.0]]), 8.0)
    ([0, 1], [0, 0])
    """
    cost, before = {0: float(wrong[0, 0])}, {0: 0}
    for period in range(1, len(wrong)):
        # The newest of equals, so that ties end in fewer steps back.
        best = min(cost, key=lambda version: (cost[version], -version))
        least = cost[best] + price
        for version in cost:
            cost[version] += float(wrong[version, period])
        cost[period], before[period] = least + float(wrong[period, period]), best
    version, chosen = min(cost, key=lambda one: (cost[one], one)), []
    for period in reversed(range(len(wrong))):
        chosen.append(version)
        if period == version and period:
            version = before[version]
    return chosen[::-1]


def policy_table(
    reader: Reader,
    model: ModelSettings,
    retraining: RetrainSettings,
    served: pl.DataFrame,
    first: ServedModel,
    training: pl.DataFrame,
    start_ms: int,
    trainings: int,
) -> PolicyTable | None:
    """Return the table of a run; None without labelled weeks, or where ``requests.cost`` names no price.

    ``served`` is of ``demo.served``, ``training`` what ``first`` learned from, ``trainings`` how many the loop made.
    O(weeks) trainings, each answering all later events.
    """
    price = model.requests.cost
    rows = served.filter(pl.col("label").is_not_null() & pl.col("prediction").is_finite()).sort("time")
    weeks = (rows["time"].to_numpy() - start_ms) // WEEK_MS
    if price is None or not len(rows) or int(weeks[-1]) < 1:
        return None
    truth = rows["label"].to_numpy()
    features = pl.DataFrame(
        features_of(reader, model, first.card, rows["event_id"].to_list()),
        schema={name: training.schema[name] for name in first.card.names},
    )
    fleet = _Fleet(retraining, first, training, features, truth, rows["label_time"].to_numpy(), weeks, start_ms)
    count = int(weeks[-1]) + 1
    wrong, surprise = fleet.losses(count)
    ours = rows["flagged"].to_numpy() != truth, log_loss_rows(truth, rows["prediction"].to_numpy())
    versions = {
        "never": [0] * count,
        "monthly": [week // MONTH * MONTH for week in range(count)],
        "oracle": hindsight(wrong, price),
    }
    outcomes = {name: _outcome(name, used, wrong, surprise, len(rows), price) for name, used in versions.items()}
    missed = int(ours[0].sum())
    looped = PolicyOutcome(
        "ours", missed / len(rows), float(ours[1].mean()), trainings, float(missed + trainings * price)
    )
    promoted = rows["version"].n_unique() - 1
    return PolicyTable(
        len(rows), count, price, promoted, (outcomes["never"], outcomes["monthly"], looped, outcomes["oracle"])
    )


def _outcome(name: str, used: Sequence[int], wrong: Floats, surprise: Floats, rows: int, price: float) -> PolicyOutcome:
    weeks = np.arange(len(used))
    missed, retrains = float(wrong[used, weeks].sum()), len(set(used)) - 1
    return PolicyOutcome(
        name, missed / rows, float(surprise[used, weeks].sum()) / rows, retrains, missed + retrains * price
    )


@dataclass(frozen=True, slots=True)
class _Fleet:
    """A version for the beginning of every week, by the loop's own trainer and its limit of rows."""

    settings: RetrainSettings
    first: ServedModel
    training: pl.DataFrame
    features: pl.DataFrame
    truth: Flags
    label_times: np.ndarray[tuple[int], np.dtype[np.int64]]
    weeks: np.ndarray[tuple[int], np.dtype[np.int64]]
    start_ms: int

    def losses(self, count: int) -> tuple[Floats, Floats]:
        """Return wrong decisions and summed log loss of version i in week j >= i, both float64[count, count]."""
        edges = np.searchsorted(self.weeks, np.arange(count))
        wrong, surprise = np.zeros((count, count)), np.zeros((count, count))
        # Scores of rows by the version of their own week's beginning, which has not seen them.
        fresh, threshold = np.zeros(len(self.truth)), self.first.card.threshold
        for version in range(count):
            begin = int(edges[version])
            if version:
                # By all that is known at that moment, as `keep-precision` chooses it for a first champion.
                known = self._known(version, begin)
                truth = self.truth[known]
                threshold = choose_threshold(truth, fresh[known], ThresholdRule.F1).value if truth.any() else threshold
            scores = self._scores(version, begin)
            if version + 1 < count:
                end = int(edges[version + 1])
                fresh[begin:end] = scores[: end - begin]
            truth, later = self.truth[begin:], self.weeks[begin:]
            missed = (scores >= threshold) != truth
            wrong[version] = np.bincount(later, missed, count)
            surprise[version] = np.bincount(later, log_loss_rows(truth, scores), count)
        return wrong, surprise

    def _known(self, version: int, begin: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """The rows whose labels are in when a version is trained."""
        return np.flatnonzero(self.label_times[:begin] < self.start_ms + version * WEEK_MS)

    def _scores(self, version: int, begin: int) -> Floats:
        later = self.features[begin:]
        if not version:
            return self.first.score(later)
        known = self._known(version, begin)
        rows = pl.concat([self.training.select(self.first.card.names), self.features[known]])
        labels = np.concatenate([self.training["label"].to_numpy(), self.truth[known]]).astype(np.float64)
        everything = np.ones(len(rows), bool)
        limit, rng = self.settings.training.max_rows, np.random.default_rng(self.settings.training.seed)
        # All alike, so that their weight says nothing.
        chosen, _ = window_rows(TrainingWindow(WindowKind.ALL), everything, ~everything, limit, rng)
        data = TrainingData(
            features=rows[chosen],
            specs=self.first.card.features,
            labels=labels[chosen],
            weights=np.ones(len(chosen)),
            task=ModelTask.BINARY,
            seed=self.settings.training.seed,
            threads=self.settings.training.threads,
        )
        return load_trainer(self.settings.trainer, self.settings.parameters).fit(data).score(later)
