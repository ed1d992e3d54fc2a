"""The closed lists of what a verdict may say: causes of drift, data-quality checks, and why something is unknown."""

from enum import StrEnum


class Cause(StrEnum):
    """What moved, in the words of a verdict's ``cause``."""

    NEW_CATEGORY = "new_category"
    CATEGORY_SHARE = "category_share"
    MISSING = "missing"
    SHIFT = "shift"
    SCALE = "scale"
    SPIKE = "spike"
    OUT_OF_RANGE = "out_of_range"
    SHAPE = "shape"
    ERROR_RATE = "error_rate"
    CONCEPT = "concept"
    VOLUME = "volume"
    SEVERAL = "several"
    QUALITY = "quality"


CAUSE_HELP: dict[Cause, str] = {
    Cause.NEW_CATEGORY: "Values that the reference never saw take a share of the traffic.",
    Cause.CATEGORY_SHARE: "A known category gained or lost share.",
    Cause.MISSING: "More or fewer rows without a usable value.",
    Cause.SHIFT: "The values moved up or down.",
    Cause.SCALE: "The values spread wider or narrower around the same middle.",
    Cause.SPIKE: "One value, or one narrow range, took a share of the traffic: a default or a stuck source.",
    Cause.OUT_OF_RANGE: "Values outside the range of the reference.",
    Cause.SHAPE: "The distribution changed in a way that no simpler word covers.",
    Cause.ERROR_RATE: "The model is wrong more often than on its reference.",
    Cause.CONCEPT: "The same score stands for another share of positives than on the reference.",
    Cause.VOLUME: "More or fewer events than this hour of the week brings.",
    Cause.SEVERAL: "Several subjects moved together.",
    Cause.QUALITY: "The data are broken; the check says how.",
}


class Check(StrEnum):
    """A data-quality check: the ``check`` of a verdict's subject and a label of the quality metric."""

    ABSENT = "absent"
    NULL = "null"
    WRONG_TYPE = "wrong_type"
    NOT_FINITE = "not_finite"
    UNSEEN = "unseen"
    BELOW = "below"
    ABOVE = "above"
    UNIT = "unit"
    CONSTANT = "constant"
    STUCK = "stuck"
    VANISHED = "vanished"
    SCHEMA_MISSING = "schema_missing"
    SCHEMA_UNSEEN = "schema_unseen"
    DUPLICATES = "duplicates"
    LATE = "late"
    FRESHNESS = "freshness"
    VOLUME = "volume"
    WEIGHTS = "weights"
    CARDINALITY = "cardinality"


CHECK_HELP: dict[Check, str] = {
    Check.ABSENT: "The field is not in the event more often than in the reference.",
    Check.NULL: "The field is null more often than in the reference.",
    Check.WRONG_TYPE: "The value has another JSON type than in the reference more often.",
    Check.NOT_FINITE: "The value is infinite more often than in the reference.",
    Check.UNSEEN: "Categories that the reference never saw come more often than they should.",
    Check.BELOW: "Values below everything in the reference.",
    Check.ABOVE: "Values above everything in the reference.",
    Check.UNIT: "Every quantile moved by the same factor: the unit changed (cents for euros, ms for s).",
    Check.CONSTANT: "One value in all rows of a feature that used to vary.",
    Check.STUCK: "One value repeats far longer than it ever did in the reference.",
    Check.VANISHED: "A category that made up a good share of the reference no longer comes.",
    Check.SCHEMA_MISSING: "A field of the reference is in no event.",
    Check.SCHEMA_UNSEEN: "Events carry a field that the reference does not know.",
    Check.DUPLICATES: "The share of repeated event ids is high.",
    Check.LATE: "The share of events older than the lateness bound is high.",
    Check.FRESHNESS: "No event for longer than the source is ever silent.",
    Check.VOLUME: "More or fewer events than this hour of the week brings.",
    Check.WEIGHTS: "The distribution of the sampling weight changed.",
    Check.CARDINALITY: "A category took on far more, or far fewer, distinct cells than in the reference.",
}

BLOCKS_RETRAINING: frozenset[Check] = frozenset(Check) - {
    Check.UNSEEN,
    Check.VANISHED,
    Check.BELOW,
    Check.ABOVE,
    Check.CARDINALITY,
    Check.VOLUME,
}
"""Checks that mean broken data; the others can be the world changing, which a new model may cure."""


class Unknown(StrEnum):
    """Why a subject's state is unknown: neither good nor bad."""

    NO_ROWS = "no_rows"
    FEW_ROWS = "few_rows"
    NO_REFERENCE = "no_reference"
    NO_LABELS = "no_labels"
    FEW_LABELS = "few_labels"
    STALE = "stale"
    ADOPTING = "adopting"
    REBUILDING = "rebuilding"


UNKNOWN_HELP: dict[Unknown, str] = {
    Unknown.NO_ROWS: "No event has come yet.",
    Unknown.FEW_ROWS: "Fewer rows than the smallest shift of interest needs.",
    Unknown.NO_REFERENCE: "No reference names the cells; one is built after the adoption period.",
    Unknown.NO_LABELS: "No label has matured yet.",
    Unknown.FEW_LABELS: "Fewer matured labels than a verdict on performance needs.",
    Unknown.STALE: "The source is silent; what was known is out of date.",
    Unknown.ADOPTING: "The reference has no order of time; dependence and daily movement are being learned.",
    Unknown.REBUILDING: "The label join reads its topic again after a start; until it is done no label is joined.",
}
