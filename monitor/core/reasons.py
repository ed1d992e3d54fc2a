"""The closed lists of what a verdict may say: causes of drift, data-quality checks, and why something is unknown."""

from enum import StrEnum
from typing import Self


class _Explained(StrEnum):
    """A word that the messages carry, with the sentence for people that belongs to it."""

    help: str

    def __new__(cls, value: str, sentence: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_, member.help = value, sentence
        return member


class Cause(_Explained):
    """What moved, in the words of a verdict's ``cause``."""

    NEW_CATEGORY = "new_category", "Values that the reference never saw take a share of the traffic."
    CATEGORY_SHARE = "category_share", "A known category gained or lost share."
    MISSING = "missing", "More or fewer rows without a usable value."
    SHIFT = "shift", "The values moved up or down."
    SCALE = "scale", "The values spread wider or narrower around the same middle."
    SPIKE = "spike", "One value, or one narrow range, took a share of the traffic: a default or a stuck source."
    OUT_OF_RANGE = "out_of_range", "Values outside the range of the reference."
    SHAPE = "shape", "The distribution changed in a way that no simpler word covers."
    JOINT = "joint", "Two features no longer go together as they did, whatever each does alone."
    LABEL_SHIFT = "label_shift", "Scores come as they would with more, or fewer, positives of the same kind."
    ERROR_RATE = "error_rate", "The model is wrong more often than on its reference."
    ERROR_SIZE = "error_size", "The model is further off than on its reference."
    CONCEPT = "concept", "The same score stands for another share of positives than on the reference."
    FAIRNESS = "fairness", "A segment meets other decisions than the rest of its dimension, beyond what is tolerated."
    VOLUME = "volume", "More or fewer events than this hour of the week brings."
    AGEING = "ageing", "What the model's age has cost in wrong answers has reached the price of a retraining."
    SCHEDULE = "schedule", "The calendar of `requests.every` asks for a retraining."
    MORE_ROWS = "more_rows", "So many rows came since the change that a model trained on them is forecast to be better."
    QUALITY = "quality", "The data are broken; the check says how."


CAUSE_HELP: dict[Cause, str] = {one: one.help for one in Cause}


class Check(_Explained):
    """A data-quality check: the ``check`` of a verdict's subject and a label of the quality metric."""

    ABSENT = "absent", "The field is not in the event more often than in the reference."
    NULL = "null", "The field is null more often than in the reference."
    WRONG_TYPE = "wrong_type", "The value has another JSON type than in the reference more often."
    NOT_FINITE = "not_finite", "The value is infinite more often than in the reference."
    UNSEEN = "unseen", "Categories that the reference never saw come more often than they should."
    BELOW = "below", "Values below everything in the reference."
    ABOVE = "above", "Values above everything in the reference."
    UNIT = "unit", "Every quantile moved by the same factor: the unit changed (cents for euros, ms for s)."
    OUT_OF_RANGE = (
        "out_of_range",
        "All values at once lie far outside the reference's range: a sentinel, another unit or another sensor.",
    )
    CONSTANT = "constant", "One value in all rows of a feature that used to vary."
    VANISHED = "vanished", "A category that made up a good share of the reference no longer comes."
    SCHEMA_MISSING = "schema_missing", "A field of the reference is in no event."
    SCHEMA_UNSEEN = "schema_unseen", "Events carry a field that the reference does not know."
    DUPLICATES = "duplicates", "The share of repeated event ids is high."
    LABEL_DELAY = "label_delay", "Fewer predictions have their label than usual at their age: labels are late or lost."
    LATE = "late", "The share of events older than the lateness bound is high."
    FRESHNESS = "freshness", "No event for longer than the source is ever silent."
    VOLUME = "volume", "More or fewer events than this hour of the week brings."
    WEIGHTS = "weights", "The distribution of the sampling weight changed."
    CARDINALITY = "cardinality", "A category took on far more, or far fewer, distinct cells than in the reference."


CHECK_HELP: dict[Check, str] = {one: one.help for one in Check}

BLOCKS_RETRAINING: frozenset[Check] = frozenset(Check) - {
    Check.UNSEEN,
    Check.VANISHED,
    Check.BELOW,
    Check.ABOVE,
    Check.CARDINALITY,
    Check.VOLUME,
    Check.LABEL_DELAY,
}
"""Checks that mean broken data; the others can be the world changing, which a new model may cure."""


class Unknown(_Explained):
    """Why a subject's state is unknown: neither good nor bad."""

    NO_ROWS = "no_rows", "No event has come yet that the reference can be compared with."
    CATCHING_UP = "catching_up", "What came before the start is being judged."
    FEW_ROWS = "few_rows", "Fewer than 30 rows: a chart would show only noise."
    NO_REFERENCE = "no_reference", "No reference names the cells; one is built after the adoption period."
    NO_LABELS = "no_labels", "No label has matured yet."
    FEW_LABELS = "few_labels", "Fewer matured labels than a verdict on performance needs."
    INPUT_STOPPED = "input_stopped", "input stopped: one of the topics is not read."
    SELECTIVE = "selective", "Labels come for some scores rather than others, so that the labelled are not like all."
    STALE = "stale", "The source is silent; what was known is out of date."
    ADOPTING = "adopting", "The reference has no order of time; dependence and daily movement are being learned."
    REBUILDING = (
        "rebuilding",
        "The label join reads its topic again after a start; until then no label is joined.",
    )


UNKNOWN_HELP: dict[Unknown, str] = {one: one.help for one in Unknown}
