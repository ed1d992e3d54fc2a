"""The closed lists of what can become of a record: outcomes and dead-letter codes."""

from enum import StrEnum


class Outcome(StrEnum):
    """How a record that was read ends; the five sum to what was received (invariant 1)."""

    TALLIED = "tallied"
    LATE = "late"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    # Of a model whose entry in the configuration is refused, on a topic that others read: nobody's fault but ours.
    DROPPED = "dropped"


class StopReason(StrEnum):
    """Why an input topic is not read: ``unknown: input stopped`` for the models that read it, others go on."""

    REJECTED = "rejected"
    RECREATED = "recreated"
    SHORTER = "shorter"
    GONE = "gone"


STOP_HELP: dict[StopReason, str] = {
    StopReason.REJECTED: (
        "Too many of its records are rejected. Correct the producer and run `stationkeeper topics resume TOPIC`, or "
        "correct the mapping and start the monitor again."
    ),
    StopReason.RECREATED: (
        "It was deleted and created again, so that offsets mean other records. `stationkeeper topics accept-new TOPIC` "
        "reads the new one from its beginning."
    ),
    StopReason.SHORTER: (
        "It ends before where it was read to: the broker lost records. `stationkeeper topics accept-new TOPIC` reads "
        "on from its end."
    ),
    StopReason.GONE: "The broker does not have it. It is read on when it is there again; nothing need be done here.",
}


class DeadLetterCode(StrEnum):
    """Why a record was rejected to the dead-letter topic."""

    NOT_JSON = "not_json"
    NOT_UTF8 = "not_utf8"
    NOT_AN_OBJECT = "not_an_object"
    TOO_DEEP = "too_deep"
    EMPTY_VALUE = "empty_value"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    NOT_FINITE = "not_finite"
    BAD_IDENTIFIER = "bad_identifier"
    BAD_TIME = "bad_time"
    FUTURE_TIME = "future_time"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_KIND = "unknown_kind"
    TOO_LARGE = "too_large"
    TOO_MANY_FIELDS = "too_many_fields"
    OVERSIZE = "oversize"
    OTHER_SCHEMA = "other_schema"


DEAD_LETTER_HELP: dict[DeadLetterCode, str] = {
    DeadLetterCode.NOT_JSON: "The value is not one JSON text. Send one JSON object a record.",
    DeadLetterCode.NOT_UTF8: "The value is not UTF-8. Encode JSON as UTF-8.",
    DeadLetterCode.NOT_AN_OBJECT: "The value is JSON but not an object. Send an object with the event's fields.",
    DeadLetterCode.TOO_DEEP: "The JSON nests deeper than the limit. Flatten it or map the inner fields.",
    DeadLetterCode.EMPTY_VALUE: "The record has no value. Do not send tombstones to an event topic.",
    DeadLetterCode.MISSING_FIELD: "A required field (event_id, time, model, version or the mapped path) is absent.",
    DeadLetterCode.WRONG_TYPE: "A required field has a type that the contract does not allow.",
    DeadLetterCode.NOT_FINITE: (
        "A prediction, label, weight or latency is infinite; there NaN is null, and in a feature all such values count."
    ),
    DeadLetterCode.BAD_IDENTIFIER: (
        "A request or a candidate holds a name with characters that no registry uses, such as /; events may."
    ),
    DeadLetterCode.BAD_TIME: "The time is neither RFC 3339 nor epoch in the configured unit.",
    DeadLetterCode.FUTURE_TIME: "The event time is ahead of the broker's timestamp by more than the skew limit.",
    DeadLetterCode.UNKNOWN_MODEL: "The model is not configured. Add it under models: or correct the producer.",
    DeadLetterCode.UNKNOWN_KIND: "The kind is none of prediction, feature, label, or not the kind this topic carries.",
    DeadLetterCode.TOO_LARGE: "The value is larger than the configured limit.",
    DeadLetterCode.TOO_MANY_FIELDS: "The record has more fields than the configured limit.",
    DeadLetterCode.OVERSIZE: "The broker refused the dead letter's size; only its address and SHA-256 were kept.",
    DeadLetterCode.OTHER_SCHEMA: (
        "A newer version wrote the message. Upgrade this role to it, then send the record again (dead-letters replay)."
    ),
}
