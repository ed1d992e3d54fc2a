"""The closed list of log events; every line a process logs carries one of these as ``event``."""

from enum import StrEnum


class LogEvent(StrEnum):
    """What happened, never a sentence built from data; the data are fields beside it."""

    STARTED = "started"
    READY = "ready"
    STOPPING = "stopping"
    DRAIN_TIMEOUT = "drain_timeout"
    STOPPED = "stopped"
    BROKER_UNREACHABLE = "broker_unreachable"
    TOPIC_MISSING = "topic_missing"
    BROKER_CREDENTIALS = "broker_credentials"
    BROKER_CERTIFICATE = "broker_certificate"
    BROKER_PROTOCOL = "broker_protocol"
    BROKER_RIGHTS = "broker_rights"
    PARTITIONS_ASSIGNED = "partitions_assigned"
    PARTITIONS_REVOKED = "partitions_revoked"
    STATE_RESTORED = "state_restored"
    CACHE_DROPPED = "cache_dropped"
    TRANSACTION_ABORTED = "transaction_aborted"
    PRODUCER_FENCED = "producer_fenced"
    INSTANCE_HELD = "instance_held"
    INPUT_STOPPED = "input_stopped"
    INPUT_RESUMED = "input_resumed"
    DEAD_LETTER_UNWRITABLE = "dead_letter_unwritable"
    TOPIC_REPLACED = "topic_replaced"
    TABLE_RECORD_REFUSED = "table_record_refused"
    RECORD_LEFT_OUT = "record_left_out"
    RECORDS_EXPIRED = "records_expired"
    RECORDS_TAKEN_BEFORE = "records_taken_before"
    REFERENCE_LOADED = "reference_loaded"
    VERDICT = "verdict"
    INCIDENT_OPENED = "incident_opened"
    INCIDENT_CLOSED = "incident_closed"
    RETRAIN_REQUESTED = "retrain_requested"
    RETRAIN_SUPPRESSED = "retrain_suppressed"
    RETRAIN_STAGE = "retrain_stage"
    REGISTRY_UNREACHABLE = "registry_unreachable"
    DISK_UNWRITABLE = "disk_unwritable"
    SNAPSHOT_NOT_TRACKED = "snapshot_not_tracked"
    GATE = "gate"
    CANDIDATE = "candidate"
    ROLLOUT_STEP = "rollout_step"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ALIAS_MOVED = "alias_moved"
    TARGET_WAITS = "target_waits"
    TARGET_CHANGED = "target_changed"
    TARGET_WOULD = "target_would"
    QUERY_UNANSWERED = "query_unanswered"
    MODEL_LOADED = "model_loaded"
    CHILD_STARTED = "child_started"
    CHILD_DIED = "child_died"
    ROLE_LEFT_OUT = "role_left_out"
    CONFIG_RELOADED = "config_reloaded"
    CONFIG_REFUSED = "config_refused"
    MODEL_REFUSED = "model_refused"
    RELOAD_PASSED_ON = "reload_passed_on"
    OTLP_UNREACHABLE = "otlp_unreachable"
    NOTICE_WAITS = "notice_waits"
    NOTICE_REFUSED = "notice_refused"
    FATAL = "fatal"


