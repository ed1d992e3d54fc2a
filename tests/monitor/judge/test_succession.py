"""The life of a reference at the judge: adopted from live panes, taken over at a promotion, replaced at once."""

from dataclasses import replace

import numpy as np
import pytest

from stationkeeper.contracts.column import Column, categories, numbers
from stationkeeper.contracts.messages import Level, Verdict, VerdictKind
from stationkeeper.contracts.model_status import ModelStatus
from stationkeeper.contracts.status import check
from stationkeeper.contracts.wire import PaneDelta, pack
from stationkeeper.monitor.core.adoption.adopt import Timeline, adopt, inherit, may_take_over
from stationkeeper.monitor.core.adoption.traffic import DAY_MS
from stationkeeper.monitor.core.reference import Reference, TrafficProfile, dump, profile
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.page.model import model_page
from stationkeeper.streams.ports import Restored
from tests.monitor.judge.test_stage import ALL, REFERENCE, Bench, arm, pane, progress, run
from tests.monitor.rig import MINUTE, START, TOPICS, reference, rollout, table
from tests.stationkeeper.test_page import fleet_of


def pages(bench: Bench) -> list[Verdict]:
    return [verdict for verdict in bench.verdicts() if verdict.level is Level.PAGE]


def model(bench: Bench) -> ModelStatus:
    return bench.judge.status()["models"][0]


def columns_of(rows: int, seed: int, shift: float) -> dict[str, Column]:
    found = table(rows, seed=seed, shift=shift)
    return {
        "amount": numbers(found["amount"]),
        "age": numbers(found["age"]),
        "country": categories(found["country"]),
        "prediction": numbers(found["score"]),
    }


def counted(made: Reference, minute: int, *, version: str, shift: float = 0.0, segment: str = "") -> PaneDelta:
    """A pane of a hundred rows in the cells of a reference."""
    counts = made.layout.tally(columns_of(100, minute + 1, shift), np.zeros(100, np.int64), np.array([100]))[0]
    start = START + minute * MINUTE
    return PaneDelta(
        "fraud", version, made.digest, "prediction", segment, start, MINUTE, 100, 0, len(counts), pack(counts)
    )


def test_fourteen_days_are_the_default_and_none_is_said_with_0d():
    plain = {"name": "fraud", "predictions": "scores"}
    made = ModelSettings.model_validate(plain)
    assert (made.adoption, made.quality.learn_traffic) == (14 * DAY_MS, 14 * DAY_MS)
    none = ModelSettings.model_validate(plain | {"adoption": "0d", "quality": {"learn_traffic": "0d"}})
    assert (none.adoption, none.quality.learn_traffic) == (0, 0)
    with pytest.raises(ValueError, match="at least 2d, or 0d"):
        ModelSettings.model_validate(plain | {"quality": {"learn_traffic": "1d"}})


def test_a_reference_without_order_of_time_is_adopted_first_and_its_progress_is_shown():
    bench = Bench(adoption="14d")
    run(bench, range(30))
    run(bench, range(30, 60), shift=0.8)
    assert pages(bench) == []
    shown = model(bench)
    assert shown["reason"].startswith("adopting: 0 of 14 days; until then nothing pages but data quality")
    assert shown["adoption"]["passed_ms"] == 60 * MINUTE
    assert {subject["state"] for subject in shown["subjects"]} == {"unknown"}
    assert shown["subjects"][0]["reason"].startswith("adopting: 0 of 14 days; ")
    check(bench.judge.status())


def test_why_volume_is_not_judged_yet_is_shown_with_since_and_until():
    bench = Bench(adoption="14d")
    run(bench, range(30))
    shown = model(bench)["traffic"]
    assert shown["reason"] == "unknown: the rows of training say nothing of traffic; live panes teach the week"
    assert (shown["since"], shown["until"]) == (START, START + 14 * DAY_MS)
    check(bench.judge.status())
    page = model_page(model(bench), fleet_of(model(bench)))
    assert "Volume and silence" in page
    assert "live panes teach the week" in page
    never = Bench(adoption="14d", quality={"learn_traffic": "0d"})
    run(never, range(30))
    assert "learn_traffic: 0d lets live panes teach none" in model(never)["traffic"]["reason"]
    assert "since" not in model(never)["traffic"]


