"""Every topic Stationkeeper writes or reads: its name, partitions, key and how long it keeps records."""

from dataclasses import dataclass, replace
from typing import Literal

Cleanup = Literal["delete", "compact", "compact,delete"]

# Milliseconds.
DAY_MS = 86_400_000
# Six judges, or six joins, share the work at most; twelve would double the idle records a second, and the number
# cannot change without moving every model (keys are placed by it).
PANES_PARTITIONS = 6
JOINS_PARTITIONS = 6
# Restoring 1 000 keys read 60 000 records with the broker's defaults (1 GiB, .5) and 3 136 with these, because a
# segment that is still open is never compacted. Smaller ones cost file handles.
COMPACTED_SEGMENT_BYTES = 8 * 1024 * 1024
COMPACTED_DIRTY_RATIO = 0.1


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as it must exist: ``retention_ms`` of -1 keeps records until compaction replaces them.

    ``broker_time`` has the broker stamp the records, where the default leaves that to their producers.
    """

    name: str
    partitions: int
    cleanup: Cleanup
    retention_ms: int
    key: str
    carries: str
    # 1 MiB, near the broker's own default (1 048 588): panes are cut to half of it, all else is a few kB.
    max_message_bytes: int = 1_048_576
    broker_time: bool = False

    def config(self) -> dict[str, str]:
        """Return the broker's topic configuration for this topic."""
        config = {
            "cleanup.policy": self.cleanup,
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(self.max_message_bytes),
        }
        if self.broker_time:
            config["message.timestamp.type"] = "LogAppendTime"
        if "compact" in self.cleanup:
            config["segment.bytes"] = str(COMPACTED_SEGMENT_BYTES)
            config["min.cleanable.dirty.ratio"] = str(COMPACTED_DIRTY_RATIO)
        return config


class Topics:
    """The internal topics under one ``prefix``; input topics belong to the user and are only read."""

    def __init__(self, prefix: str = "stationkeeper", *, label_horizon_ms: int = 90 * DAY_MS) -> None:
        def topic(name: str, partitions: int, cleanup: Cleanup, retention: int, key: str, carries: str) -> Topic:
            return Topic(f"{prefix}.{name}", partitions, cleanup, retention, key, carries)

        # Chosen. Approvals for a month: a request waits a week for people and two for labels, and all are read again at
        # a restart. A quarter of a year for what reports, `explain` and new references read: half loses the
        # season before, double doubles the disk. Deployments for a year, in which auditors ask who moved traffic. Panes
        # for three days: a judge that stood still over a weekend finds them; they are the largest of all.
        month, quarter, year, weekend = 30 * DAY_MS, 90 * DAY_MS, 365 * DAY_MS, 3 * DAY_MS
        # A store is rebuilt in steps of a sixteenth of the horizon, so that reading begins up to one step before it.
        rebuilt = label_horizon_ms + label_horizon_ms // 16
        self.prefix = prefix
        self.panes = topic("panes", PANES_PARTITIONS, "delete", weekend, "model", "pane deltas and progress")
        self.joins = topic("joins", JOINS_PARTITIONS, "delete", rebuilt, "event_id hash", "join batches")
        self.references = topic("references", 1, "compact", -1, "model/version", "references (JSON)")
        self.input_decisions = topic("input-decisions", 1, "compact", -1, "topic/action", "InputDecision")
        self.tally_state = topic("tally-state", 1, "compact", -1, "topic/partition", "tally state")
        self.join_state = topic("join-state", JOINS_PARTITIONS, "compact", -1, "partition", "join progress")
        self.judge_state = topic("judge-state", PANES_PARTITIONS, "compact", -1, "model/part", "judge state")
        self.history = topic("history", PANES_PARTITIONS, "delete", quarter, "model", "closed minutes and hours")
        self.verdicts = topic("verdicts", 1, "delete", quarter, "model", "Verdict")
        self.requests = topic("retrain-requests", 1, "delete", quarter, "model", "RetrainRequest")
        # The role retrain writes here what it cannot read: without it one bad record would be all that it ever reads.
        # Two weeks and room for headers, as beside every input (streams.kafka.topics).
        self.request_letters = replace(
            topic("retrain-requests.dlq", 1, "delete", 14 * DAY_MS, "the record's own", "rejected requests"),
            max_message_bytes=self.requests.max_message_bytes + 64 * 1024,
        )
        self.retrain_state = topic("retrain-state", 1, "compact", -1, "request id", "requests in work")
        self.candidates = topic("candidates", 1, "delete", quarter, "model", "Candidate")
        self.rollouts = topic("rollouts", 1, "compact", -1, "model", "Rollout")
        self.deployments = topic("deployments", 1, "delete", year, "model", "Deployment")
        self.approvals = topic("approvals", 1, "delete", month, "id", "Approval")

    def all(self) -> tuple[Topic, ...]:
        """Return every internal topic, in the order of the loop."""
        return tuple(value for value in vars(self).values() if isinstance(value, Topic))


def dead_letter_topic(source: str) -> str:
    """Return the name of the dead-letter topic of an input topic."""
    return f"{source}.dlq"