LOG_EVENT_HELP: dict[LogEvent, str] = {
    LogEvent.STARTED: "A role's loop began.",
    LogEvent.READY: "A role has its partitions and its state, and the broker answers.",
    LogEvent.STOPPING: "A role was asked to stop and writes what it has absorbed.",
    LogEvent.DRAIN_TIMEOUT: "A role could not write what it had absorbed in time; the open work is read again.",
    LogEvent.STOPPED: "A role ended.",
    LogEvent.BROKER_UNREACHABLE: "No broker answers; the role waits and tries again.",
    LogEvent.TOPIC_MISSING: (
        "The broker answers and has not a topic that the role reads; it waits until another role, or "
        "`stationkeeper check --create`, makes it."
    ),
    LogEvent.BROKER_CREDENTIALS: "Kafka does not accept the user and its secret; the role stops.",
    LogEvent.BROKER_CERTIFICATE: "Kafka's certificate, or ours, is not accepted; the role stops.",
    LogEvent.BROKER_PROTOCOL: "The listener speaks another protocol or SASL mechanism than is set; the role stops.",
    LogEvent.BROKER_RIGHTS: "Kafka's access list does not allow what a role must do (docs/kafka-rights.md).",
    LogEvent.PARTITIONS_ASSIGNED: "The group gave this process its partitions and their state was read back.",
    LogEvent.PARTITIONS_REVOKED: "The group took partitions away; their uncommitted work is given up.",
    LogEvent.STATE_RESTORED: "State was read back from a compacted topic.",
    LogEvent.CACHE_DROPPED: "A local cache could not be used or written; it is rebuilt from the log.",
    LogEvent.TRANSACTION_ABORTED: "A transaction was given up; its records are read again from what is committed.",
    LogEvent.PRODUCER_FENCED: "Another process has this replica's name; this one stops.",
    LogEvent.INSTANCE_HELD: "The group has a member with this replica's name; this process waits until it is dropped.",
    LogEvent.INPUT_STOPPED: "An input topic is not read any more, with the reason; the other topics go on.",
    LogEvent.INPUT_RESUMED: "An input topic that was stopped is read again.",
    LogEvent.DEAD_LETTER_UNWRITABLE: "The dead-letter topic takes no records; nothing past them is committed.",
    LogEvent.TOPIC_REPLACED: "A role ended: one of our own topics was deleted and created again under it.",
    LogEvent.TABLE_RECORD_REFUSED: "A reference, rollout or approval cannot be used; what its key said stays in force.",
    LogEvent.RECORD_LEFT_OUT: (
        "A record of our own topics cannot be read, such as a candidate in a newer `schema_version`: it was passed "
        "over, nothing is done for it, and it is not read again. Whoever wrote it must write it again."
    ),
    LogEvent.RECORDS_EXPIRED: "Retention removed records before they were read.",
    LogEvent.RECORDS_TAKEN_BEFORE: (
        "`deploy` reads again what its rollouts hold already, as a broker has lost its offsets; it moves nothing. "
        "Told at the first such record, with where it lies; the status counts all."
    ),
    LogEvent.REFERENCE_LOADED: "A reference was taken into use.",
    LogEvent.VERDICT: "A verdict was written.",
    LogEvent.INCIDENT_OPENED: "An incident was opened.",
    LogEvent.INCIDENT_CLOSED: "An incident was closed.",
    LogEvent.RETRAIN_REQUESTED: "A retrain request was written.",
    LogEvent.RETRAIN_SUPPRESSED: "A retrain request was due and withheld, with the reason.",
    LogEvent.RETRAIN_STAGE: "A request went on to its next stage.",
    LogEvent.REGISTRY_UNREACHABLE: "The registry or the snapshots' object store is away; the role waits, then retries.",
    LogEvent.DISK_UNWRITABLE: "A directory is full, read-only or another's; what needs it waits and tries again.",
    LogEvent.SNAPSHOT_NOT_TRACKED: "A snapshot could not be exported to DVC; the next one tries again.",
    LogEvent.GATE: "The gate compared a candidate with the champion.",
    LogEvent.CANDIDATE: "A candidate was registered and written.",
    LogEvent.ROLLOUT_STEP: "A rollout went to its next step.",
    LogEvent.PROMOTED: "A canary became champion.",
    LogEvent.ROLLED_BACK: "A canary lost its traffic.",
    LogEvent.ALIAS_MOVED: "The registry's alias was brought to what the log says.",
    LogEvent.TARGET_WAITS: "A serving target does not serve yet what the log says, with the reason; it is asked again.",
    LogEvent.TARGET_CHANGED: "Somebody else changed a serving target; it is left as they made it.",
    LogEvent.TARGET_WOULD: "What the target dry-run would do.",
    LogEvent.QUERY_UNANSWERED: "Prometheus does not answer a query of a rollout, or refuses it; it is asked again.",
    LogEvent.MODEL_LOADED: "The router loaded a model version.",
    LogEvent.CHILD_STARTED: "The supervisor started a child process.",
    LogEvent.CHILD_DIED: "A child process ended.",
    LogEvent.ROLE_LEFT_OUT: "The command up did not start a role, because the configuration has no use for it.",
    LogEvent.CONFIG_RELOADED: "SIGHUP: the configuration was read again; the role begins again with what changed.",
    LogEvent.CONFIG_REFUSED: "SIGHUP: the configuration cannot be taken, with the reason; nothing changes.",
    LogEvent.MODEL_REFUSED: "A model's entry in the configuration is wrong, with what and where; the others go on.",
    LogEvent.RELOAD_PASSED_ON: "SIGHUP: the command up asked these roles to read the configuration again.",
    LogEvent.NOTICE_WAITS: "A receiver of notices is away or busy; it is told again until it takes it or it expires.",
    LogEvent.NOTICE_REFUSED: "A receiver will never take this notice; it was given up, the next ones are told.",
    LogEvent.OTLP_UNREACHABLE: "The collector of OpenTelemetry did not take what was sent; the role goes on.",
    LogEvent.FATAL: "A role stopped for good, uncommitted, with the reason.",
}
