"""State that an older version wrote is taken over; state of a newer one is refused with what to do."""

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stationkeeper.contracts.topics import JOINS_PARTITIONS, PANES_PARTITIONS
from stationkeeper.monitor.join.stage import Join
from stationkeeper.monitor.judge import Judge, WatchKey
from stationkeeper.monitor.state_codec import FORMAT, PLAIN, gather
from stationkeeper.monitor.status import ModelView
from stationkeeper.monitor.tally.stage import Tally
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.ports import Outgoing, Partition, Restored
from tests.monitor.rig import MINUTE, START, TOPICS, batch, fraud, predictions

# Written by the version before format 2: a small bank in the middle of a drift (reference, state by role, what held).
OLD = msgspec.msgpack.decode((Path(__file__).parent / "fixtures" / "state-v1.msgpack").read_bytes())
EXPECTED = OLD["expected"]
INPUTS = frozenset({Partition("scores", 0), Partition("outcomes", 0)})
PANES = frozenset(Partition(TOPICS.panes.name, index) for index in range(PANES_PARTITIONS))
JOINS = frozenset(Partition(TOPICS.joins.name, index) for index in range(JOINS_PARTITIONS))


def model() -> dict[str, Any]:
    return {"fraud": fraud(segments=["country"], adoption="0d", quality={"learn_traffic": "0d"})}


def restored(role: str) -> Restored:
    return Restored({bytes(key): bytes(value) for key, value in OLD["state"][role].items()})


def judge(state: Restored) -> Judge:
    made = Judge(model(), TOPICS, view=ModelView, clock="stream")
    made.table(TOPICS.references.name, b"fraud/1", OLD["reference"])
    made.assigned(PANES, state)
    made.flush(0)
    return made


def test_the_judge_goes_on_from_the_old_format_and_writes_the_new_one() -> None:
    assert {value[0] for value in OLD["state"]["judge"].values()} == {1}
    made = judge(restored("judge"))
    mine = made.judges["fraud"]
    assert (mine.next, mine.watermark, mine.watches.rows) == (EXPECTED["next"], EXPECTED["watermark"], EXPECTED["rows"])
    (watch,) = [watch for key, watch in mine.watches.items() if not key.segment]
    assert watch.rows == EXPECTED["watch_rows"]
    assert [incident.id for incident in watch.incidents()] == EXPECTED["incidents"]
    assert len(mine.pending) == EXPECTED["open"]
    assert made.start_offsets(PANES) == {}
    mine.watches.changed |= {key for key, _ in mine.watches.items()}
    made._outbox.touched.add("fraud")
    new = {o.key: o.value for o in made.flush(20_000) if o.topic == TOPICS.judge_state.name and o.key and o.value}
    assert {value[0] for value in new.values()} == {PLAIN}
    again = judge(Restored({**restored("judge").values, **new})).judges["fraud"]
    assert again.watches[WatchKey("1", watch.identity.digest, "")].rows == watch.rows
    assert len(again.pending) == EXPECTED["open"]


def test_the_tally_goes_on_from_the_old_state() -> None:
    made = Tally(model(), TOPICS, clock="stream")
    made.table(TOPICS.references.name, b"fraud/1", OLD["reference"])
    made.assigned(INPUTS, restored("tally"))
    shown = [
        {name: row[name] for name in old}
        for row, old in zip(made.status()["conservation"], EXPECTED["conservation"], strict=True)
    ]
    assert shown == EXPECTED["conservation"]
    first = made.start_offsets(INPUTS)[Partition("scores", 0)]
    repeated = predictions(12, 20, first=2_000, start=START + 50 * MINUTE, shift=0.9)
    made.absorb(batch("scores", repeated[-20:], first=first))
    made.flush(0)
    made.committed()
    row = next(row for row in made.status()["conservation"] if row["topic"] == "scores")
    assert row["duplicate"] == 20


def test_the_join_goes_on_from_the_old_state() -> None:
    made = Join(model(), TOPICS)
    made.assigned(JOINS, restored("join"))
    assert made.status()["detail"]["paired"] == EXPECTED["join"]["paired"]


@pytest.mark.parametrize("role", ["tally", "join", "judge"])
def test_a_newer_format_is_refused_and_nothing_is_written(role: str) -> None:
    newer = Restored({key: bytes((FORMAT + 1,)) + value[1:] for key, value in restored(role).values.items()})
    wanted = {"tally": INPUTS, "join": JOINS, "judge": PANES}[role]
    made = {"tally": Tally, "join": Join, "judge": partial(Judge, view=ModelView)}[role]
    stage: Any = made(model(), TOPICS)
    with pytest.raises(Fatal, match=r"has format 5, this version reads 1 to \d.*start the version that wrote it"):
        stage.assigned(wanted, newer)
    written: list[Outgoing] = stage.flush(0)
    assert not [one for one in written if one.value is not None]


def test_a_record_without_a_format_is_called_damaged() -> None:
    with pytest.raises(Fatal, match="is damaged"):
        gather({b"m/head/0": b""})
