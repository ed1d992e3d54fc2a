"""What a loop shows to the outside, handed over whole after each commit so that readers never see half a step."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, Final

from stationkeeper.contracts.metrics import Sample
from stationkeeper.streams.ports import Partition

# Seconds: Prometheus' own default buckets; a flush takes 5 ms to a second, and ten are an outage.
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Vitals:
    """Heartbeat, readiness, lag, and the stage's latest samples and status; written by one thread, read by any."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._beat_ms = 0
        self._turned_s = -inf
        self._ready = False
        self._reason = "starting"
        self._fatal: str | None = None
        self._aborts = self._tables_refused = 0
        self._restore_s: float | None = None
        self._flush_counts = [0] * (len(_BUCKETS) + 1)
        self._flush_sum = 0.0
        self._lag: dict[Partition, int] = {}
        self._lost: dict[Partition, int] = {}
        self._samples: tuple[Sample, ...] = ()
        self._status: Mapping[str, Any] = {}

    def beat(self, now_ms: int, steady_s: float) -> None:
        """Note that the loop turned: the wall clock is shown, and by the other, which nobody sets, it is alive."""
        self._beat_ms, self._turned_s = now_ms, steady_s

    def aborted(self, reason: str) -> None:
        """Note a transaction given up or a broker away."""
        self._aborts += 1
        self._ready, self._reason = False, reason

    def table_refused(self) -> None:
        """Note a record of a table that the stage could not use."""
        self._tables_refused += 1

    def failed(self, reason: str) -> None:
        """Note that the loop ended for good."""
        self._ready, self._fatal, self._reason = False, reason, reason

    def restored(self, seconds: float) -> None:
        """Note how long reading the state back took."""
        self._restore_s = seconds

    def waiting(self, reason: str) -> None:
        """Note that the loop has nothing to do its work on yet."""
        self._ready, self._reason = False, reason

    def ready_now(self) -> bool:
        """Note that a flush went through; returns whether the loop was not ready before."""
        before, self._ready, self._reason = self._ready, True, ""
        return not before

    def lost(self, partition: Partition, records: int) -> None:
        """Note records that retention took before they were read."""
        self._lost[partition] = self._lost.get(partition, 0) + records

    def measured(self, lag: Mapping[Partition, int]) -> None:
        """Note the records not yet read of each partition."""
        self._lag = dict(lag)

    def flushed(self, seconds: float) -> None:
        """Note the time of one transaction."""
        self._flush_counts[bisect_left(_BUCKETS, seconds)] += 1
        self._flush_sum += seconds

    def publish(self, samples: Sequence[Sample], status: Mapping[str, Any]) -> None:
        """Hand over the stage's numbers as of a commit."""
        self._samples = (*samples, *self._own())
        self._status = status

    def _own(self) -> list[Sample]:
        role = self._role
        own = [
            Sample("stationkeeper_stage_errors_total", (role, "aborted"), self._aborts),
            Sample("stationkeeper_stage_errors_total", (role, "table"), self._tables_refused),
            Sample("stationkeeper_flush_seconds", (role,), 0, buckets=self._histogram(), sum=self._flush_sum),
        ]
        if self._restore_s is not None:
            own.append(Sample("stationkeeper_restore_seconds", (role,), self._restore_s))
        for partition, records in self._lag.items():
            own.append(
                Sample("stationkeeper_consumer_lag_records", (role, partition.topic, str(partition.index)), records)
            )
        for partition, records in self._lost.items():
            own.append(Sample("stationkeeper_records_expired_total", (partition.topic, str(partition.index)), records))
        return own

    def _histogram(self) -> tuple[tuple[float, int], ...]:
        total, buckets = 0, []
        for bound, count in zip((*_BUCKETS, float("inf")), self._flush_counts, strict=True):
            total += count
            buckets.append((bound, total))
        return tuple(buckets)

    def live(self, steady_s: float, limit_s: float) -> bool:
        """Return whether the loop turned within ``limit_s``."""
        return self._fatal is None and steady_s - self._turned_s <= limit_s

    def ready(self) -> bool:
        """Return whether the last thing that happened was a flush that went through."""
        return self._ready

    def reasons(self) -> tuple[str, ...]:
        """Return why not."""
        return () if self._ready else (self._reason,)

    def samples(self) -> tuple[Sample, ...]:
        """Return the samples of the last commit and the heartbeat of now."""
        beat = Sample("stationkeeper_stage_heartbeat_timestamp_seconds", (self._role,), self._beat_ms / 1_000)
        return (*self._samples, beat)

    def status(self) -> Mapping[str, Any]:
        """Return the status of the last commit."""
        return self._status