def test_in_how_many_hours_volume_is_not_judged_is_shown():
    busy = np.full(168, 6_000.0)
    busy[:40] = 30.0
    known = replace(adopt(REFERENCE, columns_of(5_000, 99, 0.0), Timeline.of_rows(5_000, 50)), source="history")
    bench = Bench()
    taught = replace(known, traffic=TrafficProfile(busy, 20.0, MINUTE))
    bench.judge.table(TOPICS.references.name, b"fraud/1", dump(taught).encode())
    run(bench, range(3))
    told = "volume is not judged in 40 of the week's 168 hours: too few rows a pane"
    assert model(bench)["traffic"] == {"reason": told}
    check(bench.judge.status())
    bench = Bench()
    late = replace(known, traffic=TrafficProfile(np.full(168, 60_000.0), 1.04, MINUTE))
    bench.judge.table(TOPICS.references.name, b"fraud/1", dump(late).encode())
    run(bench, range(3))
    assert model(bench)["traffic"]["reason"].startswith("silence pages after 2.0 hours: the past has hours unlike")
    bench = Bench()
    few = replace(known, traffic=TrafficProfile(np.full(168, 20.0), 1e6, MINUTE))
    bench.judge.table(TOPICS.references.name, b"fraud/1", dump(few).encode())
    run(bench, range(3))
    assert "silence pages after 1.5 hours: few events come" in model(bench)["traffic"]["reason"]
    check(bench.judge.status())


def test_whose_clock_tells_the_hours_is_shown():
    bench = Bench(timezone="Europe/Berlin")
    run(bench, range(3))
    assert model(bench)["timezone"] == "Europe/Berlin"
    check(bench.judge.status())
    assert "Europe/Berlin" in model_page(model(bench), fleet_of(model(bench)))
    plain = Bench()
    run(plain, range(3))
    assert "timezone" not in model(plain)


def test_a_reference_with_order_of_time_is_judged_at_once():
    ordered = adopt(REFERENCE, columns_of(5_000, 99, 0.0), Timeline.of_rows(5_000, 50))
    assert ordered.digest == REFERENCE.digest
    bench = Bench(adoption="14d")
    bench.judge.table(TOPICS.references.name, b"fraud/1", dump(ordered).encode())
    run(bench, range(40))
    assert "adoption" not in model(bench)
    run(bench, range(40, 60), shift=0.8)
    assert [verdict.kind for verdict in pages(bench)] == [VerdictKind.DATA_DRIFT]


def test_after_adoption_skew_is_said_once_and_drift_from_live_pages():
    bench = Bench(adoption="30m")
    run(bench, range(60), shift=0.8)
    assert [v.kind for v in bench.verdicts() if v.level is not Level.INFORM] == [VerdictKind.TRAIN_SERVE_SKEW]
    run(bench, range(60, 90), shift=1.8)
    assert [verdict.kind for verdict in pages(bench)] == [VerdictKind.DATA_DRIFT]
    assert len([v for v in bench.verdicts() if v.kind is VerdictKind.TRAIN_SERVE_SKEW]) == 1


def test_a_promoted_version_takes_over_what_the_champion_learned_and_is_judged_at_once():
    bench = Bench(adoption="30m")
    bench.judge.table(TOPICS.rollouts.name, b"fraud", rollout("1").encode())
    run(bench, range(40))
    assert "adoption" not in model(bench)
    again = reference("2", shift=0.1)
    bench.judge.table(TOPICS.references.name, b"fraud/2", dump(again).encode())
    bench.judge.table(TOPICS.rollouts.name, b"fraud", rollout("2", epoch=2).encode())
    for minute in range(40, 45):
        bench.feed(counted(again, minute, version="2"), arm(minute, version="2"), progress(minute + 1, minute + 1))
    # The champion's watch was there when the new version's began: nothing is learned anew.
    assert "adoption" not in model(bench)
    resumed = Bench(bench, adoption="30m")
    resumed.judge.table(TOPICS.references.name, b"fraud/2", dump(again).encode())
    resumed.judge.table(TOPICS.rollouts.name, b"fraud", rollout("2", epoch=2).encode())
    resumed.judge.assigned(ALL, Restored(bench.state))
    for offset in range(resumed.judge.start_offsets(ALL).get(bench.partition, bench.committed), bench.committed):
        resumed.replay(offset)
    for minute in range(45, 70):
        for one in (bench, resumed):
            one.feed(
                counted(again, minute, version="2", shift=0.9),
                arm(minute, version="2"),
                progress(minute + 1, minute + 1),
            )
    assert [verdict.version for verdict in pages(bench)] == ["2"]
    assert [v.id for v in pages(resumed)] == [v.id for v in pages(bench)]


