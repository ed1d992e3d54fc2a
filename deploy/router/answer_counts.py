"""What came of requests: answers by arm, how long callers waited by version, refusals by reason."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection
from typing import Any, Final

from stationkeeper.contracts.metrics import Sample
from stationkeeper.deploy.router.answers import Answer
from stationkeeper.deploy.router.refusals import Refusal

# Seconds. A small model answers within 1 ms and an answer that waits for the log within 10; 2.5 s is beyond
# `produce_timeout`. Steps of about two tell a version that takes twice as long; coarser ones would hide it.
_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class AnswerCounts:
    """Counts answers by model, version and arm, and refusals by model and reason; called by many threads at once."""

    def __init__(self, models: Collection[str]) -> None:
        self._models = frozenset(models)
        self._served: Counter[tuple[str, str, str]] = Counter()
        self._refused: Counter[tuple[str, str]] = Counter()
        self._took: dict[tuple[str, str], list[int]] = {}
        self._seconds: dict[tuple[str, str], float] = {}
        # Adding to a counter reads and writes: two workers at once would lose one of their answers.
        self._lock = threading.Lock()

    def answered(self, model: str, answers: Collection[Answer], seconds: float) -> None:
        """Count the rows of one request, and its time once for each version that answered some of them."""
        at = bisect_left(_BUCKETS, seconds)
        with self._lock:
            self._served.update((model, one.version, one.arm) for one in answers)
            # The caller waited for all rows, so each version that answered one of them has the whole time.
            for version in {one.version for one in answers}:
                self._took.setdefault((model, version), [0] * (len(_BUCKETS) + 1))[at] += 1
                self._seconds[model, version] = self._seconds.get((model, version), 0.0) + seconds

    def refused(self, model: str, reason: Refusal) -> None:
        """Count a refusal; unconfigured names share one series, so that a caller cannot make series."""
        with self._lock:
            self._refused[model if model in self._models else "", reason.value] += 1

    def samples(self) -> list[Sample]:
        """Return all counts as metrics."""
        with self._lock:
            served, refused, seconds = dict(self._served), dict(self._refused), dict(self._seconds)
            took = {key: tuple(counts) for key, counts in self._took.items()}
        found = [Sample("stationkeeper_predictions_served_total", key, count) for key, count in sorted(served.items())]
        for key, counts in sorted(took.items()):
            buckets = tuple((bound, sum(counts[: at + 1])) for at, bound in enumerate((*_BUCKETS, float("inf"))))
            found.append(Sample("stationkeeper_serving_seconds", key, sum(counts), buckets=buckets, sum=seconds[key]))
        found += [Sample("stationkeeper_serving_errors_total", key, count) for key, count in sorted(refused.items())]
        return found

    def status(self) -> list[dict[str, Any]]:
        """Return the answers as JSON."""
        with self._lock:
            return [{"model": m, "version": v, "arm": a, "answers": n} for (m, v, a), n in sorted(self._served.items())]
