"""Every reader of events gives one answer for one record: 55 forms of a record times every reader there is.

``event_forms.jsonl`` holds each record with the code it is rejected by or the event it is, written down by hand from
docs/events.md. A reader shows of an event what it keeps; where it keeps a field, it is the field of the table.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stationkeeper.check.sample import sample_input
from stationkeeper.config import Config
from stationkeeper.contracts.topics import Topics
from stationkeeper.demo.served import read_served
from stationkeeper.events import Form, forms
from stationkeeper.monitor.tally.stage import Tally
from stationkeeper.monitor.verify.reading import PlainReader
from stationkeeper.retrain.snapshot.events import EVENT_ID, LABEL, LABEL_TIME, NUMBER, TEXT, TIME, VERSION, EventColumns
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader
from stationkeeper.streams.ports import Batch, Partition, Restored
from stationkeeper.tables import TableRefused, read_events

Answer = dict[str, Any]
MAPPED = {
    "topic": "t",
    "map": {"event_id": "id", "time": "ts", "version": "v", "prediction": "p", "features": "f"},
    "time_unit": "s",
}
CONFIGS = {
    "own": Config.parse(
        {"clock": "stream", "models": {"m": dict.fromkeys(("predictions", "features", "labels"), "t")}}
    ),
    "mapped": Config.parse({"clock": "stream", "models": {"m": {"predictions": MAPPED}}}),
}


@dataclass(frozen=True)
class Case:
    """One record, what becomes of it, and the prediction that a label needs beside it to be seen by some readers."""

    form: str
    name: str
    records: tuple[bytes, ...]
    expected: Answer

    @property
    def config(self) -> Config:
        return CONFIGS[self.form]

    @property
    def input(self) -> Form:
        return forms(list(self.config.models.values()))["t"]

    def batch(self) -> Batch:
        n = len(self.records)
        stamps = np.full(n, 1_777_640_000_000, np.int64)
        return Batch(Partition("t", 0), np.arange(n), stamps, [None] * n, list(self.records), n)

    def reader(self) -> MemoryReader:
        log = MemoryLog()
        log.create("t")
        log.produce("t", self.records)
        return MemoryReader(log)


def cases() -> list[Case]:
    found: list[Case] = []
    for line in (Path(__file__).parent / "event_forms.jsonl").read_text().splitlines():
        one = json.loads(line)
        plain = one["record"].encode()
        # A label is seen by what joins it with its prediction: the first record of the table has the same id.
        records = (found[0].records[0], plain) if '"kind": "label"' in one["record"] else (plain,)
        expected = {"code": one["code"]} if "code" in one else one["event"]
        found.append(Case(one["form"], one["name"], records, expected))
    return found


CASES = cases()


def tally(case: Case) -> Answer:
    """What is counted, and what goes to the dead letters."""
    stage = Tally(case.config.models, Topics("test"), clock=case.config.clock)
    stage.assigned(frozenset({Partition("t", 0)}), Restored())
    stage.absorb(case.batch())
    stage.flush(0)
    stage.committed()
    letters = stage.status()["dead_letters"]
    if letters:
        return {"code": next(iter(letters))}
    reader = stage.readers.of("t")
    reader.learn({"a": True, "c": False})
    (events,) = [one for one in reader.read(case.batch().values).events if one.kind == case.expected.get("kind")]
    # A feature that a record does not carry has no value here; the table leaves it out.
    features = {name: column.plain()[-1] for name, column in events.features.items() if column.present()[-1]}
    label = events.label.plain()[-1] if events.label is not None else None
    version = events.owners[events.owner[-1]][1]
    return {"kind": events.kind, "time": int(events.time[-1]), "version": version, "features": features, "label": label}


def trainer(case: Case) -> Answer:
    """The rows that retraining keeps."""
    columns = EventColumns("m")
    frames = columns.read(case.batch(), case.input)
    if columns.unusable:
        return {"code": case.expected.get("code")}
    kind = case.expected.get("kind", "prediction")
    row = frames[kind].row(-1, named=True)
    if kind == "label":
        return {"id": row[EVENT_ID], "time": row[LABEL_TIME], "label": row[LABEL]}
    features: Answer = dict.fromkeys(columns.types.counts)
    for name, value in row.items():
        if name.startswith((NUMBER, TEXT)):
            features[name.partition(":")[2]] = value
    return {"id": row[EVENT_ID], "time": row[TIME], "version": row[VERSION], "features": features}


def sample(case: Case) -> Answer:
    """The lines that ``check`` and ``init`` show."""
    seen = sample_input(case.config, case.input, case.reader(), {Partition("t", 0): 0})
    if seen.codes:
        return {"code": next(iter(seen.codes))}
    _, _, line = seen.lines[-1].partition("  ")
    assert line.startswith(f"{case.expected['kind']} at ")
    shown = dict(word.partition("=")[::2] for word in line.split() if "=" in word)
    features = {name: None if text.startswith("[") else text for name, text in shown.items()}
    expected = case.expected["features"]
    same = features == {name: f"{v:.6g}" if isinstance(v, float) else v for name, v in expected.items()}
    return {"features": expected if same else features}


def backtest(case: Case) -> Answer:
    """The rows that a backtest of a JSONL file replays; a file is always in the contract's own form."""
    try:
        table = read_events(case.records)
    except TableRefused as error:
        return {"code": str(error).split(": ")[1].split()[0].rstrip(":")}
    assert table.times is not None
    if case.expected.get("kind") == "label":
        assert table.label_times is not None
        return {"time": int(table.label_times[0]), "label": table.columns["label"][0]}
    features = {name: values[0] for name, values in table.columns.items() if name != "prediction"}
    features = {name: None if value != value else value for name, value in features.items()}  # noqa: PLR0124 - NaN
    return {"time": int(table.times[0]), "version": table.version, "features": features}


def demo(case: Case) -> Answer:
    """The rows of the demo's summary."""
    served = read_served(case.reader(), case.config.models["m"])
    if not served.height or (case.expected.get("code") and len(case.records) == 2 and served["label"][0] is None):
        return {"code": case.expected.get("code")}
    row = served.row(0, named=True)
    if case.expected.get("kind") == "label":
        return {"id": row["event_id"]}
    return {"id": row["event_id"], "time": row["time"], "version": row["version"]}


def verify(case: Case) -> Answer:
    """The second reading that ``verify`` keeps on purpose."""
    form = case.input
    found = PlainReader(form, form.max_bytes, form.max_fields).read(case.records[-1])
    if found is None:
        return {"code": case.expected.get("code")}
    return {"kind": found.kind, "id": found.id, "time": found.time, "version": found.version}


READERS: tuple[Callable[[Case], Answer], ...] = (tally, trainer, sample, backtest, demo, verify)


# A file of events is always in the contract's own form, so that a backtest meets no mapped record.
PAIRS = [(case, read) for case in CASES for read in READERS if not (read is backtest and case.form == "mapped")]


@pytest.mark.parametrize(("case", "read"), PAIRS, ids=[f"{c.form} {c.name}-{read.__name__}" for c, read in PAIRS])
def test_every_reader_gives_the_answer_of_the_table(case: Case, read: Callable[[Case], Answer]) -> None:
    found = read(case)
    assert found == {name: case.expected.get(name) for name in found}
    assert ("code" in found) == ("code" in case.expected)
