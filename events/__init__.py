"""What a record means: the one reading of events, for the tally, the trainer, `check`, `init`, backtests and the demo.

In: the values of a topic's records, and the configuration's form of that topic. Out: the accepted events of each kind
as columns, and every other record with a code of the closed list. State: the features that a reader has learned.
Invariant: a record's fate and meaning are a function of the form and the record alone, never of its neighbours, the
batch or the caller. Only `monitor.verify` reads records a second way, on purpose.

Read `settings` (what the configuration says), `mapping` (a topic's form), `reader` (what other rooms call), `decoder`
(wire formats; `conformance` tries one), `json_reader` (a batch strictly, and record by record where that fails),
`row_types` (the structures that msgspec fills), `faults` (the rules), `raw` and `assemble` (rows to columns),
`columns`, `text_values`, `timestamps`, `ids`, `score`.
"""

from stationkeeper.events.assemble import entity_hash
from stationkeeper.events.columns import (
    Assigned,
    CategoryColumn,
    Events,
    FeatureColumn,
    Flags,
    Integers,
    NumberColumn,
    Rejection,
    Scalar,
)
from stationkeeper.events.decoder import Decoder, JsonValues, load_decoder
from stationkeeper.events.ids import mix, salt_of
from stationkeeper.events.json_reader import Reading
from stationkeeper.events.mapping import (
    DEFAULT_POSITIVE,
    MAX_TEXT,
    Form,
    MappingError,
    PathKeys,
    RefusedModel,
    forms,
    own_form,
    path_text,
    with_assignment,
)
from stationkeeper.events.reader import EventReader, object_at
from stationkeeper.events.row_types import nameable, refuse
from stationkeeper.events.score import confidences, decide, missing_label_words, outcomes
from stationkeeper.events.settings import KINDS, Input, InputMapping, Kind, ValueRules
from stationkeeper.events.text_values import NULL_WORDS, number_of, numbers_of, plain_value
from stationkeeper.events.timestamps import ahead_of_broker, parse_instant

__all__ = [
    "DEFAULT_POSITIVE",
    "KINDS",
    "MAX_TEXT",
    "NULL_WORDS",
    "Assigned",
    "CategoryColumn",
    "Decoder",
    "EventReader",
    "Events",
    "FeatureColumn",
    "Flags",
    "Form",
    "Input",
    "InputMapping",
    "Integers",
    "JsonValues",
    "Kind",
    "MappingError",
    "NumberColumn",
    "PathKeys",
    "Reading",
    "RefusedModel",
    "Rejection",
    "Scalar",
    "ValueRules",
    "ahead_of_broker",
    "confidences",
    "decide",
    "entity_hash",
    "forms",
    "load_decoder",
    "missing_label_words",
    "mix",
    "nameable",
    "number_of",
    "numbers_of",
    "object_at",
    "outcomes",
    "own_form",
    "parse_instant",
    "path_text",
    "plain_value",
    "refuse",
    "salt_of",
    "with_assignment",
]
