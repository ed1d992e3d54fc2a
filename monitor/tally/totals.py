"""What the tally has committed, as numbers: conservation, dead letters by code, and what limits refused."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stationkeeper.contracts.codes import DeadLetterCode, Outcome
from stationkeeper.contracts.metrics import Sample
from stationkeeper.monitor.tally.clock import UNSET
from stationkeeper.monitor.tally.partition import PartitionState
from stationkeeper.streams.ports import Partition

LIMITS = {DeadLetterCode.TOO_LARGE.value: "message_bytes", DeadLetterCode.TOO_MANY_FIELDS.value: "fields"}
"""Dead-letter codes that are the refusal of a limit, which are counted by the limit's name as well."""

MOST_NAMES = 20
"""Names of fields or features shown at once: a line that a person reads. More say no more, fewer may hide the one."""


@dataclass(frozen=True, slots=True)
class CommittedTotals:
    """The totals of the partitions owned now; ``codes`` by (topic, dead-letter code), ``refused`` by limit."""

    conservation: tuple[Mapping[str, Any], ...] = ()
    codes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, partitions: Mapping[Partition, PartitionState]) -> "CommittedTotals":
        """Sum what the partitions hold; to be called when all of it is durable."""
        rows: list[Mapping[str, Any]] = []
        codes: Counter[tuple[str, str]] = Counter()
        refused: Counter[str] = Counter()
        for (topic, index), state in sorted(partitions.items()):
            row: dict[str, Any] = {"topic": topic, "partition": index, **state.conservation(), "expired": state.expired}
            row["clock"] = None if state.clock.now == UNSET else state.clock.now
            if state.next_offset is not None:
                row["next_offset"] = state.next_offset
            rows.append(row)
            codes.update({(topic, code): count for code, count in state.codes.items()})
            refused.update(state.refused | {LIMITS[code]: n for code, n in state.codes.items() if code in LIMITS})
        return cls(tuple(rows), codes, refused)

    def samples(self, features_refused: int) -> list[Sample]:
        """Return the metrics; ``features_refused`` are those beyond ``limits.features``."""
        out = []
        for row in self.conservation:
            where = (str(row["topic"]), str(row["partition"]))
            out.append(Sample("stationkeeper_records_received_total", where, row["received"]))
            out += [
                Sample("stationkeeper_records_total", (*where, outcome.value), row[outcome.value])
                for outcome in Outcome
            ]
            if row["expired"]:
                out.append(Sample("stationkeeper_records_expired_total", where, row["expired"]))
        refused = {**self.refused, "features": features_refused}
        out += [Sample("stationkeeper_limits_refused_total", (name,), n) for name, n in sorted(refused.items()) if n]
        return out + [
            Sample("stationkeeper_dead_letters_total", key, count) for key, count in sorted(self.codes.items())
        ]

    def status(
        self, features_refused: Collection[str], unknown: Collection[str], stopped: Sequence[Mapping[str, str]] = ()
    ) -> dict[str, Any]:
        """Return ``contracts.status.TallyStatus``: conservation, dead letters by code and what limits refused."""
        letters: Counter[str] = Counter()
        for (_, code), count in sorted(self.codes.items()):
            letters[code] += count
        detail: dict[str, Any] = {f"refused by limits.{name}": n for name, n in sorted(self.refused.items()) if n}
        if features_refused:
            detail["features beyond limits.features"] = ", ".join(sorted(features_refused)[:MOST_NAMES])
        if unknown:
            detail["fields no reference knows"] = ", ".join(sorted(unknown)[:MOST_NAMES])
        rows = [dict(row) for row in self.conservation]
        found = {"role": "tally", "conservation": rows, "dead_letters": dict(letters)}
        more = {"detail": detail, "stopped": list(stopped)}
        return found | {name: value for name, value in more.items() if value}
