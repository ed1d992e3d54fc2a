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
        return self in FINAL


FINAL = frozenset(
    {
        RequestStage.CANDIDATE,
        RequestStage.NO_EVIDENCE,
        RequestStage.FAILED,
        RequestStage.SUPPRESSED,
        RequestStage.REJECTED,
    }
)


class RequestReason(StrEnum):
    """Why a request is where it is."""

    ACCEPTED = "accepted"
    APPROVAL_PENDING = "approval_pending"
    TOO_FEW_ROWS = "too_few_rows"
    TOO_FEW_POSITIVES = "too_few_positives"
    REGISTRY_AWAY = "registry_away"
    ENOUGH_LABELS = "enough_labels"
    DATA_QUALITY = "data_quality"
    IN_FLIGHT = "in_flight"
    COOLDOWN = "cooldown"
    BUDGET = "budget"
    BREAKER = "breaker"
    SUPERSEDED = "superseded"
    NOT_CONFIGURED = "not_configured"
    REJECTED_BY_PERSON = "rejected_by_person"
    LABELS_LATE = "labels_late"
    NO_CHAMPION = "no_champion"
    BAD_DATA = "bad_data"
    TRAINING_FAILED = "training_failed"
    TRAINING_TIMEOUT = "training_timeout"
    GATE_PASSED = "gate_passed"
    GATE_FAILED = "gate_failed"
    GATE_NO_EVIDENCE = "gate_no_evidence"


REASON_HELP: dict[RequestReason, str] = {
    RequestReason.ACCEPTED: "The request is taken up; labelled rows are being counted.",
    RequestReason.APPROVAL_PENDING: "The model's settings ask for a person's word: stationkeeper requests approve ID.",
    RequestReason.TOO_FEW_ROWS: "Fewer matured labelled rows after the onset than data.min_rows; more are waited for.",
    RequestReason.TOO_FEW_POSITIVES: "Too few positive labels after the onset; more are waited for.",
    RequestReason.REGISTRY_AWAY: "The model registry does not answer; the step is tried again.",
    RequestReason.ENOUGH_LABELS: "There are enough matured labels; the snapshot is being written.",
    RequestReason.DATA_QUALITY: "The data are broken, not different: a model would learn it. Repair the source.",
    RequestReason.IN_FLIGHT: "Another request of this model is in work; its model may cure this incident too.",
    RequestReason.COOLDOWN: "Held back by an older build, which kept a cooldown here; the monitor holds back today.",
    RequestReason.BUDGET: "Held back by an older build, which kept a budget here; the monitor holds back today.",
    RequestReason.BREAKER: "The last retrains of this model gave no better one; a person must ask (approve ID).",
    RequestReason.SUPERSEDED: "The version that drifted is no longer champion.",
    RequestReason.NOT_CONFIGURED: "The model has no retrain: section in this process's configuration.",
    RequestReason.REJECTED_BY_PERSON: "A person rejected the request.",
    RequestReason.LABELS_LATE: "max_wait passed and there are still too few matured labels after the onset.",
    RequestReason.NO_CHAMPION: "The registry holds no readable model of the champion's version to compare with.",
    RequestReason.BAD_DATA: "The snapshot cannot be trained on; the detail says which column or label.",
    RequestReason.TRAINING_FAILED: "The training subprocess ended with an error on every try; its log is kept.",
    RequestReason.TRAINING_TIMEOUT: "The training subprocess ran longer than training.timeout on every try.",
    RequestReason.GATE_PASSED: "The challenger is better after the change and not worse overall.",
    RequestReason.GATE_FAILED: "The challenger is not better, or worse, with evidence.",
    RequestReason.GATE_NO_EVIDENCE: "The held-out rows do not tell the two models apart.",
}
