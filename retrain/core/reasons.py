"""The closed lists of where a retrain request stands and why it was refused, delayed or ended."""

from enum import StrEnum


class RequestStage(StrEnum):
    """Where a request stands; the second group ends it."""

    PLANNED = "planned"
    WAITING = "waiting"
    SNAPSHOT = "snapshot"
    TRAINING = "training"
    GATE = "gate"
    REGISTERING = "registering"

    CANDIDATE = "candidate"
    NO_EVIDENCE = "no_evidence"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    REJECTED = "rejected"

    @property
    def final(self) -> bool:
        """Whether nothing more will happen to the request."""
        work = (self.PLANNED, self.WAITING, self.SNAPSHOT, self.TRAINING, self.GATE, self.REGISTERING)
        return self not in work


class RequestReason(StrEnum):
    """Why a request is where it is."""

    ACCEPTED = "accepted"  # The request is taken up; labelled rows are being counted.
    # The model's settings ask for people's approval: stationkeeper requests approve ID.
    APPROVAL_PENDING = "approval_pending"
    APPROVAL_LAPSED = "approval_lapsed"  # Nobody, or too few people, approved in time; the champion stays.
    # Fewer matured labelled rows after the onset than data.min_rows; more are waited for.
    TOO_FEW_ROWS = "too_few_rows"
    TOO_FEW_POSITIVES = "too_few_positives"  # Too few positive labels after the onset; more are waited for.
    ENOUGH_LABELS = "enough_labels"  # There are enough matured labels; the snapshot is being written.
    DATA_QUALITY = "data_quality"  # The data are broken, not different: a model would learn it. Repair the source.
    IN_FLIGHT = "in_flight"  # Another request of this model is in work; its model may cure this incident too.
    COOLDOWN = "cooldown"  # Held back by an older build, which kept a cooldown here; the monitor holds back today.
    BUDGET = "budget"  # Held back by an older build, which kept a budget here; the monitor holds back today.
    BREAKER = "breaker"  # The last retrains of this model gave no better one; a person must ask (approve ID).
    # The monitor took it back before its rows were fixed: the drift healed, or the data are broken by now.
    WITHDRAWN = "withdrawn"
    SUPERSEDED = "superseded"  # The version that drifted is no longer champion.
    NOT_CONFIGURED = "not_configured"  # The model has no retrain: section in this process's configuration.
    ENTRY_REFUSED = "entry_refused"  # The model's entry in the configuration is wrong; the request waits.
    REJECTED_BY_PERSON = "rejected_by_person"  # A person rejected the request.
    LABELS_LATE = "labels_late"  # max_wait passed and there are still too few matured labels after the onset.
    # Labels are gone from their topic before it can be told how late they come: raise its retention.ms.
    LABELS_KEPT_SHORT = "labels_kept_short"
    NO_CHAMPION = "no_champion"  # The registry holds no readable model of the champion's version to compare with.
    BAD_DATA = "bad_data"  # The snapshot cannot be trained on; the detail says which column or label.
    # The training subprocess ended with an error on every try, or with one of its trainer's; its log is kept.
    TRAINING_FAILED = "training_failed"
    # The training passed training.memory_bytes or training.disk_bytes: raise it, or lower training.max_rows.
    TRAINING_LIMIT = "training_limit"
    STEP_FAILED = "step_failed"  # A step ended with an error that nobody foresaw, or of rights; its log has the rest.
    TRAINING_TIMEOUT = "training_timeout"  # The training subprocess ran longer than training.timeout on every try.
    # The challenger is better after the change (asked by age or a calendar: no worse) and not worse overall.
    GATE_PASSED = "gate_passed"
    # The challenger is shown to be worse, overall, in a segment or between protected groups, or past a limit.
    GATE_FAILED = "gate_failed"
    GATE_NO_EVIDENCE = "gate_no_evidence"  # The held-out rows do not tell the two models apart.
