"""A relation that turns while every feature stays as it is: one incident, named after both features."""

import numpy as np

from stationkeeper.contracts.messages import Level, SubjectType
from stationkeeper.monitor.core.reference import Reference
from stationkeeper.monitor.core.watch import Watch
from tests.monitor.core.streams import SETTINGS, Columns, judge, reference_of


def rows(number: int, rho: float, seed: int, shift: float = 0.0) -> Columns:
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=(2, number))
    return {"x": x + shift, "y": rho * x + np.sqrt(1 - rho**2) * noise, "z": rng.normal(size=number)}


def reference() -> Reference:
    return reference_of(rows(4_000, 0.6, 1))


def test_a_correlation_that_flips_pages_once_and_names_both_features() -> None:
    watch = Watch(reference(), settings=SETTINGS)
    assert not judge(watch, rows(1_000, 0.6, 2))
    pages = [verdict for verdict in judge(watch, rows(1_000, -0.6, 3), start=1_000) if verdict.level is Level.PAGE]
    (page,) = pages
    assert page.subject.type is SubjectType.JOINT
    assert page.subject.name == "x & y"
    assert page.cause == "joint"
    assert page.reason is not None
    assert "x and y no longer go together as they did" in page.reason
    assert page.evidence["features"] == ["x", "y"]
    assert page.evidence["correlation_before"] > 0.4 > -0.3 > page.evidence["correlation_now"]
    assert [one.subject for one in watch.charts()][-2:] == [pair.name for pair in watch.reference.pairs]
    # Restored in the middle, the watch says the same.
    again = Watch(reference(), settings=SETTINGS)
    again.restore(watch.state())
    later = rows(500, 0.6, 4)
    assert judge(again, later, start=2_000) == judge(watch, later, start=2_000)


def test_a_feature_that_moves_takes_its_pairs_along_without_a_word_and_after_the_features() -> None:
    watch = Watch(reference(), settings=SETTINGS)
    said = judge(watch, rows(3_000, 0.6, 5, shift=1.0))
    assert {verdict.subject.name for verdict in said} == {"x"}
    assert [verdict.level for verdict in said if verdict.level is Level.PAGE] == [Level.PAGE]
    (incident,) = watch.incidents()
    assert incident.subjects[0] == "x"
    assert "x & y" in incident.subjects
    assert [bool(member.parts) for member in incident.members] == sorted(bool(m.parts) for m in incident.members)


def test_a_pair_of_a_feature_that_drifts_already_is_no_part_of_another_cause() -> None:
    """First x moves; long after, z does: the pairs of x are not taken into the incident of z."""
    watch = Watch(reference(), settings=SETTINGS)
    judge(watch, rows(3_000, 0.6, 5, shift=1.0))
    later = rows(3_000, 0.6, 6, shift=1.0)
    later["z"] = later["z"] + 1.0
    pages = [verdict for verdict in judge(watch, later, start=3_000) if verdict.level is Level.PAGE]
    assert [verdict.subject.name for verdict in pages] == ["z"]
    first, second = watch.incidents()
    assert {"x", "x & y"} <= set(first.subjects)
    assert second.subjects[0] == "z"
    assert "x & y" not in second.subjects


def test_a_warning_of_a_feature_is_not_told_of_its_pairs_too() -> None:
    watch = Watch(reference(), settings=SETTINGS)
    said = judge(watch, rows(8_000, 0.6, 8, shift=0.22))
    assert said
    assert not [verdict for verdict in said if verdict.subject.type is SubjectType.JOINT]
