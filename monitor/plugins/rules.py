"""Fixed thresholds in the words and numbers of Evidently, NannyML, SageMaker and Vertex."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from stationkeeper.monitor.plugins import statistics as st
from stationkeeper.monitor.plugins.port import Alarm, Counts, Watched
from stationkeeper.monitor.plugins.statistics import CountPair, Statistic

# Chunks of the reference from which NannyML takes its threshold when it is given no chunk size.
CHUNKS = 10

# Rows of a window where none is configured, chosen: rules on distances alarm by noise alone in small windows, and in
# larger ones drift waits longer to be seen.
WINDOW = 1000


@dataclass(frozen=True)
class Rule:
    """One tool's rule: a statistic, its default threshold, and which side alarms.

    p_value: alarm below the threshold instead of at or above.  bins: ordered cells are merged into this many (0: fine
    cells).  learned: the threshold is mean + 3 standard deviations of the reference's own chunks.
    """

    statistic: Statistic
    threshold: float
    p_value: bool = False
    bins: int = 0
    learned: bool = False
    numeric: bool = True
    categorical: bool = True


RULES: Mapping[str, Rule] = {
    "evidently.psi": Rule(st.psi, 0.1, bins=30),
    "evidently.jensenshannon": Rule(st.jensen_shannon_distance, 0.1, bins=30),
    "evidently.kl_div": Rule(st.kl_divergence, 0.1, bins=30),
    "evidently.hellinger": Rule(st.hellinger, 0.1, bins=30),
    "evidently.TVD": Rule(st.total_variation, 0.1, numeric=False),
    "evidently.wasserstein": Rule(st.wasserstein_normed, 0.1, categorical=False),
    "evidently.ks": Rule(st.kolmogorov_smirnov_p, 0.05, p_value=True, categorical=False),
    "evidently.chisquare": Rule(st.chi_square_p, 0.05, p_value=True, numeric=False),
    "nannyml.jensen_shannon": Rule(st.jensen_shannon_distance_2, 0.0, bins=10, learned=True),
    "nannyml.hellinger": Rule(st.hellinger, 0.0, bins=10, learned=True),
    "nannyml.kolmogorov_smirnov": Rule(st.l_infinity, 0.0, learned=True, categorical=False),
    "nannyml.wasserstein": Rule(st.wasserstein_normed, 0.0, learned=True, categorical=False),
    "nannyml.l_infinity": Rule(st.l_infinity, 0.0, learned=True, numeric=False),
    "nannyml.chi2": Rule(st.chi_square_p, 0.05, p_value=True, numeric=False),
    "sagemaker.Robust": Rule(st.l_infinity_robust, 0.1),
    "sagemaker.Simple": Rule(st.l_infinity, 0.1),
    "sagemaker.ChiSquared": Rule(st.chi_square_p, 0.1, p_value=True, numeric=False),
    "vertex.jensen_shannon_divergence": Rule(st.jensen_shannon_divergence_2, 0.3, bins=10),
    "vertex.l_infinity": Rule(st.l_infinity, 0.3, numeric=False),
    "psi": Rule(st.psi, 0.2, bins=10),
}
"""Rule names as the tools spell their statistics, thresholds and bins as they are the tools' own defaults; `psi` is the
folklore rule of deciles at .2."""

OPTIONS = ("window", "threshold")


class FixedRule:
    """A rule on tumbling windows of at least so many rows; panes are added up until the window is full."""

    def __init__(self, name: str, subject: Watched, options: Mapping[str, Any]) -> None:
        """Options: window (rows, default 1000) and threshold (default: the tool's).  Raises ValueError for others."""
        rule = RULES[name]
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise ValueError(f"rule {name!r} has no option {unknown[0]!r}; options are {', '.join(OPTIONS)}")
        if not (rule.numeric if subject.numeric else rule.categorical):
            kind = "numeric" if subject.numeric else "categorical"
            raise ValueError(f"rule {name!r} cannot watch {subject.name!r}, which is {kind}")
        self.window = int(options.get("window", WINDOW))
        if self.window < 1:
            raise ValueError(f"rule {name!r} on {subject.name!r}: window must be at least 1 row, got {self.window}")
        self._rule = rule
        self._name = name
        self._subject = subject
        self._reference = subject.reference[:-1].astype(np.float64)
        if self._reference.sum() <= 0:
            raise ValueError(f"rule {name!r}: the reference of {subject.name!r} has no values, only missing ones")
        self.threshold = float(options.get("threshold", self._learn() if rule.learned else rule.threshold))
        self._counts = np.zeros(subject.reference.size - 1, np.int64)

    @property
    def rule(self) -> str:
        """Name of the rule."""
        return self._name

    def statistic(self, counts: Counts) -> float:
        """The statistic of window counts [C - 1]."""
        sample = CountPair(counts.astype(np.float64), self._reference, self._subject.values)
        return self._rule.statistic(sample.merged(self._rule.bins) if self._rule.bins else sample)

    def alarms(self, counts: Counts) -> bool:
        """Whether a window of these counts alarms."""
        value = self.statistic(counts)
        # A p-value is small where distributions differ, a distance large.
        return value < self.threshold if self._rule.p_value else value >= self.threshold

    def step(self, counts: Counts, start: int) -> Alarm | None:
        """Add a pane; when the window is full, compare it and begin the next."""
        # Missing values are left out, as the tools drop them first.
        self._counts = self._counts + counts[:-1]
        rows = int(self._counts.sum())
        if rows < self.window:
            return None
        # Tumbling, as the tools run on batches: a window that overlapped would be one alarm several times.
        full, self._counts = self._counts, np.zeros_like(self._counts)
        if not self.alarms(full):
            return None
        value = self.statistic(full)
        side = "below" if self._rule.p_value else "at or above"
        reason = (
            f"{self._name} of {self._subject.name} is {value:.3g} over {rows} rows, {side} {self.threshold:.3g} "
            "(a fixed rule, outside the false-page budget)"
        )
        return Alarm(self._name, value, self.threshold, rows, reason)

    def state(self) -> dict[str, Any]:
        """The counts of the window being filled."""
        return {"counts": self._counts.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a window being filled; raises ValueError where its cells are another reference's."""
        counts = np.asarray(state["counts"], np.int64)
        if counts.shape != self._counts.shape:
            raise ValueError(f"rule {self._name!r}: state has {counts.size} cells, the reference {self._counts.size}")
        self._counts = counts

    def _learn(self) -> float:
        """Mean + 3 standard deviations of the statistic over chunks of the reference itself, as NannyML has it."""
        digest = blake2b(f"{self._name}|{self._subject.name}".encode(), digest_size=8).digest()
        rng = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
        left = self._reference.astype(np.int64)
        size = int(left.sum()) // CHUNKS
        if size == 0:
            raise ValueError(
                f"rule {self._name!r} needs at least {CHUNKS} reference rows of {self._subject.name!r} to learn from"
            )
        values = []
        for _ in range(CHUNKS):
            # Without replacement, as cutting the reference in chunks is; its rows are known by their cells alone, so
            # the cut is drawn.
            chunk = rng.multivariate_hypergeometric(left, size, method="marginals")
            left = left - chunk
            values.append(self.statistic(chunk))
        return float(np.mean(values) + 3 * np.std(values))