def test_after_a_promotion_the_state_is_that_of_the_version_that_serves():
    bench = Bench()
    bench.judge.table(TOPICS.rollouts.name, b"fraud", rollout("1").encode())
    run(bench, range(40))
    run(bench, range(40, 60), shift=0.8)
    assert model(bench)["state"] == "drifting"
    fitting = reference("2", shift=0.8)
    bench.judge.table(TOPICS.references.name, b"fraud/2", dump(fitting).encode())
    bench.judge.table(TOPICS.rollouts.name, b"fraud", rollout("2", epoch=2).encode())

    def serve(minutes: range) -> str:
        for minute in minutes:
            now = counted(fitting, minute, version="2", shift=0.8), arm(minute, version="2")
            bench.feed(*now, progress(minute + 1, minute + 1))
        return str(model_page(model(bench), fleet_of(model(bench))))

    page = serve(range(60, 70))
    assert model(bench)["state"] == "recovering"
    # What keeps the incident open, and how far that is: it may last hours where few rows come.
    assert "until 30 steady panes with 500 rows of version 2 (now 10 with 1000)" in model(bench)["reason"]
    # The cause lies behind: there is nothing that a person could do about it.
    assert "Needs attention" not in page
    assert "Still open, of an earlier version" in page
    page = serve(range(70, 95))
    assert model(bench)["state"] == "steady"
    assert "Still open" not in page
    # A straggler of the old version opens a new incident for information: of what serves it says nothing.
    for minute in range(95, 130):
        old = pane(minute, shift=1.8), arm(minute)
        new = counted(fitting, minute, version="2", shift=0.8), arm(minute, version="2")
        bench.feed(*old, *new, progress(minute + 1, minute + 1))
    assert [i["version"] for i in model(bench)["incidents"] if "closed" not in i] == ["1"]
    assert model(bench)["state"] == "steady"


def test_a_replaced_reference_ends_the_incidents_of_the_one_before():
    bench = Bench()
    run(bench, range(40))
    run(bench, range(40, 60), shift=0.8)
    assert len(pages(bench)) == 1
    fitting = reference(shift=0.8)
    bench.judge.table(TOPICS.references.name, b"fraud/1", dump(fitting).encode())
    for minute in range(60, 70):
        bench.feed(counted(fitting, minute, version="1", shift=0.8), arm(minute), progress(minute + 1, minute + 1))
    (last,) = [v for v in bench.verdicts() if v.kind is VerdictKind.RECOVERED]
    assert last.evidence["replaced_by"] == fitting.digest
    assert last.incident == pages(bench)[0].incident
    assert [key.digest for key in bench.judge.judges["fraud"].watches] == [fitting.digest]
    assert len(pages(bench)) == 1
    # What it asked for was measured against what is gone.
    asked, withdrawn = bench.requests()
    assert (asked.withdrawn, withdrawn.id) == ("", asked.id)
    assert "the reference was replaced" in withdrawn.withdrawn


def test_a_segment_learns_its_own_traffic_and_only_warns_of_silence():
    bench = Bench(adoption="0d", segments=["country"], quality={"learn_traffic": "2d", "stale_after": "30m"})
    for minute in range(130):
        mine = [counted(REFERENCE, minute, version="1", segment="country=de")] if minute < 80 else []
        bench.feed(counted(REFERENCE, minute, version="1"), *mine, arm(minute), progress(minute + 1, minute + 1))
    said = [(v.segment, v.level, v.subject.check) for v in bench.verdicts() if v.kind is VerdictKind.DATA_QUALITY]
    assert said == [("country=de", Level.WARN, "freshness")]
    watches = bench.judge.judges["fraud"].watches
    assert all(watch.quality.learned_traffic is not None for watch in watches.values())
    assert {watch.identity.segment for watch in watches.values()} == {"", "country=de"}


def test_dependence_is_inherited_by_name_and_kind_the_larger_counts():
    rng = np.random.default_rng(0)
    slow = np.repeat(rng.normal(0, 1, 100), 50)
    before = profile({"a": slow, "b": rng.normal(0, 1, 5_000)}, ordered=True)
    cells = {"a": numbers(slow), "b": numbers(rng.normal(0, 1, 5_000))}
    before = adopt(before, cells, Timeline.of_rows(5_000, 50))
    plain = profile({"a": rng.normal(0, 1, 900), "c": rng.normal(0, 1, 900)})
    made = inherit(plain, before)
    assert may_take_over(before)
    assert not may_take_over(plain)
    np.testing.assert_array_equal(made.by_name["a"].phi, before.by_name["a"].phi)
    assert made.by_name["a"].phi.max() > 2.0
    assert len(made.by_name["c"].phi) == 0
    assert made.digest == plain.digest
